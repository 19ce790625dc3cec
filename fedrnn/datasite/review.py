"""What a data owner is shown of a job before a decision: every file, and what is new in it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from syft_job import JobInfo

from fedrnn.datasite.layout import job_key
from fedrnn.datasite.policy import NO_FILE, DecisionLog, fingerprint, manifest
from fedrnn.printable import printable

GREEN, RED, CYAN, PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[36m", "\x1b[0m"
COLOURS = {"+": GREEN, "-": RED, "@": CYAN}


@dataclass(frozen=True)
class Baseline:
    """The approved job that another is compared with, and when it was approved."""

    job: JobInfo
    approved: str


def baseline(job: JobInfo, others: Iterable[JobInfo], log: DecisionLog) -> Baseline | None:
    """Return the job approved last before this one, of those that are most like it by file names.

    Only code that still is what was approved is compared with.
    """
    approvals = {e["job"]: e for e in log.entries() if e["event"] == "approve"}
    own = job_key(job.submitted_by, job.name)
    files = manifest(job.job_submission_path).keys()
    best: tuple[float, str, JobInfo] | None = None
    for other in others:
        key = job_key(other.submitted_by, other.name)
        approval = approvals.get(key)
        if approval is None or key == own:
            continue
        found = manifest(other.job_submission_path)
        likeness = len(files & found.keys()) / len(files | found.keys())
        better = best is None or (likeness, approval["time"]) > best[:2]
        if better and fingerprint(found) == approval["sha256"]:
            best = likeness, approval["time"], other
    return Baseline(best[2], best[1]) if best else None


def shown(job: JobInfo, against: Baseline | None, colour: bool) -> Iterator[str]:
    """Yield every file of a job, safe for a terminal: its hash, and its lines or what changed.

    Lines of files are set off from our own by what stands before them: `|`, or `+`, `-`, `@` and a
    blank in a difference.
    """
    there = against.job.job_submission_path if against else None
    files = manifest(job.job_submission_path)
    known = manifest(there) if there else {}
    for path in sorted(files.keys() | known.keys()):
        if path not in files:
            yield printable(f"=== {path}  is not in this job any more")
            continue
        if files[path] == NO_FILE:
            yield printable(f"=== {path}  is {NO_FILE}: somebody has changed this job on this node")
            continue
        lines = _lines(job.job_submission_path / path)
        if there is None or path not in known:
            yield printable(f"=== {path}  sha256 {files[path]}{'  new' if there else ''}")
            yield from (f"| {line}" for line in lines)
        elif known[path] == files[path]:
            yield printable(f"=== {path}  sha256 {files[path]}  unchanged")
        else:
            yield printable(f"=== {path}  sha256 {files[path]}  changed")
            difference = difflib.unified_diff(_lines(there / path), lines, n=3, lineterm="")
            for line in list(difference)[2:]:  # without its headings, which repeat ours
                yield _painted(line, colour)


def _lines(path: Path) -> list[str]:
    # Cut at newlines alone: splitlines() would take characters that editors show as text.
    text = path.read_bytes().decode(errors="backslashreplace")
    return [printable(line, most=None) for line in text.split("\n")]


def _painted(line: str, colour: bool) -> str:
    paint = COLOURS.get(line[:1]) if colour else None
    return f"{paint}{line}{PLAIN}" if paint else line
