"""The gate: what every SSH login of the account `fedrnn` ends in.

A forced command bound to the sender of a key. It knows five verbs, runs nothing that it is told
to run, and reads only what the datasite has published for this sender:

    describe         the data sets: schema, labels, counts, mock sample (JSON)
    submit JOB       a job as a tar stream on standard input
    status [JOB]     the state of a job, or of all of them (JSON)
    results [JOB]    what the owner shares with this sender, as a tar stream
    attach JOB       a bridge to the Unix socket of this sender's worker

Standard library only, so that it starts in milliseconds; no PySyft, no third-party code.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import pwd
import secrets
import shlex
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from fedrnn.datasite.layout import Site, job_key

MAX_BYTES = 8 << 20  # a job is source code
MAX_FILES = 500


class Refused(Exception):
    """What the sender asked for is not granted; the text says why and what to do."""


def describe(site: Site, sender: str) -> None:
    """Print what the datasite has published about its data sets."""
    published = site.published(sender) / "describe.json"
    if not published.is_file():
        raise Refused(
            f"this node has published nothing for {sender}: "
            "the dataset role has not run, or the owner does not know this researcher"
        )
    print(published.read_text())


def submit(site: Site, sender: str, job: str) -> None:
    """Put a job from standard input into the mailbox: all of it, or nothing."""
    key = job_key(sender, job)
    if (site.mailbox / key).exists() or _state_file(site, sender, job).exists():
        raise Refused(f"job {job!r} exists already: choose another name")
    files = _read_job(sys.stdin.buffer.read(MAX_BYTES + 1))
    parcel = site.mailbox.parent / f".{secrets.token_hex(8)}"
    os.umask(0o007)  # the datasite, by group, takes the parcel apart
    for name, content in files.items():
        target = parcel / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    (parcel / "code").mkdir(exist_ok=True)
    try:
        parcel.rename(site.mailbox / key)
    except OSError:
        raise Refused(f"job {job!r} exists already: choose another name") from None
    print(json.dumps({"job": job, "status": "sent"}))


def _read_job(data: bytes) -> dict[str, bytes]:
    """Return the files of a tar stream by path.

    Raises Refused for anything but a few plain text files named `run.sh`, `config.yaml` or
    `code/...`: no links, no devices, no way up.
    """
    if len(data) > MAX_BYTES:
        raise Refused(f"the job is larger than {MAX_BYTES >> 20} MiB: send code, not data")
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            for member in tar:
                if member.isdir():
                    continue
                path = PurePosixPath(member.name)
                allowed = member.name in ("run.sh", "config.yaml") or path.parts[0] == "code"
                clean = path.as_posix() == member.name and ".." not in path.parts
                if not (member.isfile() and allowed and clean) or member.name in files:
                    raise Refused(f"{member.name!r} has no place in a job")
                if len(files) >= MAX_FILES or member.size > MAX_BYTES:
                    raise Refused(f"a job has at most {MAX_FILES} files and {MAX_BYTES} bytes")
                stream = tar.extractfile(member)
                files[member.name] = stream.read() if stream else b""
                files[member.name].decode()
    except (tarfile.TarError, UnicodeDecodeError, IndexError) as error:
        raise Refused(f"the job is no tar stream of text files: {error}") from None
    if not {"run.sh", "config.yaml"} <= files.keys():
        raise Refused("a job needs run.sh, config.yaml and code/")
    return files


def status(site: Site, sender: str, job: str | None = None) -> None:
    """Print the state of one job, or of all jobs of this sender."""
    if job is None:
        folder = site.published(sender) / "jobs"
        states = [json.loads(f.read_text()) for f in sorted(folder.glob("*.json"))]
        print(json.dumps(states))
        return
    key = job_key(sender, job)
    published = _state_file(site, sender, job)
    if published.is_file():
        state = json.loads(published.read_text())
    elif (site.mailbox / key).exists():
        state = {"job": job, "status": "sent"}
    else:
        raise Refused(f"there is no job {job!r} of {sender} on this node")
    state["worker"] = site.socket(key).is_socket()
    state["memory_mb"] = _memory()
    print(json.dumps(state))


def _memory() -> dict[str, float]:
    """Return the peak resident memory (VmHWM) in MB of every process of our accounts."""
    ours = {str(a.pw_uid): a.pw_name for a in pwd.getpwall() if a.pw_name.startswith("fedrnn")}
    peaks: dict[str, float] = {}
    for file in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":", 1) for line in file.read_text().splitlines())
            account = ours.get(fields["Uid"].split()[0])
            if account and file.parent.name != str(os.getpid()):
                name = f"{account} {fields['Name'].strip()} {file.parent.name}"
                peaks[name] = int(fields["VmHWM"].split()[0]) / 1000
        except (OSError, KeyError, ValueError):
            continue  # it has ended, or is the kernel's
    return peaks


def results(site: Site, sender: str, job: str | None = None) -> None:
    """Write what the owner shares with this sender: a tar of PySyft's folder."""
    box = site.published(sender) / "SyftBox"
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as tar:
        if not box.is_dir():
            return
        for path in sorted(box.rglob("*")):
            wanted = job is None or f"/{job}/" in path.as_posix()
            if wanted and path.is_file() and not path.is_symlink():
                tar.add(path, path.relative_to(box).as_posix())


def attach(site: Site, sender: str, job: str) -> None:
    """Become the bridge between this session and the worker's socket."""
    path = site.socket(job_key(sender, job))
    if not path.is_socket():
        raise Refused(
            f"job {job!r} has no worker here: it is not approved, has not started or has ended"
        )
    # A bare interpreter for the whole run: half the memory of this one.
    bridge = Path(__file__).with_name("bridge.py")
    os.execv(sys.executable, [sys.executable, "-IS", os.fspath(bridge), os.fspath(path)])


def _state_file(site: Site, sender: str, job: str) -> Path:
    job_key(sender, job)
    return site.published(sender) / "jobs" / f"{job}.json"


VERBS: dict[str, tuple[Callable[..., None], int, int]] = {  # the least and the most words after
    "describe": (describe, 0, 0),
    "submit": (submit, 1, 1),
    "status": (status, 0, 1),
    "results": (results, 0, 1),
    "attach": (attach, 1, 1),
}


def main() -> int:
    """Serve one request: the verb comes from the client, the sender from the key."""
    parser = argparse.ArgumentParser(prog="gate", description=__doc__)
    parser.add_argument("--sender", required=True, help="whose key opened this login")
    parser.add_argument("--root", help="serve the datasite below this folder")
    asked = parser.parse_args()
    try:
        words = shlex.split(os.environ.get("SSH_ORIGINAL_COMMAND", ""))
        if not words or words[0] not in VERBS:
            raise Refused(f"this account knows {', '.join(VERBS)}; there is no shell behind it")
        serve, least, most = VERBS[words[0]]
        if not least <= len(words) - 1 <= most:
            raise Refused(f"{words[0]!r} takes {least} to {most} words")
        serve(Site.at(asked.root), asked.sender, *words[1:])
    except (Refused, ValueError) as refusal:
        print(f"refused: {refusal}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
