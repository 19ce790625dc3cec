"""`python -m fedrnn.predict NAME …`: what language a name is from, by the last trained model."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fedrnn.checkout import LATEST
from fedrnn.printable import printable

SHOWN = 3
TOGETHER = 256
"""Names that are looked at together, so that a long input is answered as it comes."""
WIDEST = 40
"""Characters of a name that the table shows."""
Ranked = list[tuple[str, float]]


def main(arguments: list[str] | None = None) -> int:
    """Print the likeliest labels of each name; return 0, or 2 without a model."""
    parser = argparse.ArgumentParser(
        prog="python -m fedrnn.predict",
        description=__doc__,
        epilog="example: python -m fedrnn.predict Kowalski Papadopoulos Virtanen",
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="without a name, or with -, one a line from stdin"
    )
    parser.add_argument(
        "--run",
        type=Path,
        metavar="FOLDER",
        default=LATEST,
        help="the folder of the run whose model answers (default: runs/latest)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    asked = parser.parse_args(arguments)
    from fedrnn.learning.checkpoint import load  # only now: torch takes a second

    try:
        checkpoint = load(asked.run)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    from_stdin = asked.names in ([], ["-"])
    typed = from_stdin and sys.stdin.isatty()
    if typed:
        print("Names, one a line; Ctrl-D ends.", file=sys.stderr)
    show = _print_json if asked.json else _print_table
    try:
        for names in _bunches(_lines() if from_stdin else asked.names, 1 if typed else TOGETHER):
            ranked = checkpoint.predict(names)
            show([(name, row[:SHOWN]) for name, row in zip(names, ranked, strict=True)])
            sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    return 0


def _lines() -> Iterator[str]:
    """Read names from standard input, whatever its bytes are; a blank line is none."""
    lines = (line.decode(errors="replace").strip() for line in sys.stdin.buffer)
    return (line for line in lines if line)


def _bunches(names: Iterable[str], size: int) -> Iterator[list[str]]:
    left = iter(names)
    while bunch := list(islice(left, size)):
        yield bunch


def _print_json(answers: list[tuple[str, Ranked]]) -> None:
    for name, ranked in answers:
        labels = [{"label": label, "probability": round(p, 6)} for label, p in ranked]
        print(json.dumps({"name": name, "labels": labels}))


def _print_table(answers: list[tuple[str, Ranked]]) -> None:
    table = Table(*("" for _ in range(1 + SHOWN)), box=None, pad_edge=False, show_header=False)
    for name, ranked in answers:
        cells = (f"{printable(label)} {100 * p:.0f} %" for label, p in ranked)
        shown = name if len(name) <= WIDEST else f"{name[: WIDEST - 1]}…"
        table.add_row(escape(printable(shown)), *(escape(cell) for cell in cells))
    Console(highlight=False).print(table)


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `… | head` ends it without a word
    sys.exit(main())
