"""Where things lie on a node, and what names may look like.

Standard library only: the gate imports it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

DATASET = "names"  # the one data set that a node offers
DESCRIPTION = f".{DATASET}.json"  # in the SyftBox: what may be said of it, and what it came from
# Longer, and the job of a run, with its name, would be longer than MAX_KEY.
SENDER = re.compile(r"(?=.{1,40}\Z)[a-z0-9][a-z0-9.-]{0,31}@[a-z0-9][a-z0-9.-]{0,31}\Z")
JOB = re.compile(r"[a-z0-9][a-z0-9-]{0,39}\Z")
MAX_KEY = 76  # /run/fedrnn/KEY/worker.sock is at most 100 bytes: a Unix socket's path ends at 107
MAX_LABELS = 500  # a confusion matrix has the square of it
MAX_BYTES = 8 << 20  # of a job, which is source code
FINAL = ("done", "failed", "rejected", "refused")  # states that no job leaves
DRAINED = "an upgrade keeps this node from starting jobs"  # why one that is approved waits
CANCEL = ".cancel"  # what the name of a sender's note in the mailbox ends in, after the job's key


def job_key(sender: str, job: str) -> str:
    """Name a job of a sender, as systemd instances, sockets and folders are named.

    Raises ValueError for a name that could mean another path or another unit.
    """
    if not SENDER.match(sender):
        raise ValueError(f"{sender!r} is no sender: an address in lower case is expected")
    if not JOB.match(job):
        raise ValueError(f"{job!r} is no job name: lower case, digits and '-', at most 40")
    key = f"{sender}:{job}"
    if len(key) > MAX_KEY:
        raise ValueError(
            f"{key!r} is longer than {MAX_KEY}, too long for a socket: choose a shorter job name"
        )
    return key


def split_key(key: str) -> tuple[str, str]:
    """Undo `job_key`, with the same checks."""
    sender, _, job = key.partition(":")
    job_key(sender, job)
    return sender, job


class Site(NamedTuple):
    """The folders of one datasite: of the system, or below one folder for `--local`."""

    etc: Path = Path("/etc/fedrnn")
    var: Path = Path("/var/lib/fedrnn")
    run: Path = Path("/run/fedrnn")
    identity: Path = Path("/opt/fedrnn/.identity")  # which node this is: role identity

    @classmethod
    def at(cls, root: str | Path | None) -> Site:
        """Return the system's site, or the site below `root`."""
        if root is None:
            return cls()
        base = Path(root)
        return cls(base / "etc", base / "var", base / "run", base / "identity")

    @property
    def syftbox(self) -> Path:
        """PySyft's folder: state of the datasite, the data sets; the owner's alone."""
        return self.var / "SyftBox"

    @property
    def mailbox(self) -> Path:
        """What the gate has received and the datasite has not yet read."""
        return self.var / "mailbox" / "new"

    @property
    def archive(self) -> Path:
        """A second SyftBox with the jobs that have ended; the owner's alone."""
        return self.var / "archive"

    @property
    def due(self) -> Path:
        """One file per job that has ended and waits for the datasite to record it."""
        return self.var / "due"

    @property
    def jobs(self) -> Path:
        """Approved code, as the job's account sees it."""
        return self.var / "jobs"

    @property
    def drained(self) -> Path:
        """As long as it is there, no job is started: it is `playbooks/upgrade.yml`'s."""
        return self.etc / "drained"

    def published(self, sender: str) -> Path:
        """Return the folder with what this sender may read."""
        return self.var / "published" / sender

    def socket(self, key: str) -> Path:
        """Return the Unix socket of the worker of this job."""
        return self.run / key / "worker.sock"

    def config(self) -> dict[str, Any]:
        """Read `datasite.json`: `owner`, `researchers`, `launcher`, `data_seed`, `idle_seconds`."""
        config: dict[str, Any] = json.loads((self.etc / "datasite.json").read_text())
        return config


def dataset_folder(site: Site, owner: str) -> Path:
    """Return where PySyft keeps the private part of the data set."""
    return site.syftbox / owner / "private" / "syft_datasets" / DATASET
