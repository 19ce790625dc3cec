"""The tables at the end of a run: how good the model is, for each node and beside its rivals."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedrnn.printable import printable

MOST = 20
"""Nodes that a table has rows for: more would push away what stands above it."""
FIGURES = ("accuracy", "macro_recall", "macro_f1", "calibration_error")


WIDE = 78
"""Columns of a terminal from which on all figures have room; else it has to be the first."""


def fit(text: str, encoding: str) -> Text:
    """Return text of others on one line of a terminal of this encoding, and no markup in it."""
    return Text(printable(text).encode(encoding, "replace").decode(encoding))


def words(name: str) -> str:
    """Return a figure's name as people write it."""
    return {"macro_f1": "macro-F1"}.get(name, name.replace("macro_", "macro-").replace("_", " "))


def percent(fraction: float | None) -> str:
    """Return a fraction in per cent, a minus for none."""
    return "-" if fraction is None else f"{100 * fraction:.1f} %"


def nodes(summary: dict[str, Any], console: Console) -> Table:
    """Return how the model does on the test part of each node, of many those of the worst."""
    dropped = any(node["dropped_updates"] for node in summary["nodes"].values())
    table = Table(box=None, pad_edge=False)
    table.add_column("node", overflow="fold")
    table.add_column("test\nnames", justify="right", no_wrap=True)
    figures = _figures(console)
    for name in (*figures, *(["dropped updates"] if dropped else [])):
        table.add_column(words(name).replace(" ", "\n"), justify="right", no_wrap=True)
    worst = sorted(summary["nodes"], key=lambda name: _accuracy(summary["nodes"][name]))[:MOST]
    for name, node in summary["nodes"].items():
        if name not in worst:
            continue
        tested = node["test"] or {}
        cells = [f"{tested.get('examples', 0):,}"]
        cells += [percent(tested.get(figure)) for figure in figures]
        table.add_row(
            fit(name, console.encoding),
            *cells,
            *([str(node["dropped_updates"])] if dropped else []),
        )
    if others := len(summary["nodes"]) - len(worst):
        table.caption = f"and {others:,} nodes more, which are no worse: summary.json"
        table.caption_justify = "left"
    return table


def _accuracy(node: dict[str, Any]) -> float:
    return float((node["test"] or {}).get("accuracy", 2.0))  # what was not tested is last


def _figures(console: Console) -> tuple[str, ...]:
    return FIGURES if console.width >= WIDE else FIGURES[:1]


def comparison(summary: dict[str, Any], console: Console) -> Table:
    """Return the run beside what else the same rows give."""
    table = Table(box=None, pad_edge=False)
    table.add_column("on the same names", overflow="fold")
    figures = _figures(console)
    for name in (*figures, "seconds"):
        table.add_column(words(name).replace(" ", "\n"), justify="right", no_wrap=True)
    for name, row in summary["comparison"].items():
        cells = [percent(row[figure]) for figure in figures]
        table.add_row(name, *cells, f"{row['seconds']:.0f}")
    return table
