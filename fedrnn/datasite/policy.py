"""Which job may run: the fingerprint of all that it consists of, held against what is approved."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fedrnn.datasite.layout import Site


def manifest(job: Path) -> dict[str, str]:
    """Map each file that would run, `run.sh` included, to its SHA-256.

    `job` is a folder with `run.sh` and `code/`; `config.yaml` names the job and runs nothing.
    """
    files = [job / "run.sh", *(p for p in (job / "code").rglob("*") if p.is_file())]
    return {
        p.relative_to(job).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(files)
    }


def fingerprint(files: dict[str, str]) -> str:
    """Return the SHA-256 of a manifest: one name for exactly these files."""
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def is_allowed(site: Site, job: Path) -> bool:
    """Tell whether the operator's allow-list holds every file of this job."""
    return fingerprint(manifest(job)) in site.approved_jobs()


class DecisionLog:
    """Every decision and every run, one JSON object a line, only ever added to."""

    def __init__(self, site: Site) -> None:
        self.path = site.var / "decisions.jsonl"

    def add(self, event: str, key: str, fingerprint: str, **more: Any) -> None:
        """Append what happened to which job, with its fingerprint and the time."""
        entry = {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "event": event,
            "job": key,
            "sha256": fingerprint,
            **more,
        }
        with self.path.open("ab+") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(0, size - 1))
            torn = size and log.read() != b"\n"  # the power went in the middle of a line
            log.write((b"\n" if torn else b"") + json.dumps(entry).encode() + b"\n")
            log.flush()
            os.fsync(log.fileno())

    def entries(self) -> list[dict[str, Any]]:
        """Return all entries, the oldest first, without a line that a power cut has torn."""
        if not self.path.exists():
            return []
        entries = []
        for line in self.path.read_bytes().splitlines():
            with contextlib.suppress(ValueError):
                entries.append(json.loads(line))
        return [
            e for e in entries if isinstance(e, dict) and {"job", "event", "sha256"} <= e.keys()
        ]

    def approved_fingerprint(self, key: str) -> str | None:
        """Return what was approved under this name, None when nothing was."""
        found = [e["sha256"] for e in self.entries() if e["job"] == key and e["event"] == "approve"]
        return found[-1] if found else None
