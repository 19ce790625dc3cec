"""`python -m fedrnn.predict NAME …`: what language a name is from, by the last trained model."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from fedrnn.inventory import CHECKOUT
from fedrnn.learning.checkpoint import load

SHOWN = 3


def main(arguments: list[str] | None = None) -> int:
    """Print the likeliest labels of each name."""
    parser = argparse.ArgumentParser(prog="python -m fedrnn.predict", description=__doc__)
    parser.add_argument("names", nargs="+", metavar="NAME")
    parser.add_argument(
        "--model", type=Path, default=CHECKOUT / "runs" / "latest", help="a run's folder"
    )
    asked = parser.parse_args(arguments)
    try:
        checkpoint = load(asked.model)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    table = Table("name", *("" for _ in range(SHOWN)), box=None, pad_edge=False)
    for name, ranked in zip(asked.names, checkpoint.predict(asked.names), strict=True):
        table.add_row(name, *(f"{label} {100 * p:.0f} %" for label, p in ranked[:SHOWN]))
    Console(highlight=False).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
