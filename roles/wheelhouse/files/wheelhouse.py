#!/usr/bin/env python3
"""Fetch the wheels that a lock names, once, on the controller, and prove every one by its hash.

    wheelhouse.py fetch  --lock aarch64-cp311   # what is missing or damaged is fetched
    wheelhouse.py verify --lock aarch64-cp311   # no network; exit 1 if anything is wrong

A lock is a requirements file with one line per package, ``name==version --hash=sha256:HEX``:
one hash, so one file. Its name says for whom: ``MACHINE-cpVERSION``. The last line printed is
one JSON object, ``{"wheels": n, "fetched": [...], "refused": [...]}``, for Ansible.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

LOCKS = Path(__file__).resolve().parent / "locks"
CACHE = Path(__file__).resolve().parents[3] / ".cache" / "wheelhouse"
TORCH_CPU = "https://download.pytorch.org/whl/cpu"
LINE = re.compile(
    r"^(?P<name>[a-z0-9-]+)==(?P<version>\S+) --hash=sha256:(?P<sha256>[0-9a-f]{64})$"
)
NAME = re.compile(r"^(?P<machine>x86_64|aarch64)-cp(?P<major>3)(?P<minor>\d+)$")


class WheelhouseError(Exception):
    """What was found and what to do about it, in one sentence each."""


@dataclass(frozen=True)
class Pin:
    """One line of a lock."""

    name: str
    version: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.name}=={self.version} --hash=sha256:{self.sha256}"

    @property
    def local(self) -> bool:
        """Whether this is a build that the default index does not have, as torch's ``+cpu``."""
        return "+" in self.version


def read_lock(path: Path) -> list[Pin]:
    """Read a lock; comments and blank lines are skipped.

    Raises:
        WheelhouseError: there is no such lock, or a line of it is not one package with one hash.
    """
    if not path.is_file():
        have = ", ".join(sorted(p.stem for p in path.parent.glob("*-cp*.txt"))) or "none"
        raise WheelhouseError(f"There is no lock {path}. Locks here: {have}.")
    pins = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        match = LINE.match(line)
        if not match:
            raise WheelhouseError(
                f"{path}:{number}: not 'name==version --hash=sha256:…': {line!r}. "
                "Make the locks again with `make locks`."
            )
        pins.append(Pin(**match.groupdict()))
    return pins


def glibc(minor: str) -> int:
    """Give the x of the glibc 2.x that the oldest system with Python 3.minor has.

    That is Debian 11, where role python builds 3.11, and Debian 12 for all others.
    """
    return 31 if minor == "11" else 36


def pip_target(lock: str) -> list[str]:
    """Give the options that make pip choose as it would on a node of this lock.

    Tags as in PEP 425 and PEP 600.
    """
    match = NAME.match(lock)
    if not match:
        raise WheelhouseError(f"{lock!r} is no lock's name; they look like aarch64-cp311.")
    machine, minor = match["machine"], match["minor"]
    # Requires-Python would be compared with this Python; the lock has answered that question.
    options = ["--only-binary", ":all:", "--ignore-requires-python"]
    options += ["--implementation", "cp", "--python-version", f"3.{minor}"]
    for abi in (f"cp3{minor}", "abi3", "none"):
        options += ["--abi", abi]
    # pip takes the tags literally, so each glibc that a wheel may have been built for is named.
    for oldest in range(glibc(minor), 4, -1):
        options += ["--platform", f"manylinux_2_{oldest}_{machine}"]
    for alias in ("manylinux2014", "linux"):
        options += ["--platform", f"{alias}_{machine}"]
    return options


def unheard(line: str) -> None:
    """Nobody listens to pip's lines."""


def run_pip(
    arguments: list[str], hear: Callable[[str], None] = unheard
) -> subprocess.CompletedProcess[str]:
    """Run this Python's pip. The user's index and find-links count, his constraints do not."""
    env = {k: v for k, v in os.environ.items() if k not in {"PIP_CONSTRAINT", "PIP_REQUIREMENT"}}
    env |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    command = [sys.executable, "-m", "pip", *arguments]
    said = []
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, env=env, text=True, stdout=-1, stderr=errors) as pip,
    ):
        for line in pip.stdout or ():
            said.append(line)
            hear(line)
        code = pip.wait()
        errors.seek(0)
        return subprocess.CompletedProcess(command, code, "".join(said), errors.read())


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """Give pip's errors without its warnings, which can be one for every package."""
    return "\n".join(x for x in done.stderr.splitlines() if not x.startswith("WARNING:"))


def sha256(path: Path) -> str:
    """Hash a file of any size without loading it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def counter(lock: str, there: int, wheels: int) -> Callable[[str], None]:
    """Return what hears pip and writes how many wheels are there, where epilogue.py reads it."""
    folder = os.environ.get("FEDRNN_PROGRESS")

    def hear(line: str) -> None:
        nonlocal there
        if folder and line.startswith(("Collecting ", "Processing ")):  # it begins with one more
            Path(folder, lock).write_text(f"{there} of {wheels} wheels of {lock}")
            there = min(there + 1, wheels - 1)

    return hear


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold the folder, so that two runs at once do not fetch into each other."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def survey(pins: list[Pin], folder: Path) -> tuple[list[Pin], list[Path]]:
    """Compare a folder with a lock by hash: what is missing, and which files must not be there."""
    wanted = {pin.sha256: pin for pin in pins}
    refused = []
    for path in sorted(folder.glob("*.whl")):
        if wanted.pop(sha256(path), None) is None:
            refused.append(path)
    return list(wanted.values()), refused


def download(lock: str, pins: list[Pin], folder: Path, hear: Callable[[str], None]) -> None:
    """Fetch pins into the folder; a file appears there only whole and with the right hash.

    torch's CPU build is a command of its own: another index in the command for all the others
    would be asked for each of them. pip's own settings come first, for a machine whose find-links
    have the wheel and which cannot reach PyTorch's index.
    """
    target = ["--no-deps", "--require-hashes", *pip_target(lock)]
    for group, indexes in (
        ([pin for pin in pins if not pin.local], [[]]),
        ([pin for pin in pins if pin.local], [[], ["--index-url", TORCH_CPU]]),
    ):
        if not group:
            continue
        with tempfile.TemporaryDirectory(dir=folder, prefix=".part-") as part:
            listed = Path(part) / "wanted.txt"
            listed.write_text("".join(f"{pin}\n" for pin in group))
            for index in indexes:
                arguments = ["download", *index, *target, "-d", part, "-r", str(listed)]
                done = run_pip([*arguments, "--progress-bar=off"], hear)
                if done.returncode == 0:
                    break
            else:
                names = ", ".join(pin.name for pin in group[:5])
                raise WheelhouseError(
                    f"pip could not fetch {len(group)} wheels of lock {lock} ({names} …):\n"
                    f"{complaint(done)}\n"
                    "Check the controller's network and pip's settings (`pip config list`), "
                    "then run the same command again: what was fetched is kept."
                )
            for wheel in Path(part).glob("*.whl"):
                wheel.replace(folder / wheel.name)


def fetch(lock: str, folder: Path, pins: list[Pin]) -> dict[str, object]:
    """Make the folder hold exactly the lock's wheels."""
    missing, refused = survey(pins, folder)
    for path in refused:
        print(f"Refused {path.name}: its hash is not in lock {lock}; deleted.", file=sys.stderr)
        path.unlink()
    if missing:
        download(lock, missing, folder, counter(lock, len(pins) - len(missing), len(pins)))
        still, strange = survey(pins, folder)
        if still or strange:
            raise WheelhouseError(f"After fetching, {still or strange} is still wrong in {folder}.")
    return {
        "wheels": len(pins),
        "fetched": [pin.name for pin in missing],
        "refused": [path.name for path in refused],
    }


def verify(lock: str, folder: Path, pins: list[Pin]) -> dict[str, object]:
    """Prove that the folder holds exactly the lock's wheels; change nothing."""
    missing, refused = survey(pins, folder)
    if missing or refused:
        names = [pin.name for pin in missing] + [path.name for path in refused]
        raise WheelhouseError(
            f"{folder} does not match lock {lock}: {', '.join(names)}. "
            f"`wheelhouse.py fetch --lock {lock}` puts it right."
        )
    return {"wheels": len(pins), "fetched": [], "refused": []}


def main(argv: list[str] | None = None) -> int:
    """Run the command line; errors go to stderr, exit status 1."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["fetch", "verify"])
    parser.add_argument("--lock", required=True, help="as x86_64-cp311")
    parser.add_argument("--into", type=Path, help="default: .cache/wheelhouse/LOCK of this clone")
    args = parser.parse_args(argv)
    folder = args.into or CACHE / args.lock
    try:
        pins = read_lock(LOCKS / f"{args.lock}.txt")
        with only_one(folder):
            result = {"fetch": fetch, "verify": verify}[args.command](args.lock, folder, pins)
    except WheelhouseError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
