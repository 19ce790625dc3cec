"""`fedrnn-owner`: a data owner's word over the jobs on this node.

list                     every job: who sent it, when, in which state, its fingerprint
show JOB                 who, when, what it printed; every file, and what differs from the code
                         that was approved before
approve JOB              let exactly these files run, when it is their turn
deny JOB --reason ...    refuse a job, or end it; its sender reads the reason
revoke HASH --reason ... let no job with this fingerprint run any more, allow-list or not
log                      every decision and every run

example: fedrnn-owner deny train-20260131-120000-000000 --reason 'ask me first'
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from typing import TYPE_CHECKING

from fedrnn.datasite.datasite import Datasite
from fedrnn.datasite.layout import Site, job_key
from fedrnn.datasite.policy import FINGERPRINT, PolicyError, allow_list, fingerprint, manifest
from fedrnn.datasite.review import baseline, shown
from fedrnn.printable import printable

if TYPE_CHECKING:
    from syft_job import JobInfo

PREFIX = re.compile(r"[0-9a-f]{8,64}\Z")
SHOWN_LOG = 20  # lines of what a job printed


def show_list(datasite: Datasite) -> None:
    """Print a line per job; what has ended comes last."""
    for job in [*datasite.jobs(), *datasite.ended()]:
        digest = fingerprint(manifest(job.job_submission_path))
        line = f"{job.status:10} {job.name:40} {job.submitted_by:28} {job.submitted_at} {digest}"
        print(printable(line))
    try:
        allow_list(datasite.site)
    except PolicyError as error:
        print(error, file=sys.stderr)


def show_job(datasite: Datasite, name: str) -> None:
    """Print who sent a job and when, what it printed, and every file that would run."""
    job = datasite.job(name)
    digest = fingerprint(manifest(job.job_submission_path))
    print(printable(f"job {job.name} of {job.submitted_by}, sent {job.submitted_at}"))
    print(printable(f"{job.status}{f': {job.review_reason}' if job.review_reason else ''}"))
    print(f"fingerprint {digest}")
    for log in ("stdout", "stderr"):
        _show_log_of(job, log)
    others = [*datasite.jobs(), *datasite.ended()]
    against = baseline(job, others, datasite.log)
    if against:
        key = job_key(against.job.submitted_by, against.job.name)
        print(f"compared with {key}, approved {against.approved}")
    else:
        print("no approved job to compare with: all of it is new")
    for line in shown(job, against, colour=sys.stdout.isatty() and "NO_COLOR" not in os.environ):
        print(line)


def _show_log_of(job: JobInfo, log: str) -> None:
    path = job.job_review_path / f"{log}.txt"
    lines = path.read_text(errors="backslashreplace").split("\n") if path.is_file() else []
    if text := [line for line in lines if line]:
        print(f"=== {log}, its last lines; nobody but you is shown them")
        for line in text[-SHOWN_LOG:]:
            print("|", printable(line, most=None))


def show_log(datasite: Datasite) -> None:
    """Print what was decided and run, the oldest first. Raises ValueError when it was changed."""
    for entry in datasite.log.entries():
        told = (f"{name}={value}" for name, value in entry.items() if name != "after")
        print(printable("  ".join(told)))
    if line := datasite.log.broken():
        raise ValueError(
            f"line {line} of {datasite.log.path} does not follow from the one before it: somebody "
            "has changed this log"
        )


def decide(datasite: Datasite, asked: argparse.Namespace) -> None:
    """Approve, deny or revoke, start what is next, and tell the senders."""
    by = os.environ.get("FEDRNN_BY", "")
    with datasite.alone():
        if asked.command == "revoke":
            digest = whole_fingerprint(datasite, asked.hash)
            ended = datasite.revoke(digest, asked.reason, by)
            told = f"{digest}: revoked, {len(ended)} jobs of it ended"
        else:
            job = datasite.job(asked.job)
            key = job_key(job.submitted_by, job.name)
            if asked.command == "approve":
                datasite.approve(job, asked.reason or "approved by the owner", by=by)
            else:
                datasite.deny(job, asked.reason, by)
        datasite.start_next()
        if asked.command != "revoke":
            told = f"{asked.job}: {datasite.job(key).status}"
    print(told)


def whole_fingerprint(datasite: Datasite, start: str) -> str:
    """Return the known fingerprint that begins like this; a whole one need not be known.

    Raises LookupError.
    """
    if FINGERPRINT.match(start):
        return start
    known: set[str] = {entry["sha256"] for entry in datasite.log.entries()}
    known |= {fingerprint(manifest(job.job_submission_path)) for job in datasite.jobs()}
    try:
        known |= allow_list(datasite.site).keys()
    except PolicyError as error:
        print(error, file=sys.stderr)
    found = [digest for digest in known if digest.startswith(start)] if PREFIX.match(start) else []
    if len(found) != 1:
        raise LookupError(
            f"{len(found)} fingerprints begin with {start!r}: give all 64 digits, or at least the "
            "first 8 of one that `fedrnn-owner list` or `fedrnn-owner log` shows"
        )
    return found[0]


def main() -> int:
    """Do what the data owner asks."""
    parser = argparse.ArgumentParser(
        prog="fedrnn-owner", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--root", help=argparse.SUPPRESS)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list")
    commands.add_parser("log")
    for name in ("show", "approve", "deny", "revoke"):
        command = commands.add_parser(name)
        command.add_argument("hash" if name == "revoke" else "job")
        if name != "show":
            command.add_argument("--reason", default="", required=name in ("deny", "revoke"))
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
            decide(datasite, asked)
    except BrokenPipeError:  # `fedrnn-owner show JOB | head`
        sys.stderr.close()
        return 0
    except (LookupError, ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
