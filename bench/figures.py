"""What a bench publishes: rows of figures, each beside its rival's, as a table and as a file."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

Row = dict[str, Any]


def explained(name: str, doc: str | None) -> argparse.ArgumentParser:
    """Return the parser of ``python -m bench.<name>``, whose --help is the module's docstring."""
    return argparse.ArgumentParser(
        prog=f"python -m bench.{name}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def rounded(value: float) -> float:
    """Return three figures of a number below a thousand, and all of a larger one's integer part."""
    return round(value, 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0)


def row(
    figure: str,
    unit: str,
    ours: float,
    rival: float | None,
    floor: float | None = None,
    aim: float | None = None,
    *,
    times: bool = False,
    spread: float | None = None,
    rival_spread: float | None = None,
    of: str | None = None,
) -> Row:
    """Return one figure: ``of`` says what the rival is, the spreads are standard errors.

    The ratio is that of ours to the rival's, with ``times`` how many times ours is faster; a
    difference in points has none, nor has a figure without a rival.
    """
    ratio = None
    if rival and unit != "points":
        ratio = round(rival / ours if times else ours / rival, 3)
    return {
        "figure": figure,
        "unit": unit,
        "ours": rounded(ours),
        "rival": None if rival is None else rounded(rival),
        "ratio": ratio,
        "floor": floor,
        "aim": aim,
        **({} if spread is None else {"spread": round(spread, 2)}),
        **({} if rival_spread is None else {"rival spread": round(rival_spread, 2)}),
        **({} if of is None else {"rival is": of}),
    }


def publish(rows: Sequence[Row], path: Path | None) -> None:
    """Print the table, and write the rows to ``path`` if there is one."""
    table = Table("", "ours", "rival", "ratio", "floor", "aim", "unit", "rival is", box=None)
    for one in rows:
        cells = (one[name] for name in ("ours", "rival", "ratio", "floor", "aim"))
        told = ["" if cell is None else f"{cell:g}" for cell in cells]
        table.add_row(one["figure"], *told, one["unit"], one.get("rival is", ""))
    Console().print(table)
    if path is not None:
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(rows, indent=2) + "\n")
