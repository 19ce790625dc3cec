"""`--local N`: the datasites of N nodes as folders and processes of this account."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedrnn.datasite.dataset import create
from fedrnn.datasite.layout import Site

MAX_FOLDER = 24  # bytes that a socket's path leaves for it


@contextmanager
def local_site(
    owner: str, researcher: str, data: Path, approved: dict[str, Any], data_seed: int = 0
) -> Iterator[Path]:
    """Make a datasite with a folder of `<Label>.txt` as its data; remove it afterwards.

    Its root lies in the system's temporary folder, for the path of a Unix socket is short; where
    that folder's own path is long, as on macOS, in /tmp.
    """
    place = tempfile.gettempdir()
    short = place if len(place) <= MAX_FOLDER else "/tmp"  # noqa: S108 - mkdtemp is safe there
    root = Path(tempfile.mkdtemp(prefix="fedrnn-", dir=short))
    try:
        site = Site.at(root)
        for folder in (site.etc, site.syftbox, site.mailbox, site.due, site.jobs, site.run):
            folder.mkdir(parents=True)
        config = {
            "owner": owner,
            "researchers": [researcher],
            "launcher": "process",
            "data_seed": data_seed,
            "idle_seconds": 900,
        }
        (site.etc / "datasite.json").write_text(json.dumps(config))
        (site.etc / "approved_jobs.json").write_text(json.dumps(approved))
        (site.etc / "approved_jobs.json").chmod(0o600)  # whatever the umask: it decides what runs
        create(site, data)
        yield root
    finally:
        _wait_for_jobs(root)
        shutil.rmtree(root, ignore_errors=True)


def _wait_for_jobs(root: Path) -> None:
    """Let the jobs that were told to end do so, and end what does not."""
    for pid_file in Site.at(root).jobs.glob("*/pid"):
        pid = int(pid_file.read_text())
        subprocess.run(["timeout", "10", "tail", "--pid", str(pid), "-f", os.devnull], check=False)
        try:
            os.killpg(pid, 9)
        except ProcessLookupError:
            continue
