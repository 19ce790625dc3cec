"""Which job may run: the fingerprint of all that it consists of, held against what is approved."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from fedrnn.datasite.layout import Site

FINGERPRINT = re.compile(r"[0-9a-f]{64}\Z")
MAX_REASON = 500  # characters: what people type is short, what an exception says may not be
BLOCK = 1 << 16
NO_FILE = "a link or a device"  # in the place of a hash: nothing approved ever has it


class PolicyError(ValueError):
    """What decides cannot be trusted; the text names the file and the remedy."""


def manifest(job: Path) -> dict[str, str]:
    """Map each file of a job, `run.sh` included, to its SHA-256, and what is none to `NO_FILE`.

    `config.yaml` names the job and is not part of what runs. Raises OSError.
    """
    found = {}
    for path in sorted(job.rglob("*")):
        mode, name = path.lstat().st_mode, path.relative_to(job).as_posix()
        if not stat.S_ISDIR(mode) and name != "config.yaml":
            plain = stat.S_ISREG(mode)
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest() if plain else NO_FILE
    return found


def fingerprint(files: dict[str, str]) -> str:
    """Return the SHA-256 of a manifest: one name for exactly these files."""
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def allow_list(site: Site) -> dict[str, Any]:
    """Read the operator's allow-list: fingerprint of a job to its name and files.

    Raises PolicyError when it is missing or malformed, or when others than root (in `--local`:
    than this account) could have written it.
    """
    path = site.etc / "approved_jobs.json"
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            if found.st_mode & 0o022 or found.st_uid not in (0, os.getuid()):
                raise PolicyError(_distrust(path, "others than its operator can write it"))
            approved = json.load(file)
    except OSError as error:
        raise PolicyError(_distrust(path, f"it cannot be read ({error.strerror})")) from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, PolicyError):
            raise
        raise PolicyError(_distrust(path, f"it is no JSON ({error})")) from None
    if not isinstance(approved, dict) or not all(map(FINGERPRINT.match, approved)):
        raise PolicyError(_distrust(path, "it is no table of fingerprints"))
    return approved


def _distrust(path: Path, why: str) -> str:
    return (
        f"the allow-list {path} counts as empty: {why}. Every job waits for its owner until the "
        "operator has run: ansible-playbook -i INVENTORY site.yml --tags pysyft"
    )


class DecisionLog:
    """Every decision and every run, one JSON object a line, only ever added to.

    Each line holds the SHA-256 of the line before it (`after`): a line that was changed, taken
    out or put in between shows.
    """

    def __init__(self, site: Site) -> None:
        self.path = site.var / "decisions.jsonl"

    def add(self, event: str, key: str, fingerprint: str, **more: Any) -> None:
        """Append what happened to which job, with its fingerprint and the time.

        Raises OSError.
        """
        entry = {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "event": event,
            "job": key,
            "sha256": fingerprint,
            **{k: v[:MAX_REASON] if isinstance(v, str) else v for k, v in more.items()},
        }
        with open(self.path, "ab+", opener=_private) as log:
            fcntl.flock(log, fcntl.LOCK_EX)
            last = _last_line(log)
            torn = last and not last.endswith(b"\n")  # the power went in the middle of a line
            entry["after"] = _digest(last)
            log.write((b"\n" if torn else b"") + json.dumps(entry).encode() + b"\n")
            log.flush()
            os.fsync(log.fileno())

    def entries(self) -> list[dict[str, Any]]:
        """Return all entries, the oldest first, without a line that a power cut has torn."""
        return [entry for _, entry in self._lines() if entry]

    def broken(self) -> int:
        """Return the number of the first line that does not follow the one before it, else 0."""
        before = b""
        for number, (line, entry) in enumerate(self._lines(), start=1):
            if entry and entry.get("after") != _digest(before):
                return number
            before = line
        return 0

    def last(self, key: str) -> dict[str, Any] | None:
        """Return the newest entry of a job."""
        return next((e for e in reversed(self.entries()) if e["job"] == key), None)

    def approved_fingerprint(self, key: str) -> str | None:
        """Return what was approved under this name, None when nothing was."""
        found = [e["sha256"] for e in self.entries() if e["job"] == key and e["event"] == "approve"]
        return found[-1] if found else None

    def received_fingerprint(self, key: str) -> str | None:
        """Return what arrived under this name, None when nothing did."""
        found = [e["sha256"] for e in self.entries() if e["job"] == key and e["event"] == "receive"]
        return found[-1] if found else None

    def revoked(self) -> set[str]:
        """Return the fingerprints that the owner has revoked and not approved by hand since."""
        revoked: set[str] = set()
        for entry in self.entries():
            if entry["event"] == "revoke":
                revoked.add(entry["sha256"])
            elif entry["event"] == "approve" and entry.get("method") == "manual":
                revoked.discard(entry["sha256"])
        return revoked

    def _lines(self) -> Iterator[tuple[bytes, dict[str, Any] | None]]:
        """Yield every line, without its end, and what it says; None for what is no entry."""
        if not self.path.exists():
            return
        for line in self.path.read_bytes().split(b"\n"):
            entry = None
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
            known = isinstance(entry, dict) and {"job", "event", "sha256"} <= entry.keys()
            if line:
                yield line, entry if known else None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _digest(line: bytes) -> str:
    return hashlib.sha256(line.rstrip(b"\n")).hexdigest()


def _last_line(log: BinaryIO) -> bytes:
    """Return the last line that is not empty, with its end if it has one."""
    end = log.seek(0, os.SEEK_END)
    tail = b""
    while end and b"\n" not in tail.rstrip(b"\n"):
        start = max(0, end - BLOCK)
        log.seek(start)
        tail = log.read(end - start) + tail
        end = start
    body = tail.rstrip(b"\n")
    return tail[body.rfind(b"\n") + 1 :] if body else b""
