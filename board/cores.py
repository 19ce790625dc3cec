"""`make cores`: the locked wheels on the cores of a Pi 3, a Pi 4 and a Pi 5, emulated.

    python -m board.cores                         # every lock for aarch64 on every core
    python -m board.cores aarch64-cp313 --core cortex-a53

qemu runs one program, as it is, on a core of our choice: a wheel that uses an instruction which
that core lacks ends with SIGILL, as it would on the board. Neither root nor binfmt_misc is needed.
The wheel of torch 2.10.0, which is known to do so on all but a Pi 5, shows that this test can fail.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from rich.console import Console
from rich.table import Table

from board.image import CACHE, ROOT

sys.path.insert(0, str(ROOT / "roles" / "wheelhouse" / "files"))
import wheelhouse

CORES = {"cortex-a53": "Pi 3, Zero 2", "cortex-a72": "Pi 4", "cortex-a76": "Pi 5"}
STEPS = ("torch", "safetensors", "flwr", "syft")
# Which Debian has this Python. None has 3.12, so that lock's wheels are not tried.
RELEASES = {"aarch64-cp311": "bookworm", "aarch64-cp313": "trixie"}
BAD_LOCK = "aarch64-cp313"
BAD = wheelhouse.Pin(
    "torch", "2.10.0", "5c4d217b14741e40776dd7074d9006fd28b8a97ef5654db959d8635b2fe5f29b"
)
PROOF = ROOT / "roles" / "torch" / "files" / "prove.py"
PROBE = ROOT / "board" / "core_probe.py"
FOLDER = CACHE / "cores"


class CoreError(Exception):
    """What cannot be tried, and why."""


@dataclass(frozen=True)
class Result:
    """What became of one lock on one core: the steps that passed, and what ended the last."""

    lock: str
    core: str
    passed: tuple[str, ...]
    seconds: float
    complaint: str

    @property
    def good(self) -> bool:
        """Whether every step passed."""
        return not self.complaint


@dataclass(frozen=True)
class Wheels:
    """The wheels of a lock, unpacked beside a Python that runs them."""

    lock: str

    @property
    def root(self) -> Path:
        """A Debian for arm64 as far as Python needs it; nothing of it is ever configured."""
        return FOLDER / self.lock / "root"

    @property
    def site(self) -> Path:
        """The unpacked wheels."""
        return FOLDER / self.lock / "site"

    @cached_property
    def python(self) -> Path:
        """The interpreter."""
        return self.root / "usr" / "bin" / f"python3.{self.lock[-2:]}"

    def prepare(self) -> None:
        """Unpack what is not there yet, or is of an older lock. Raises CoreError."""
        if not self.python.exists():
            unpack_system(self.lock, self.root)
        text = (wheelhouse.LOCKS / f"{self.lock}.txt").read_text()
        stamp = FOLDER / self.lock / "lock.txt"
        if not stamp.exists() or stamp.read_text() != text:
            shutil.rmtree(self.site, ignore_errors=True)
            folder = wheelhouse.CACHE / self.lock
            pins = wheelhouse.read_lock(wheelhouse.LOCKS / f"{self.lock}.txt")
            with wheelhouse.only_one(folder):
                wheelhouse.fetch(self.lock, folder, pins)
            unpack_wheels(self.lock, folder, text, self.site)
            stamp.write_text(text)

    def run(self, core: str, steps: tuple[str, ...], *before: Path, seconds: float = 900) -> Result:
        """Do the steps on a core; wheels of the folders `before` are found first."""
        # -L: where qemu looks first for each file of the system.
        command = ["qemu-aarch64-static", "-cpu", core, "-L", str(self.root), str(self.python)]
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(map(str, [*before, self.site])),
            "HOME": str(FOLDER / "home"),
            "FLWR_TELEMETRY_ENABLED": "0",
        }
        started = time.monotonic()
        limits = ["prlimit", "--core=0", "setpriv", "--pdeathsig", "KILL"]
        try:
            done = subprocess.run(
                [*limits, *command, str(PROBE), str(PROOF), *steps], env=environment,
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return Result(self.lock, core, (), seconds, f"not done within {seconds:.0f} s")
        passed = tuple(re.findall(r"^passed (\w+)", done.stdout, re.M))
        complaint = "" if passed == steps else why(done)
        return Result(self.lock, core, passed, time.monotonic() - started, complaint)


def why(done: subprocess.CompletedProcess[str]) -> str:
    """Say in one line what ended a program."""
    last = (done.stderr.strip() or "it said nothing").splitlines()[-1]
    return f"SIGILL: {last}" if done.returncode == -4 else f"exit {done.returncode}: {last}"


def unpack_system(lock: str, root: Path) -> None:
    """Unpack the packages of a release that hold its Python. Raises CoreError."""
    part = root.with_name("root.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    options = ["--variant=extract", "--architectures=arm64", "--include=python3,libstdc++6,zlib1g"]
    suite = RELEASES[lock]
    tar = part.with_suffix(".tar")
    command = ["mmdebstrap", *options, "--skip=check/qemu", suite, str(tar)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = [line for line in done.stderr.splitlines() if line.startswith("E:")] or ["?"]
        raise CoreError(f"no Python of {suite} for arm64: {last[0]}")
    # As files of this account, whoever mmdebstrap made them as.
    untar = ["tar", "--extract", "--file", str(tar), "--directory", str(part), "--no-same-owner"]
    subprocess.run([*untar, "--exclude=./dev/*"], check=True)
    tar.unlink()
    if not (part / "lib").exists():  # packages are unpacked, but none has merged /lib into /usr
        (part / "lib").symlink_to("usr/lib")
    shutil.rmtree(root, ignore_errors=True)
    part.rename(root)


def unpack_wheels(lock: str, folder: Path, requirements: str, site: Path) -> None:
    """Unpack wheels, each with its hash, for another machine than this. Raises CoreError."""
    listed = site.with_name("requirements.txt")
    listed.write_text(requirements)
    arguments = ["install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
    arguments += ["--require-hashes", "--find-links", str(folder), "--target", str(site)]
    done = wheelhouse.run_pip([*arguments, *wheelhouse.pip_target(lock), "-r", str(listed)])
    if done.returncode:
        raise CoreError(f"pip cannot unpack the wheels of {lock}:\n{wheelhouse.complaint(done)}")


def known_bad() -> Path:
    """Return a folder with the torch that traps, unpacked; fetched once. Raises CoreError."""
    folder = FOLDER / f"torch-{BAD.version}"
    site, part = folder / "site", folder / "site.part"
    if not site.exists():
        shutil.rmtree(part, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        wheelhouse.fetch(BAD_LOCK, folder, [BAD])
        unpack_wheels(BAD_LOCK, folder, f"{BAD}\n", part)
        part.rename(site)
    return site


def show(results: list[Result], missing: dict[str, str], console: Console) -> None:
    """Print what ran on which core."""
    table = Table("wheels", "core", "of a", "result", "s")
    for result in results:
        told = ", ".join(result.passed) if result.good else result.complaint
        table.add_row(result.lock, result.core, CORES[result.core], told, f"{result.seconds:.0f}")
    for lock, reason in missing.items():
        table.add_row(lock, "", "", f"not run: {reason}", "")
    console.print(table)


def main(arguments: list[str] | None = None) -> int:
    """Run and return the exit code: 0 all pass and the bad one traps, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m board.cores", description=__doc__)
    locks = f"of {', '.join(RELEASES)}; default: all"
    parser.add_argument("locks", nargs="*", metavar="LOCK", help=locks)
    parser.add_argument("--core", action="append", choices=list(CORES), help="default: all")
    asked = parser.parse_args(arguments)
    if unknown := set(asked.locks) - set(RELEASES):
        parser.error(f"no lock that can be tried: {', '.join(sorted(unknown))}; there is {locks}")
    console = Console(soft_wrap=True)
    results: list[Result] = []
    missing: dict[str, str] = {}
    for lock in asked.locks or RELEASES:
        wheels = Wheels(lock)
        console.print(f"▶ {lock}: unpacked …")
        try:
            wheels.prepare()
        except (CoreError, wheelhouse.WheelhouseError) as error:
            missing[lock] = str(error)
            continue
        for core in asked.core or CORES:
            console.print(f"▶ {lock} on {core} …")
            results.append(wheels.run(core, STEPS))
    as_expected = not missing and all(result.good for result in results)
    if not asked.locks:
        name = f"torch {BAD.version}"
        try:
            folder = known_bad()
            for core in asked.core or CORES:
                console.print(f"▶ {name} on {core} …")
                bad = Wheels(BAD_LOCK).run(core, ("torch",), folder)
                trapped = bad.complaint.startswith("SIGILL")
                as_expected &= bad.good if core == "cortex-a76" else trapped
                results.append(replace(bad, lock=name))
        except (CoreError, wheelhouse.WheelhouseError) as error:
            missing[name], as_expected = str(error), False
    show(results, missing, console)
    return 0 if as_expected else 1


if __name__ == "__main__":
    sys.exit(main())
