"""What a sender is told of a job that failed: how and where, never what was said.

An exception's text may hold a row: `int("Kowalski")` raises one. It stays with the owner.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Iterable
from pathlib import Path

FRAME = re.compile(r'^ *File "(?P<file>[^"]+)", line (?P<line>\d{1,6})\b')
RAISED = re.compile(r"^(?:[A-Za-z_]\w*\.)*(?P<name>[A-Za-z_]\w*)(?::|$)")
WITHOUT_A_WORD = "it ended without a word: the power of this node went, or somebody killed it"
RESULTS = {  # systemd.exec(5), $SERVICE_RESULT
    "timeout": "it ran into the time limit of this node",
    "oom-kill": "it needed more memory than this node gives a job",
    "resources": "this node had no resources to start it",
}


def how(result: str) -> str | None:
    """Return in words how systemd says that a job ended; None where its exit code tells all."""
    return RESULTS.get(result)


def where(stderr: Path, files: Iterable[str]) -> str | None:
    """Return the kind of the last exception and the line of the job's own code that it came from.

    Only names of Python's own exceptions and of `files`, the submitted ones, are repeated.
    """
    try:
        lines = stderr.read_text(errors="replace").splitlines()
    except OSError:
        return None
    known, place, kind = sorted(files, key=len, reverse=True), None, None
    for line in lines:
        if frame := FRAME.match(line):
            file = next((f for f in known if frame["file"].endswith(f"/{f}")), None)
            place = f"{file}, line {frame['line']}" if file else place
        elif raised := RAISED.match(line):
            found = getattr(builtins, raised["name"], None)
            if isinstance(found, type) and issubclass(found, BaseException):
                kind = raised["name"]
    if place is None:
        return None
    return f"{kind or 'an exception'} in {place}; its owner can read the rest"
