"""`fedrnn-owner`: a data owner's word over the jobs on this node.

list                   every job: who sent it, when, in which state, its fingerprint
show JOB               every file of a job
approve JOB            let exactly these files run, and start them
deny JOB --reason ...  refuse; the sender reads the reason
log                    every decision and every run
"""

from __future__ import annotations

import argparse
import os
import sys

from fedrnn.datasite.datasite import Datasite
from fedrnn.datasite.layout import Site
from fedrnn.datasite.policy import fingerprint, manifest


def printable(text: str) -> str:
    """Return submitted text with every character escaped that a terminal would not just show.

    Tabs stay; what moves the cursor, hides text or turns its direction does not.
    """
    return "".join(
        c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode() for c in text
    )


def show_list(datasite: Datasite) -> None:
    """Print a line per job."""
    for job in datasite.jobs():
        digest = fingerprint(manifest(job.job_submission_path))
        line = f"{job.status:10} {job.name:40} {job.submitted_by:28} {job.submitted_at} {digest}"
        print(printable(line))


def show_job(datasite: Datasite, name: str) -> None:
    """Print every file that would run, with its hash; its lines are set off from the headings."""
    job = datasite.job(name)
    for path, digest in manifest(job.job_submission_path).items():
        print(printable(f"=== {path}  sha256 {digest}"))
        content = (job.job_submission_path / path).read_bytes()
        for line in content.decode(errors="backslashreplace").split("\n"):
            print("|", printable(line))


def show_log(datasite: Datasite) -> None:
    """Print what was decided and run, the oldest first."""
    for entry in datasite.log.entries():
        print(printable("  ".join(f"{name}={value}" for name, value in entry.items())))


def decide(datasite: Datasite, command: str, name: str, reason: str) -> None:
    """Approve and start a job, or deny it, and tell the sender."""
    with datasite.alone():
        job = datasite.job(name)
        if command == "approve":
            datasite.approve(job, reason or "approved by the owner")
            datasite.start_approved()
        else:
            datasite.deny(job, reason)
        datasite.publish()
    print(f"{name}: {datasite.job(name).status}")


def main() -> int:
    """Do what the data owner asks."""
    parser = argparse.ArgumentParser(
        prog="fedrnn-owner", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--root", help=argparse.SUPPRESS)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list")
    commands.add_parser("log")
    for name in ("show", "approve", "deny"):
        command = commands.add_parser(name)
        command.add_argument("job")
        command.add_argument("--reason", default="", required=name == "deny")
    asked = parser.parse_args()
    os.umask(0o027)
    try:
        datasite = Datasite(Site.at(asked.root))
        if asked.command == "list":
            show_list(datasite)
        elif asked.command == "log":
            show_log(datasite)
        elif asked.command == "show":
            show_job(datasite, asked.job)
        else:
            decide(datasite, asked.command, asked.job, asked.reason)
    except (LookupError, ValueError, PermissionError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
