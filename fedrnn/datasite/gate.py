"""The gate: what every SSH login of the account `fedrnn` ends in.

A forced command bound to the sender of a key. It knows six verbs, runs nothing that it is told
to run, and reads only what the datasite has published for this sender:

    describe         the data sets: schema, labels, counts, mock sample; which node this is (JSON)
    submit JOB       a job as a tar stream on standard input
    status [JOB]     the state of a job, or of all of them (JSON)
    results [JOB]    what the owner shares of the data sets, or of a job, as a tar stream
    cancel JOB       the end of a job, whether it waits or runs
    attach JOB       a bridge to the Unix socket of this sender's worker

Standard library only, so that it starts in milliseconds; no PySyft, no third-party code.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import fcntl
import json
import os
import pwd
import shlex
import shutil
import signal
import stat
import sys
import syslog
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fedrnn.datasite.layout import CANCEL, FINAL, MAX_BYTES, Site, job_key
from fedrnn.datasite.parcel import Refused, read_job

MAX_OPEN = 20  # jobs of one sender that have not ended
MAX_WAITING = 32 << 20  # bytes of one sender that the datasite has not yet read
MAX_TURNED_AWAY = 50  # jobs of one sender in an hour that never ran: each stays in the log for ever
ROOM = 1 << 16  # bytes that the datasite needs to note an end
MAX_SECONDS = 300  # that a job may take to arrive
MAX_NOTE = 400  # characters of a refusal in the node's journal


def describe(site: Site, sender: str) -> None:
    """Print what the datasite has published about its data sets, and the node's identity."""
    published = site.published(sender) / "describe.json"
    if not published.is_file():
        raise Refused(
            f"this node has published nothing for {sender}: "
            "the dataset role has not run, or the owner does not know this researcher"
        )
    identity = site.identity.read_text().strip() if site.identity.is_file() else ""
    print(json.dumps({**json.loads(published.read_text()), "identity": identity}))


def submit(site: Site, sender: str, job: str) -> None:
    """Put a job from standard input into the mailbox: all of it, or nothing."""
    key = job_key(sender, job)
    files = read_job(_receive())
    parcel = site.mailbox.parent / f".{os.urandom(8).hex()}"
    os.umask(0o007)  # the datasite, by group, takes the parcel apart
    with _alone(site):
        if (site.mailbox / key).exists() or _state_file(site, sender, job).exists():
            raise Refused(f"job {job!r} exists already: choose another name")
        _check_quota(site, sender, sum(map(len, files.values())))
        try:
            for name, content in files.items():
                target = parcel / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
            parcel.rename(site.mailbox / key)
        finally:
            shutil.rmtree(parcel, ignore_errors=True)
    print(json.dumps({"job": job, "status": "sent"}))


def _receive() -> bytes:
    """Read a job from standard input, as long as that may last: a session holds memory."""

    def late(*_: object) -> None:
        raise Refused(f"the job has not arrived within {MAX_SECONDS} s")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(MAX_SECONDS)
    data = sys.stdin.buffer.read(MAX_BYTES + 1)
    signal.alarm(0)
    return data


@contextlib.contextmanager
def _alone(site: Site) -> Iterator[None]:
    """Hold the mailbox while a quota is looked at and used, against a sender's other sessions."""
    mailbox = os.open(site.mailbox, os.O_RDONLY)
    try:
        fcntl.flock(mailbox, fcntl.LOCK_EX)
        yield
    finally:
        os.close(mailbox)


def _check_quota(site: Site, sender: str, size: int) -> None:
    """Refuse another job of a sender who has much on this node that has not ended."""
    waiting = [p for p in site.mailbox.glob(f"{sender}:*") if p.suffix != CANCEL]
    for folder, _, files in (entry for parcel in waiting for entry in os.walk(parcel)):
        for name in files:
            with contextlib.suppress(OSError):  # the datasite may just have taken it
                size += Path(folder, name).lstat().st_size
    if size > MAX_WAITING:
        raise Refused(
            f"more than {MAX_WAITING >> 20} MiB of yours wait in the mailbox: does the datasite "
            "run? Try again later"
        )
    states = [s for s in _states(site, sender) if s.get("status") not in FINAL]
    if len(states) + len(waiting) >= MAX_OPEN:
        raise Refused(f"{MAX_OPEN} of your jobs have not ended: wait, or cancel some")
    lately = _states(site, sender, since=time.time() - 3600)
    if sum(s.get("status") in ("rejected", "refused") for s in lately) >= MAX_TURNED_AWAY:
        raise Refused(f"{MAX_TURNED_AWAY} of your jobs were turned away within an hour: wait")


def _states(site: Site, sender: str, since: float = 0) -> list[dict[str, Any]]:
    """Return the states of this sender's jobs that were written since then, an epoch's seconds."""
    states = []
    for file in sorted(_states_folder(site, sender).glob("*.json")):
        # The datasite forgets the oldest, and one that the power cut has torn hides no other.
        with contextlib.suppress(FileNotFoundError, ValueError):
            if file.stat().st_mtime >= since:
                states.append(json.loads(file.read_text()))
    return states


def status(site: Site, sender: str, job: str | None = None) -> None:
    """Print the state of one job, or of all jobs of this sender."""
    if job is None:
        print(json.dumps(_states(site, sender)))
        return
    state = _state(site, sender, job)
    state["worker"] = _is_socket(site.socket(job_key(sender, job)))
    state["memory_mb"] = _memory(site)
    print(json.dumps(state))


def _state(site: Site, sender: str, job: str) -> dict[str, Any]:
    published = _state_file(site, sender, job)
    if published.is_file():
        try:
            state: dict[str, Any] = json.loads(published.read_text())
        except ValueError:
            raise Refused(f"what this node has written of job {job!r} is damaged") from None
        return state
    if (site.mailbox / job_key(sender, job)).exists():
        return {"job": job, "status": "sent"}
    raise Refused(f"there is no job {job!r} of {sender} on this node")


def cancel(site: Site, sender: str, job: str) -> None:
    """Leave a note for the datasite, which ends the job; one that has ended stays as it is."""
    state = _state(site, sender, job)
    if state["status"] not in FINAL:
        if shutil.disk_usage(site.mailbox).free < ROOM:  # the datasite could not note the end
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.umask(0o007)
        (site.mailbox / f"{job_key(sender, job)}{CANCEL}").touch()
    print(json.dumps(state))


def _memory(site: Site) -> dict[str, float]:
    """Return the peak resident memory (VmHWM) in MB of every process of our accounts."""
    ours = {str(a.pw_uid): a.pw_name for a in pwd.getpwall() if a.pw_name.startswith("fedrnn")}
    # A job's account exists as long as the job, without a name; its socket's folder is its own.
    jobs = {str(f.lstat().st_uid) for f in site.run.iterdir() if f.is_dir()}
    ours |= dict.fromkeys(jobs - {str(os.getuid())}, "fedrnn-job")
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
    """Write what the owner shares with this sender, of the data sets or of one job: a tar."""
    box = site.published(sender) / "SyftBox"
    if job is not None:
        job_key(sender, job)
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as tar:
        wanted = f"*/app_data/job/review/{sender}/*/{job}" if job else "*/public"
        for path in sorted(p for top in box.glob(wanted) for p in top.rglob("*")):
            if path.is_file() and not path.is_symlink():
                tar.add(path, path.relative_to(box).as_posix())


def attach(site: Site, sender: str, job: str) -> None:
    """Become the bridge between this session and the worker's socket."""
    path = site.socket(job_key(sender, job))
    if not _is_socket(path):
        raise Refused(
            f"job {job!r} has no worker here: it is not approved, has not started or has ended"
        )
    # A bare interpreter for the whole run: half the memory of this one.
    bridge = Path(__file__).with_name("bridge.py")
    os.execv(sys.executable, [sys.executable, "-IS", os.fspath(bridge), os.fspath(path)])


def _is_socket(path: Path) -> bool:
    """Tell whether a socket itself lies there: a job could lay a link to another's."""
    try:
        return stat.S_ISSOCK(path.lstat().st_mode)
    except OSError:
        return False


def _states_folder(site: Site, sender: str) -> Path:
    return site.published(sender) / "jobs"


def _state_file(site: Site, sender: str, job: str) -> Path:
    job_key(sender, job)
    return _states_folder(site, sender) / f"{job}.json"


VERBS: dict[str, tuple[Callable[..., None], int, int]] = {  # the least and the most words after
    "describe": (describe, 0, 0),
    "submit": (submit, 1, 1),
    "status": (status, 0, 1),
    "results": (results, 0, 1),
    "cancel": (cancel, 1, 1),
    "attach": (attach, 1, 1),
}


def main() -> int:
    """Serve one request: the verb comes from the client, the sender from the key."""
    parser = argparse.ArgumentParser(prog="gate", description=__doc__)
    parser.add_argument("--sender", required=True, help="whose key opened this login")
    parser.add_argument("--root", help="serve the datasite below this folder")
    asked = parser.parse_args()
    command = os.environ.get("SSH_ORIGINAL_COMMAND", "")
    try:
        words = shlex.split(command)
        if not words or words[0] not in VERBS:
            raise Refused(f"this account knows {', '.join(VERBS)}; there is no shell behind it")
        serve, least, most = VERBS[words[0]]
        if not least <= len(words) - 1 <= most:
            raise Refused(f"{words[0]!r} takes {least} to {most} words")
        serve(Site.at(asked.root), asked.sender, *words[1:])
    except BrokenPipeError:
        return 0
    except OSError as error:
        full = ": its owner must make room" if error.errno == errno.ENOSPC else ", try again"
        return _refuse(asked, command, f"this node cannot do it: {error.strerror}{full}")
    except (Refused, ValueError) as refusal:
        return _refuse(asked, command, str(refusal))
    return 0


def _refuse(asked: argparse.Namespace, command: str, why: str) -> int:
    print(f"refused: {why}", file=sys.stderr)
    if asked.root is None:  # a node's owner finds it with `journalctl -t fedrnn-gate`
        note(f"refused {asked.sender}: {command!r}: {why!r}")
    return 2


def note(text: str) -> None:
    """Write one line into the node's journal, which bounds and rates what it keeps."""
    syslog.openlog("fedrnn-gate", 0, syslog.LOG_AUTHPRIV)
    syslog.syslog(syslog.LOG_WARNING, text[:MAX_NOTE])


if __name__ == "__main__":
    sys.exit(main())
