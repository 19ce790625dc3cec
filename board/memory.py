"""Peak memory and swap of each process on a board, watched from the controller."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from board.qemu import BoardError

# One program and no more, for each costs a board a second: name, unit, peak and swap of all.
COMMAND = (
    "sudo grep -sHE '^(Name|VmHWM|VmSwap|0:):' /proc/[0-9]*/status /proc/[0-9]*/cgroup || true"
)
LINE = re.compile(r"/proc/(\d+)/\w+:(\w*):+\s*(.*)")


@dataclass
class Peak:
    """The most that a process held, in MB: resident, and in swap."""

    resident: float = 0.0
    swap: float = 0.0


def read_peaks(text: str) -> dict[str, Peak]:
    """Return the peaks by `unit name` from what COMMAND prints; kernel threads have none."""
    processes: dict[str, dict[str, str]] = {}
    for pid, key, value in LINE.findall(text):
        processes.setdefault(pid, {})[key] = value
    peaks: dict[str, Peak] = {}
    for seen in processes.values():
        if "VmHWM" not in seen:
            continue
        unit = next((value for key, value in seen.items() if value.startswith("/")), "")
        unit = unit.rpartition("/")[2].partition("@")[0].removesuffix(".service")
        unit = re.sub(r"session-.*", "session", unit)
        peak = peaks.setdefault(f"{unit} {seen['Name']}", Peak())
        peak.resident = max(peak.resident, int(seen["VmHWM"].split()[0]) / 1000)
        peak.swap = max(peak.swap, int(seen.get("VmSwap", "0 kB").split()[0]) / 1000)
    return peaks


@dataclass
class Watch:
    """Looks every few seconds, in a thread, while its block runs."""

    ask: Callable[[str], str]
    seconds: float = 5.0
    peaks: dict[str, Peak] = field(default_factory=dict)

    def __enter__(self) -> Watch:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)

    def _look(self) -> None:
        while not self._stop.wait(self.seconds):
            try:
                seen = read_peaks(self.ask(COMMAND))
            except BoardError:
                continue  # a board that is busy is asked again
            for name, peak in seen.items():
                most = self.peaks.setdefault(name, Peak())
                most.resident = max(most.resident, peak.resident)
                most.swap = max(most.swap, peak.swap)
