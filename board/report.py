"""What a run over a board says on the way, and its table at the end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table


@dataclass
class Report:
    """What the table at the end shows, and the line per phase on the way."""

    console: Console
    figures: list[tuple[str, str]] = field(default_factory=list)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Say that a phase begins, and how long it took; it becomes a figure."""
        self.console.print(f"▶ {name} …")
        started = time.monotonic()
        yield
        seconds = time.monotonic() - started
        self.console.print(f"  {name}: {minutes(seconds)}")
        self.figure(name, minutes(seconds))

    def figure(self, name: str, value: str) -> None:
        """Add a line to the table."""
        self.figures.append((name, value))

    def show(self, title: str) -> None:
        """Print the table."""
        table = Table("what", "figure", title=title)
        for row in self.figures:
            table.add_row(*row)
        self.console.print(table)


def minutes(seconds: float) -> str:
    """Return 75 seconds as 1 min 15 s."""
    return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"
