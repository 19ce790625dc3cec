"""Jobs for a datasite of this account, as the gate would lay them into the mailbox."""

import json
import time
from pathlib import Path

from fedrnn.datasite.datasite import Datasite
from fedrnn.datasite.layout import Site

SENDER = "controller@lab.local"
OWNER = "node1@lab.local"


def parcel(site: Site, name: str, main: str = "print(1)\n", run: str = "cd code; python main.py\n"):
    folder = site.mailbox / f"{SENDER}:{name}"
    (folder / "code").mkdir(parents=True)
    (folder / "run.sh").write_text(run)
    (folder / "config.yaml").write_text(
        "canonical_name: JobSubmissionMetadata\nversion: '1'\n"
        f"name: {name}\ntype: python\nsubmitted_by: {SENDER}\n"
        f"datasite_email: {OWNER}\nsubmitted_at: '2026-11-24T00:00:00+00:00'\n"
        "entrypoint: main.py\nfiles: [main.py]\n"
    )
    (folder / "code" / "main.py").write_text(main)
    return folder


def approve(datasite: Datasite, name: str) -> None:
    with datasite.alone():
        datasite.approve(datasite.job(name), "looks right")
        datasite.start_next()


def start(site: Site, main: str) -> Datasite:
    """Lay `job-1` into the mailbox, let the datasite take it in, and approve it."""
    parcel(site, "job-1", main)
    datasite = Datasite(site)
    datasite.step()
    approve(datasite, "job-1")
    return datasite


def status(site: Site, name: str) -> str:
    return json.loads((site.published(SENDER) / "jobs" / f"{name}.json").read_text())["status"]


def reason(site: Site, name: str) -> str:
    return json.loads((site.published(SENDER) / "jobs" / f"{name}.json").read_text())["reason"]


def kept(site: Site, name: str) -> Path:
    """What the owner keeps of a job that has ended: outputs and what it printed."""
    until = time.monotonic() + 30  # its end is published first, then it is moved to the archive
    while not (found := list(site.archive.glob(f"*/app_data/job/review/{SENDER}/*/{name}"))):
        assert time.monotonic() < until, f"{name} has not come into the archive"
        time.sleep(0.05)
    return found[0]


def wait_for_end(site: Site, name: str) -> None:
    until = time.monotonic() + 30
    while status(site, name) in ("approved", "pending", "running") and time.monotonic() < until:
        time.sleep(0.1)
