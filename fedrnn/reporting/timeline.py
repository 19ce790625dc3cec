"""Where the time of the rounds went: compute, wire and waiting of every node."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fedrnn.reporting.record import Record

PHASES = ("compute", "wire", "waiting")


@dataclass(frozen=True)
class Timeline:
    """Seconds [rounds, 3] by node in the order of PHASES; NaN in rounds without the node.

    Unless `timed`, nobody has taken the time of the wire: it is in that of waiting.
    """

    rounds: NDArray[np.int64]
    seconds: dict[str, NDArray[np.float64]]
    timed: bool = True

    @property
    def phases(self) -> tuple[str, ...]:
        """What the seconds are called; an empty name for what there is none of."""
        return PHASES if self.timed else ("compute", "", "wire and waiting")

    @property
    def totals(self) -> dict[str, NDArray[np.float64]]:
        """Seconds [3] of all rounds by node."""
        return {name: np.nansum(rows, axis=0) for name, rows in self.seconds.items()}

    def slowest(self, most: int) -> list[str]:
        """Return the nodes if they are so many at most, else the slowest of them in the median."""
        if len(self.seconds) <= most:
            return list(self.seconds)
        busy = {name: rows[:, :2].sum(axis=1) for name, rows in self.seconds.items()}
        known = {name: rows[~np.isnan(rows)] for name, rows in busy.items()}
        medians = {name: np.median(rows) if len(rows) else 0 for name, rows in known.items()}
        return sorted(medians, key=lambda name: -medians[name])[:most]

    def only(self, names: list[str]) -> Timeline:
        """Return that of these nodes."""
        return replace(self, seconds={name: self.seconds[name] for name in names})

    @property
    def straggler(self) -> tuple[str, float] | None:
        """The node that others wait for, and its share of all rounds as the slowest.

        None where nobody is slower than chance would have it.
        """
        if len(self.seconds) < 2 or not len(self.rounds):
            return None
        busy = np.stack([rows[:, :2].sum(axis=1) for rows in self.seconds.values()])
        slowest = np.nan_to_num(busy, nan=-1.0).argmax(axis=0)
        counts = np.bincount(slowest, minlength=len(self.seconds)) / len(self.rounds)
        share = float(counts.max())
        if share < min(0.9, 2 / len(self.seconds)):
            return None
        return list(self.seconds)[int(counts.argmax())], share


def timeline(record: Record) -> Timeline:
    """Return who spent the rounds of a run in what.

    Wire is what lies between sending and the reply beyond the node's own compute, waiting is the
    rest of the round: for the other nodes, and for the controller's step.
    """
    seconds = {name: np.full((len(record.rounds), 3), np.nan) for name in record.nodes}
    for row, event in enumerate(record.rounds):
        whole = float(event["seconds"])
        for name in seconds.keys() & event["nodes"].keys():
            compute = min(whole, float(event["nodes"][name].get("compute_seconds", 0.0)))
            took = event.get("traffic", {}).get(name, {}).get("seconds", compute)
            wire = min(whole, max(compute, float(took))) - compute
            seconds[name][row] = compute, wire, whole - compute - wire
    numbers = np.array([event["round"] for event in record.rounds], dtype=np.int64)
    timed = not record.rounds or any(event.get("traffic") for event in record.rounds)
    return Timeline(numbers, seconds, timed)
