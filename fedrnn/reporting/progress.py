"""What a run shows while it goes on: live in a terminal, plain lines or JSON elsewhere."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fedrnn.reporting import tables
from fedrnn.reporting.live import REFRESH, View, counted

PLAIN_LINES = 25  # as many lines of rounds as a run prints without a terminal


class Display:
    """Prints phases, tables and rounds; use as a context manager around the rounds.

    With `quiet` it prints what people must know, and the results' folder; with `as_json` one object
    a line and nothing else.
    """

    def __init__(self, rounds: int, quiet: bool = False, as_json: bool = False) -> None:
        self.console = Console(highlight=False, soft_wrap=True)
        self.rounds, self.quiet, self.as_json = rounds, quiet, as_json
        self.started = time.monotonic()
        self.accuracy = ""
        self._members: set[str] = set()
        self._missing: set[str] = set()
        self.view = View(rounds)
        self.is_live = self.console.is_terminal and not (quiet or as_json)
        # It asks for the view itself: a live table must not soft-wrap.
        self._live = Live(self.view, console=Console(highlight=False), refresh_per_second=REFRESH)

    def __enter__(self) -> Display:
        if self.is_live:
            self.console = self._live.console
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_live:
            self._live.stop()
            self.console = Console(highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """Print one line with the seconds since the start."""
        seconds = time.monotonic() - self.started
        if self.as_json:
            self._object({"event": "message", "seconds": round(seconds, 3), "text": text})
        else:
            self.console.print(
                Text(f"{seconds:6.1f} s", "dim") + "  " + self._fit(text), soft_wrap=True
            )

    def phase(self, text: str) -> None:
        """Print such a line, too, unless nobody wants to know."""
        if not self.quiet:
            self.say(text)

    def _fit(self, text: str) -> Text:
        return tables.fit(text, self.console.encoding)

    def _object(self, values: dict[str, Any]) -> None:
        print(json.dumps(_plain(values), allow_nan=False), flush=True)

    def members(self, names: Iterable[str]) -> None:
        """Take over who takes part: who of them is missing from a round is told."""
        self._members = set(names)
        self.view.nodes = {name: {} for name in self._members}

    def nodes(self, members: list[Any], states: dict[str, str]) -> None:
        """Print how the job of each node is, and what it says of its data: counts, and no row."""
        heads = ("node", "job", "data set", "rows", "labels", "mock sample (made up)")
        table = Table(box=None, pad_edge=False)
        room = len(heads) if self.console.width >= tables.WIDE else 2
        for head in heads[:room]:
            table.add_column(head, overflow="fold")
        if self.quiet or self.as_json:
            return
        for member in members[: tables.MOST]:
            told = member.described
            labels = ", ".join(told["labels"])
            mock = ", ".join(next(iter(told["mock"].values()))[:3])
            state = states[member.name]
            texts = (member.name, state, told["dataset"], f"{told['rows']:,}", labels, mock)
            table.add_row(*map(self._fit, texts[:room]))
        self.console.print(table)
        if others := members[tables.MOST :]:
            self.console.print(f"and {len(others):,} nodes more")

    def event(self, event: dict[str, Any], bytes_moved: int) -> None:
        """Show a round or an evaluation as `federate` tells it."""
        if self.as_json:
            self._object(event)
            return
        self.view.take(event, bytes_moved / 1e6)
        if event["event"] == "evaluation":
            self.accuracy = f"  accuracy {100 * event['accuracy']:.1f} %"
        if event["event"] != "round":
            return
        self._tell_who_is_missing(event)
        number = event["round"]
        figures = (
            f"loss {event['loss']:.3f}{self.accuracy}"
            f"  {event['seconds']:.3f} s/round" + counted(bytes_moved / 1e6)
        )
        if self.is_live or self.quiet:
            return
        if number % max(1, self.rounds // PLAIN_LINES) == 0 or number == self.rounds:
            width = len(str(self.rounds))
            left = f"{self.view.left:3.0f} s left"
            self.say(f"round {number:{width}} of {self.rounds}  {figures}  {left}")

    def _tell_who_is_missing(self, event: dict[str, Any]) -> None:
        here = event["nodes"].keys()
        missing = (self._members & set(event.get("drawn", self._members))) - here
        lost, back = sorted(missing - self._missing), sorted(self._missing & here)
        for name in lost[: tables.MOST]:
            why = event["errors"].get(name, "no answer")
            self.say(f"{name} is left out from round {event['round']} on: {why}")
        for name in back[: tables.MOST]:
            self.say(f"{name} is back in round {event['round']}")
        for names, become in (lost, "left out"), (back, "back"):
            if others := names[tables.MOST :]:
                self.say(f"and {len(others):,} nodes more are {become} in round {event['round']}")
        self._missing = (self._missing | missing) - here

    def summary(self, summary: dict[str, Any], worst: list[tuple[str, float]], folder: str) -> None:
        """Print the tables at the end."""
        if self.as_json:
            self._object({"event": "summary", "folder": folder, **summary})
            return
        if self.quiet:
            self.console.print(self._fit(folder))
            return
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for name in tables.FIGURES:
            value = summary[name]
            shown = "not measured: interrupted" if value is None else tables.percent(value)
            table.add_row(tables.words(name), shown)
        weak = ", ".join(f"{label} {100 * recall:.0f} %" for label, recall in worst)
        table.add_row("worst", self._fit(weak))
        up, down = summary["bytes_up"] / 1e6, summary["bytes_down"] / 1e6
        moved = f"{up:.1f} MB up, {down:.1f} MB down" if up or down else "not counted"
        table.add_row("traffic", moved)
        seconds = summary["round_seconds"]
        table.add_row("rounds", f"{summary['rounds']} of {seconds['median']:.3f} s (median)")
        table.add_row("in all", f"{summary['seconds_total']:.0f} s")
        table.add_row("results", self._fit(folder))
        self.console.print()
        self.console.print(tables.nodes(summary, self.console))
        if "comparison" in summary:
            self.console.print()
            self.console.print(tables.comparison(summary, self.console))
        self.console.print()
        self.console.print(table)


def _plain(value: Any) -> Any:
    """Return what JSON has words for: it has none for what is no number."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
