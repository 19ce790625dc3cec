"""Which charts a run has, in which order, and what each of them says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from fedrnn.reporting import charts, throttling
from fedrnn.reporting.heatmap import heatmap
from fedrnn.reporting.record import Record
from fedrnn.reporting.style import inline, png, svg
from fedrnn.reporting.tables import percent
from fedrnn.reporting.timeline import Timeline


@dataclass(frozen=True)
class Picture:
    """A chart, its title, and what it says in a sentence."""

    name: str
    title: str
    says: str
    drawn: Figure

    @cached_property
    def text(self) -> str:
        """The chart as an SVG file."""
        return svg(self.drawn)

    @property
    def inline(self) -> str:
        """The chart as a part of a page."""
        return inline(self.text, self.name, f"{self.title}. {self.says}")

    def save(self, folder: Path) -> None:
        """Write it as SVG and PNG."""
        (folder / f"{self.name}.svg").write_text(self.text, encoding="utf-8")
        png(self.drawn, folder / f"{self.name}.png")


def learning(record: Record) -> list[Picture]:
    """Return accuracy and loss."""
    made = []
    if record.validation:
        best = max(record.validation, key=lambda event: event["accuracy"])
        says = f"On validation names; the best is {percent(best['accuracy'])}, "
        says += f"after round {best['round']}."
        made.append(Picture("accuracy", "Accuracy", says, charts.accuracy(record)))
    if record.rounds:
        says = "In nats. Nodes with harder languages end higher."
        made.append(Picture("loss", "Loss", says, charts.loss(record)))
    return _of_whom(made, record)


def which(record: Record) -> str:
    """Return of which nodes a record speaks, where they are not all of the run's."""
    shown = len(record.nodes)
    whole = shown + record.left_out
    return f"Shown: the {shown} slowest of {whole:,} nodes." if record.left_out else ""


def _of_whom(made: list[Picture], record: Record) -> list[Picture]:
    return [replace(one, says=f"{one.says} {which(record)}".strip()) for one in made]


def confusion(record: Record) -> Picture | None:
    """Return the confusion matrix; None where nothing was tested."""
    table = np.array(record.confusion)
    if not table.size:
        return None
    drawn = heatmap(record.labels, record.labels, table, width=7.2, cell=0.24, right=True)
    says = "A row per true label, a column per answer, on test names: blue is right, orange wrong."
    return Picture("confusion-matrix", "Confusion matrix", says, drawn)


def of_nodes(record: Record, times: Timeline) -> list[Picture]:
    """Return who holds what, where the time went, traffic, memory, and what the boards told.

    `times` are those of all nodes.
    """
    made = [picture for picture in (
        _held(record), _times(record, times), _traffic(record), _memory(record),
        _health(record, "celsius", "Temperature", "°C"), _throttled(record),
        _health(record, "memory_free_mb", "Free memory", "MB"),
        _health(record, "swap_used_mb", "Swap in use", "MB"),
    ) if picture]  # fmt: skip
    return _of_whom(made, record)


def _held(record: Record) -> Picture | None:
    nodes = record.held.get("nodes", {})
    if not nodes or not all("names" in node for node in nodes.values()):
        return None
    rows = [[node["names"].get(label, 0) for node in nodes.values()] for label in record.labels]
    table = np.array(rows, dtype=np.int64).reshape(len(record.labels), len(nodes))
    drawn = heatmap(record.labels, list(nodes), table)
    says = f"Names per label and node: {int(table.sum()):,}."
    return Picture("split", "Who holds what", says, drawn)


def _times(record: Record, times: Timeline) -> Picture | None:
    if not record.rounds:
        return None
    says = "All nodes share the waiting."
    if times.straggler:
        name, share = times.straggler
        says = (
            f"The others wait for {name}: it is the slowest in {100 * share:.0f} % of the rounds."
        )
    elif len(times.seconds) > 1:
        says = "No node is the slowest much more often than the others."
    return Picture(
        "timeline", "Where the rounds' time goes", says, charts.timeline(times.only(record.nodes))
    )


def _traffic(record: Record) -> Picture | None:
    if not (record.rounds and record.rounds[-1].get("traffic")):
        return None
    says = "Bytes over SSH, encoded, without SSH's own."
    return Picture("traffic", "Traffic", says, charts.traffic(record))


def _memory(record: Record) -> Picture | None:
    if not record.rounds:
        return None
    return Picture("memory", "Memory", "Peak resident memory of the worker.", charts.memory(record))


def _throttled(record: Record) -> Picture | None:
    if not (told := throttling.throttling(record)):
        return None
    drawn = charts.throttled(told)
    return Picture("throttled", "What slowed the boards down", throttling.words(told), drawn)


def _health(record: Record, figure: str, title: str, unit: str) -> Picture | None:
    drawn = charts.health(record, figure, unit)
    if drawn is None:
        return None
    return Picture(figure.replace("_", "-"), title, "As the boards told at each evaluation.", drawn)
