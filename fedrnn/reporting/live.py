"""The live view of a run: a row per node, the accuracy as a line of bars, the time that is left."""

from __future__ import annotations

import math
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fedrnn.reporting.tables import fit

BARS, ASCII_BARS = "▁▂▃▄▅▆▇█", "_.-=+*#@"
WIDE, MEDIUM = 78, 50
"""Columns of a terminal from which on a node's whole row, or most of it, has room."""
REFRESH = 2
"""Pictures in a second: more cost a controller on a Pi, and nobody reads faster."""
BESIDE = 2
"""Lines that the rows of nodes leave: for the heads, and for where the cursor stands."""
RECENT = 20
"""Rounds whose mean says how long the others will take."""


class View:
    """What is known of a run at this moment; rich draws it at the terminal's size of the moment."""

    def __init__(self, rounds: int) -> None:
        self.rounds, self.done, self.loss = rounds, 0, math.nan
        self.accuracy: list[float] = []
        self.nodes: dict[str, dict[str, Any]] = {}
        self.megabytes = 0.0
        self._seconds: list[float] = []

    def take(self, event: dict[str, Any], megabytes: float) -> None:
        """Take an event of `federate` in."""
        if event["event"] == "evaluation":
            self.accuracy.append(event["accuracy"])
            for name, told in event.get("by_node", {}).items():
                self.nodes.setdefault(name, {}).update(told)
        if event["event"] != "round":
            return
        self.done, self.loss, self.megabytes = event["round"], event["loss"], megabytes
        self._seconds = [*self._seconds[1 - RECENT :], event["seconds"]]
        for name in self.nodes.keys() | event["nodes"].keys():
            node = self.nodes.setdefault(name, {})
            asked = name in event.get("drawn", self.nodes)
            node["state"] = "trains" if name in event["nodes"] else "away" if asked else "waits"
            node["train"] = event["nodes"].get(name, {})

    @property
    def left(self) -> float:
        """Seconds until the last round, if the rounds go on as they do."""
        if not self._seconds:
            return math.nan
        return (self.rounds - self.done) * sum(self._seconds) / len(self._seconds)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Any:
        """Yield the view for a terminal of this size."""
        bars = BARS if console.encoding.lower().startswith("utf") else ASCII_BARS
        lines = self._lines(options.max_width, bars)
        room = max(1, (options.height or console.height) - len(lines) - BESIDE)
        names = sorted(self.nodes)
        if len(names) > room:
            names = sorted(names, key=self._telling)[: max(1, room - 1)]
            lines.insert(0, Text(self._others(names), no_wrap=True, overflow="crop"))
        yield Group(self._table(names, options.max_width, console.encoding), *lines)

    def _telling(self, name: str) -> tuple[bool, float]:
        """Sort those that are away to the front, and the slowest behind them."""
        node = self.nodes[name]
        return node.get("state") != "away", -node.get("train", {}).get("compute_seconds", 0.0)

    def _others(self, shown: list[str]) -> str:
        others = self.nodes.keys() - shown
        away = sum(self.nodes[name].get("state") == "away" for name in others)
        return f"and {len(others):,} nodes more" + (f", {away:,} of them away" if away else "")

    def _table(self, names: list[str], width: int, encoding: str) -> Table:
        heads = ["node", "state", "loss", "compute", "memory"]
        heads = heads if width >= MEDIUM else heads[:3]
        heads += ["temp.", "throttled", "free", "swap"] if width >= WIDE else []
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for head in heads:
            table.add_column(head, no_wrap=True, overflow="crop")
        for name in names:
            cells = _cells(self.nodes[name])
            colour = {"trains": "green", "waits": "default"}.get(cells["state"], "red")
            state = Text(cells["state"], style=colour)
            rest = (cells[head] for head in heads[2:])
            table.add_row(fit(name, encoding)[: max(8, width // 3)], state, *rest)
        return table

    def _lines(self, width: int, bars: str) -> list[RenderableType]:
        seconds = "" if math.isnan(self.left) else f"  {self.left:.0f} s left"
        line = f"round {self.done} of {self.rounds}{seconds}"
        lines: list[RenderableType] = [
            Text(line, no_wrap=True, overflow="crop"),
            ProgressBar(total=self.rounds, completed=self.done, width=min(60, width)),
        ]
        if self.accuracy:
            spark = sparkline(self.accuracy, bars)
            told = f"accuracy {100 * self.accuracy[-1]:.1f} %{counted(self.megabytes)}"
            lines.insert(1, Text(f"{spark}  {told}", no_wrap=True, overflow="crop"))
        return lines


def _cells(node: dict[str, Any]) -> dict[str, str]:
    train = node.get("train", {})

    def told(value: float | None, unit: str, digits: int = 0) -> str:
        return "-" if value is None else f"{value:.{digits}f}{unit}"

    flags = node.get("throttled")
    return {
        "state": node.get("state", "waits"),
        "loss": told(train.get("loss"), "", 3),
        "compute": told(train.get("compute_seconds"), " s", 3),
        "memory": told(train.get("rss_mb"), " MB"),
        "temp.": told(node.get("celsius"), " C"),
        "throttled": "-" if flags is None else "now" if int(flags) & 0xF else "no",
        "free": told(node.get("memory_free_mb"), " MB"),
        "swap": told(node.get("swap_used_mb"), " MB"),
    }


def counted(megabytes: float) -> str:
    """Return the traffic, nothing where the engine counts none."""
    return f"  {megabytes:.1f} MB" if megabytes else ""


def sparkline(values: list[float], bars: str = BARS, most: int = 24) -> str:
    """Return the last values as a line of bars, the lowest bar for 0, the highest for the most."""
    shown = values[-most:]
    highest = max([*shown, 1e-9])
    return "".join(bars[min(len(bars) - 1, int(len(bars) * value / highest))] for value in shown)
