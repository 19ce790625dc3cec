"""A table of counts as a picture: a cell the darker the more, and an empty cell for none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from fedrnn.reporting.style import BLUE, INK, ORANGE, WIDTH, dress, figure, plain

LEGIBLE = 24
"""Columns up to which every cell has room for its number."""
DARKEST = 0.55
"""Opacity at which text on a cell can still be read."""


def heatmap(
    rows: Sequence[str],
    columns: Sequence[str],
    table: NDArray[np.int64],
    *,
    width: float = WIDTH,
    cell: float = 0.21,
    right: bool = False,
) -> Figure:
    """Draw counts [rows, columns], `cell` inches high; shade a cell by its share of its row's most.

    With `right` the diagonal is what is right and has a colour of its own.
    """
    drawn = figure(0.9 + cell * len(rows), width)
    axes = dress(drawn.add_subplot())
    axes.grid(visible=False)
    most = np.maximum(table.max(axis=1, initial=0), 1) if right else np.full(len(rows), table.max())
    for (row, column), count in np.ndenumerate(table):
        if not count:
            continue
        share = float(np.sqrt(count / max(1, most[row])))
        colour = ORANGE if right and row != column else BLUE
        axes.add_patch(Rectangle(
            (column + 0.03, row + 0.03), 0.94, 0.94, color=colour, alpha=DARKEST * share,
            linewidth=0, gid=f"data-{row}-{column}",
        ))  # fmt: skip
        if len(columns) <= LEGIBLE:
            size = 8 if count < 1000 else 7
            axes.annotate(
                f"{count:,}", (column + 0.5, row + 0.5), color=INK, ha="center", va="center",
                size=size if len(columns) < 15 else 6.5, in_layout=False,
            )  # fmt: skip
    axes.set_xlim(0, len(columns))
    axes.set_ylim(len(rows), 0)
    slanted = len(columns) > 5
    axes.set_xticks(
        np.arange(len(columns)) + 0.5, [plain(name) for name in columns],
        rotation=55 if slanted else 0, ha="left" if slanted else "center", rotation_mode="anchor",
    )  # fmt: skip
    axes.set_yticks(np.arange(len(rows)) + 0.5, [plain(name) for name in rows])
    axes.xaxis.tick_top()
    return drawn
