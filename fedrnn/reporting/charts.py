"""The charts of a run, each a matplotlib figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from fedrnn.reporting import style
from fedrnn.reporting.record import Record
from fedrnn.reporting.style import BLUE, IDLE, INK, MUTED, ORANGE, SERIES, dress, plain
from fedrnn.reporting.throttling import CONDITIONS, now
from fedrnn.reporting.timeline import Timeline

FEW = len(SERIES)
"""Nodes up to which each has a colour and a name; more are drawn alike."""
BINS = 100
"""Columns of a timeline: a screen has no more room for rounds."""
Line = tuple[Sequence[float], Sequence[float]]


def accuracy(record: Record) -> Figure:
    """Accuracy on the validation part per round, of all nodes together and of each."""
    drawn = style.figure(2.9)
    axes = dress(drawn.add_subplot())
    events = record.validation
    lines = {
        name: ([e["round"] for e in have], [e["by_node"][name]["accuracy"] for e in have])
        for name in record.nodes
        if (have := [e for e in events if _tested(e, name)])
    }
    _nodes(axes, lines, "node")
    whole = [event["round"] for event in events], [event["accuracy"] for event in events]
    axes.plot(*whole, color=BLUE, linewidth=2.4, label="all nodes", gid="data-all", zorder=5)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
    return _by_round(drawn, axes, len(lines))


def _tested(event: Mapping[str, Mapping[str, Mapping[str, float]]], name: str) -> bool:
    return event.get("by_node", {}).get(name, {}).get("examples", 0) > 0


def loss(record: Record) -> Figure:
    """Training loss per round of each node, smoothed, and the loss on the validation part."""
    drawn = style.figure(2.9)
    axes = dress(drawn.add_subplot())
    window = max(1, len(record.rounds) // 30)
    lines = _of_rounds(record, "loss")
    smooth = {name: (numbers, _smooth(values, window)) for name, (numbers, values) in lines.items()}
    _nodes(axes, smooth, "node, training")
    numbers = [event["round"] for event in record.validation]
    axes.plot(
        numbers, [event["loss"] for event in record.validation], color=BLUE, linewidth=2.4,
        label="validation", gid="data-validation", zorder=5,
    )  # fmt: skip
    axes.set_ylim(bottom=0)
    return _by_round(drawn, axes, len(record.nodes))


def _smooth(values: Sequence[float], window: int) -> list[float]:
    """Return the mean of each value and those of the window before it, but for gaps."""
    spans = (values[max(0, n - window + 1) : n + 1] for n in range(len(values)))
    means = ([value for value in span if np.isfinite(value)] for span in spans)
    return [float(np.mean(mean)) if mean else np.nan for mean in means]


def memory(record: Record) -> Figure:
    """Peak resident memory of each node's worker per round."""
    drawn = style.figure(2.4)
    axes = dress(drawn.add_subplot())
    lines = _of_rounds(record, "rss_mb")
    _nodes(axes, lines, "node")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f} MB"))
    return _by_round(drawn, axes, len(lines))


def health(record: Record, figure: str, unit: str) -> Figure | None:
    """What the boards told at each evaluation; None where none told it, or nothing but zero."""
    lines = {}
    for name in record.nodes:
        told = [(e["round"], e.get("by_node", {}).get(name, {})) for e in record.evaluations]
        have = [(number, node[figure]) for number, node in told if figure in node]
        if have:
            lines[name] = [number for number, _ in have], [value for _, value in have]
    if not any(any(values) for _, values in lines.values()):
        return None
    drawn = style.figure(2.4)
    axes = dress(drawn.add_subplot())
    _nodes(axes, lines, "node")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f} {unit}"))
    return _by_round(drawn, axes, len(lines))


def throttled(told: Mapping[str, Mapping[int, int]]) -> Figure:
    """What slowed each board down, up to each evaluation: a row per node, shared by what held."""
    drawn = style.figure(0.95 + 0.36 * len(told))
    axes = dress(drawn.add_subplot())
    axes.grid(visible=False)
    kinds: tuple[int | None, ...] = (*CONDITIONS, None)
    colours = dict(zip(kinds, (ORANGE, *SERIES[2:], IDLE), strict=True))
    seen = set()
    for row, rounds in enumerate(told.values()):
        for before, (number, flags) in zip((0, *rounds), rounds.items(), strict=False):
            held: Sequence[int | None] = now(flags) or [None]
            high = 0.7 / len(held)
            for place, bit in enumerate(held):
                axes.add_patch(Rectangle(
                    (before, row - 0.35 + high * place), number - before, high, linewidth=0,
                    color=colours[bit], gid=f"data-{row}-{number}-{place}",
                ))  # fmt: skip
                seen.add(bit)
    for bit in kinds:
        if bit in seen:
            label = "nothing" if bit is None else CONDITIONS[bit]
            axes.add_patch(Rectangle((0, 0), 0, 0, color=colours[bit], label=label))
    axes.set_yticks(np.arange(len(told)), [plain(name) for name in told], color=INK)
    axes.set_xlim(0, max(number for rounds in told.values() for number in rounds))
    axes.set_ylim(len(told) - 0.5, -0.5)
    axes.set_xlabel("round", color=MUTED, fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    style.legend(axes, 2)
    return drawn


def traffic(record: Record) -> Figure:
    """Megabytes that each node was sent and has sent."""
    last = record.rounds[-1].get("traffic", {}) if record.rounds else {}
    names = [name for name in record.nodes if name in last]
    drawn = style.figure(0.75 + 0.36 * max(1, len(names)))
    axes = dress(drawn.add_subplot())
    axes.grid(visible=False)
    places = np.arange(len(names))
    most = max([1e-9, *(last[name][way] / 1e6 for name in names for way in ("down", "up"))])
    for way, colour, shift, label in (
        ("down", BLUE, -0.18, "down, to the node"),
        ("up", ORANGE, 0.18, "up, to the controller"),
    ):
        sizes = [last[name][way] / 1e6 for name in names]
        bars = axes.barh(places + shift, sizes, height=0.3, color=colour, label=label)
        for bar, size in zip(bars, sizes, strict=True):
            bar.set_gid(f"data-{way}-{round(bar.get_y(), 2)}")
            axes.annotate(
                f"{size:.1f} MB", (size + most / 60, bar.get_y() + 0.15), va="center", size=8,
                color=INK,
            )  # fmt: skip
    axes.set_yticks(places, [plain(name) for name in names], color=INK)
    axes.set_xticks([])
    axes.set_xlim(0, most * 1.18)
    axes.invert_yaxis()
    style.legend(axes, 2)
    return drawn


def timeline(times: Timeline) -> Figure:
    """What each node did in the rounds: a row per node, a column per round or a few."""
    names = list(times.seconds)
    few = max(1.2, min(1.2 * len(names), 3.3))
    drawn = style.figure(0.8 + max(few, min(0.62 * len(names), 6.2), 0.4 * len(names)))
    rows = drawn.subplots(max(1, len(names)), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    edges = np.linspace(0, len(times.rounds), min(BINS, len(times.rounds)) + 1).astype(int)
    colours = (BLUE, ORANGE, IDLE)
    highest = 0.0
    for axes, name in zip(rows, names, strict=False):
        dress(axes).grid(visible=False)
        seconds = 1e3 * times.seconds[name]
        binned = np.array([_median(seconds[a:b]) for a, b in pairwise(edges)])
        if len(binned):
            # The first round, in which everything is cold, would make all others look small.
            sums = np.nan_to_num(binned.sum(axis=1))
            highest = max(highest, float(np.quantile(sums, 0.98, method="lower")))
            floor = np.zeros(len(binned))
            for phase, values, colour in zip(times.phases, binned.T, colours, strict=True):
                if not phase:
                    continue
                known = np.nan_to_num(values)
                axes.fill_between(
                    times.rounds[edges[:-1]], floor, floor + known, color=colour, linewidth=0,
                    label=phase, step="post", gid=f"data-{phase[:4]}",
                )  # fmt: skip
                floor = floor + known
        axes.set_ylabel(
            plain(name), rotation=0, ha="right", va="center", fontsize=9, color=INK, labelpad=6
        )
        axes.yaxis.tick_right()
        axes.yaxis.set_major_locator(MaxNLocator(1))
        axes.tick_params(labelsize=8)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f} ms"))
    rows[0].set_ylim(0, 1.05 * highest or 1)
    rows[-1].set_xlabel("round", color=MUTED, fontsize=9)
    if names and len(times.rounds):
        style.legend(rows[0])
    return drawn


def _median(rows: np.ndarray) -> np.ndarray:
    """Return the median [3] of the rounds [n, 3] in which the node was there, NaN without any."""
    here = rows[~np.isnan(rows).any(axis=1)]
    return np.median(here, axis=0) if len(here) else np.full(rows.shape[1], np.nan)


def _of_rounds(record: Record, figure: str) -> dict[str, Line]:
    """Return a figure by node, with gaps where the node was not there."""
    numbers = [event["round"] for event in record.rounds]
    return {
        name: (numbers, [e["nodes"].get(name, {}).get(figure, np.nan) for e in record.rounds])
        for name in record.nodes
    }


def _nodes(axes: Axes, lines: Mapping[str, Line], alike: str) -> None:
    """Draw a line per node: few with their names, many as one crowd called `alike`."""
    few = len(lines) <= FEW
    for number, (name, line) in enumerate(lines.items()):
        label = plain(name) if few else "" if number else f"each {alike}"
        axes.plot(
            *line, color=SERIES[number] if few else IDLE, linewidth=1.1, label=label,
            gid=f"data-{number}", alpha=0.9,
        )  # fmt: skip


def _by_round(drawn: Figure, axes: Axes, lines: int) -> Figure:
    axes.set_xlabel("round", color=MUTED, fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    style.legend(axes, min(4, lines + 1) if lines <= FEW else 2)
    return drawn


Compared = Mapping[str, Record]
Abscissa = Callable[[Record], Line]


def overlay(runs: Compared, measure: Abscissa, label: str) -> Figure:
    """Accuracy on the validation part of several runs against what `measure` says."""
    drawn = style.figure(2.9)
    axes = dress(drawn.add_subplot())
    colours = (BLUE, *SERIES)
    for number, (name, record) in enumerate(runs.items()):
        axes.plot(
            *measure(record), color=colours[number % len(colours)], label=plain(name),
            linewidth=1.8, linestyle=("-", "--", ":")[number // len(colours) % 3],
            gid=f"data-{number}",
        )  # fmt: skip
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
    axes.set_xlabel(label, color=MUTED, fontsize=9)
    style.legend(axes, 2)
    return drawn
