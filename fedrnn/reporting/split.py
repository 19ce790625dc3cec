"""Who holds what: `split.csv`, and the same as a picture, `split.svg`. Counts, never rows."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fedrnn.datasite.layout import printable
from fedrnn.learning.data import Part

Counts = Mapping[str, Mapping[Part, Mapping[str, int]]]
_LEGIBLE = 24
"""Nodes up to which every cell of the picture has room for its number."""


def save_split(folder: Path, labels: tuple[str, ...], counts: Counts) -> None:
    """Write the names per label and node, all parts together, as a table and as a picture."""
    table = [[_names(counts[node], label) for node in counts] for label in labels]
    _write_table(folder / "split.csv", list(counts), labels, table)
    _draw(folder / "split.svg", list(counts), labels, np.array(table))


def _names(parts: Mapping[Part, Mapping[str, int]], label: str) -> int:
    return sum(members.get(label, 0) for members in parts.values())


def _write_table(
    path: Path, nodes: list[str], labels: tuple[str, ...], table: list[list[int]]
) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["label", *nodes])
        writer.writerows([label, *row] for label, row in zip(labels, table, strict=True))


def _draw(path: Path, nodes: list[str], labels: tuple[str, ...], table: NDArray[np.int64]) -> None:
    """Draw a cell per label and node, the darker the more names; an empty cell for none."""
    figure = Figure(figsize=(2.2 + 0.75 * len(nodes), 1.1 + 0.28 * len(labels)), layout="tight")
    axes = figure.add_subplot()
    shown = np.ma.masked_equal(table, 0)
    axes.pcolormesh(shown, cmap="Blues", vmin=0, edgecolors="white", linewidth=1)
    axes.set_xticks(np.arange(len(nodes)) + 0.5, [_plain(node) for node in nodes])
    axes.set_yticks(np.arange(len(labels)) + 0.5, [_plain(label) for label in labels])
    axes.invert_yaxis()
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(f"names per label and node, {int(table.sum()):,} in all", fontsize=10, pad=14)
    if len(nodes) <= _LEGIBLE:
        for (row, column), names in np.ndenumerate(table):
            if names:
                colour = "white" if names > table.max() / 2 else "black"
                place = (column + 0.5, row + 0.5)
                axes.annotate(f"{names:,}", place, color=colour, ha="center", va="center", size=8)
    # A salt and no date: the same split makes the same file. Text stays text, so that a script
    # which matplotlib has no font for is drawn by whoever shows the file.
    with (
        matplotlib.rc_context({"svg.hashsalt": "fedrnn", "svg.fonttype": "none"}),
        warnings.catch_warnings(action="ignore"),
    ):
        figure.savefig(path, metadata={"Date": None})


def _plain(text: str) -> str:
    """Return text that matplotlib neither reads as a formula nor cannot draw."""
    return printable(text).replace("$", r"\$")
