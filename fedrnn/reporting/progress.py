"""What a run shows while it goes on: a live line in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from fedrnn.datasite.layout import printable
from fedrnn.reporting import tables

PLAIN_LINES = 25  # as many lines of rounds as a run prints without a terminal


class Display:
    """Prints phases, tables and rounds; use as a context manager around the rounds."""

    def __init__(self, rounds: int) -> None:
        self.console = Console(highlight=False, soft_wrap=True)
        self.rounds = rounds
        self.started = time.monotonic()
        self.accuracy = ""
        self._members: set[str] = set()
        self._missing: set[str] = set()
        self._progress = Progress(
            TextColumn("round"),
            MofNCompleteColumn(),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[figures]}"),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
        )
        self._task = self._progress.add_task("train", total=rounds, figures="")

    def __enter__(self) -> Display:
        if self.console.is_terminal:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal:
            self._progress.stop()

    def say(self, text: str) -> None:
        """Print one line with the seconds since the start."""
        seconds = time.monotonic() - self.started
        self.console.print(f"[dim]{seconds:6.1f} s[/dim]  {escape(printable(text))}")

    def nodes(self, members: list[Any], states: dict[str, str]) -> None:
        """Print how the job of each node is, and what it says of its data: counts, and no row."""
        heads = ("node", "job", "data set", "rows", "labels", "mock sample (made up)")
        table = Table(*heads, box=None, pad_edge=False)
        self._members = {member.name for member in members}
        for member in members:
            told = member.described
            labels = ", ".join(told["labels"])
            mock = ", ".join(next(iter(told["mock"].values()))[:3])
            state = states[member.name]
            texts = (member.name, state, told["dataset"], f"{told['rows']:,}", labels, mock)
            table.add_row(*(escape(printable(text)) for text in texts))
        self.console.print(table)

    def event(self, event: dict[str, Any], bytes_moved: int) -> None:
        """Show a round or an evaluation as `federate` tells it."""
        if event["event"] == "evaluation":
            self.accuracy = f"  accuracy {100 * event['accuracy']:.1f} %"
        if event["event"] != "round":
            return
        self._tell_who_is_missing(event)
        number = event["round"]
        figures = (
            f"loss {event['loss']:.3f}{self.accuracy}"
            f"  {event['seconds']:.3f} s/round  {bytes_moved / 1e6:.1f} MB"
        )
        if self.console.is_terminal:
            self._progress.update(self._task, completed=number, figures=figures)
        elif number % max(1, self.rounds // PLAIN_LINES) == 0 or number == self.rounds:
            left = (self.rounds - number) * event["seconds"]
            width = len(str(self.rounds))
            self.say(f"round {number:{width}} of {self.rounds}  {figures}  {left:3.0f} s left")

    def _tell_who_is_missing(self, event: dict[str, Any]) -> None:
        missing = self._members - event["nodes"].keys()
        for name in sorted(missing - self._missing):
            why = event["errors"].get(name, "no answer")
            self.say(f"{name} is left out from round {event['round']} on: {why}")
        for name in sorted(self._missing - missing):
            self.say(f"{name} is back in round {event['round']}")
        self._missing = missing

    def summary(self, summary: dict[str, Any], worst: list[tuple[str, float]], folder: str) -> None:
        """Print the table at the end."""
        table = Table(box=None, show_header=False, pad_edge=False)
        for name in tables.FIGURES:
            value = summary[name]
            shown = "not measured: interrupted" if value is None else tables.percent(value)
            table.add_row(tables.words(name), shown)
        table.add_row("worst", ", ".join(f"{label} {100 * r:.0f} %" for label, r in worst))
        moved = f"{summary['bytes_up'] / 1e6:.1f} MB up, {summary['bytes_down'] / 1e6:.1f} MB down"
        table.add_row("traffic", moved)
        seconds = summary["round_seconds"]
        table.add_row("rounds", f"{summary['rounds']} of {seconds['median']:.3f} s (median)")
        table.add_row("in all", f"{summary['seconds_total']:.0f} s")
        table.add_row("results", folder)
        self.console.print()
        self.console.print(tables.nodes(summary))
        if "comparison" in summary:
            self.console.print()
            self.console.print(tables.comparison(summary))
        self.console.print()
        self.console.print(table)
