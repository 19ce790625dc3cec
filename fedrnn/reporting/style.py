"""How the charts look: one palette, which a page turns into its own light and dark colours.

The data's colours are those of Okabe and Ito, which people who see fewer colours can tell apart
(https://jfly.uni-koeln.de/color/).
"""

from __future__ import annotations

import html
import io
import re
import warnings
from contextlib import AbstractContextManager
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedrnn.printable import printable

INK, MUTED, GRID = "#1c2330", "#5a6474", "#dfe4ec"
BLUE, ORANGE, GREEN, PINK, YELLOW, SKY = (
    "#0072b2", "#d55e00", "#009e73", "#c4679a", "#e0990f", "#56b4e9",
)  # fmt: skip
IDLE = "#c3cad6"
SERIES = (ORANGE, GREEN, PINK, YELLOW, SKY)
VARIABLES = {
    "card": "#ffffff", "ink": INK, "muted": MUTED, "grid": GRID, "idle": IDLE, "blue": BLUE,
    "orange": ORANGE, "green": GREEN, "pink": PINK, "yellow": YELLOW, "sky": SKY,
}  # fmt: skip
"""The colours by the names that they have in report.css."""
WIDTH = 5.0
"""Inches of a chart: 360 points, so that its text is legible on a phone."""
MOST_NODES = 20
"""Nodes for which a chart or a page has room."""
LONGEST = 20
"""Characters of a name for which a chart has room."""


def _written() -> AbstractContextManager[None]:
    """Return how figures are written.

    A salt and no date: the same figures make the same file. Text stays text, so that a script
    which matplotlib has no font for is drawn by whoever shows the file.
    """
    return matplotlib.rc_context({"svg.hashsalt": "fedrnn", "svg.fonttype": "none"})


def figure(height: float, width: float = WIDTH) -> Figure:
    """Return an empty figure of so many inches."""
    return Figure(figsize=(width, height), layout="constrained")


def dress(axes: Axes) -> Axes:
    """Take away what tells nothing; return the axes."""
    axes.spines[:].set_visible(False)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, colors=MUTED, labelsize=9)
    axes.xaxis.label.set_color(MUTED)
    axes.xaxis.label.set_fontsize(9)
    return axes


def legend(axes: Axes, columns: int = 3) -> None:
    """Name what is drawn, above it."""
    axes.legend(
        loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=columns, frameon=False, fontsize=9,
        labelcolor=INK, handlelength=1.2, columnspacing=1.2, borderaxespad=0.2,
    )  # fmt: skip


def plain(text: str) -> str:
    """Return a name that matplotlib neither reads as a formula nor has no room for."""
    told = printable(text)
    short = told if len(told) <= LONGEST else f"{told[: LONGEST - 1]}…"
    return short.replace("$", r"\$")


def svg(drawn: Figure) -> str:
    """Return a figure as the text of an SVG file."""
    file = io.StringIO()
    with _written(), warnings.catch_warnings(action="ignore"):
        drawn.savefig(file, format="svg", metadata={"Date": None})
    drawn.set_layout_engine("none")  # it is laid out: to do that again costs as much as to draw
    return file.getvalue()


def png(drawn: Figure, path: Path) -> None:
    """Write a figure as a PNG file."""
    with _written(), warnings.catch_warnings(action="ignore"):
        drawn.savefig(path, dpi=120)


def inline(text: str, name: str, label: str) -> str:
    """Return the text of an SVG file as a part of a page, told as `label` to who cannot see it.

    Its ids begin with `name`, and its colours are the page's.
    """
    body = text[text.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    # It speaks of the whole page; report.css says the same of charts alone.
    body = re.sub(r"<style.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", body)
    for variable, colour in VARIABLES.items():
        body = body.replace(colour, f"var(--{variable})")
    told = f'role="img" aria-label="{html.escape(label)}"'
    head = re.search(r'viewBox="[^"]+"', body)
    assert head is not None  # matplotlib writes one
    return f"<svg {head[0]} {told}>{body[body.index('>') + 1 :]}"
