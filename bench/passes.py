"""Follow every pass of a node's datasite until the input ends, then tell what they took.

`bench.governance` hands this file to the node's own Python, as root.
"""

import contextlib
import json
import os
import select
import sys
import time
from pathlib import Path

TICKS, PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
EVERY = 0.01  # seconds


def processes() -> list[Path]:
    """Return the folder of each process."""
    return [folder for folder in Path("/proc").iterdir() if folder.name.isdigit()]


def fields(process: Path) -> list[str]:
    """Return what `stat` tells after the name: the state first."""
    return (process / "stat").read_text().rpartition(")")[2].split()


def is_pass(process: Path) -> bool:
    """Tell the datasite's main process from all others."""
    in_unit = "/fedrnn-datasite.service" in (process / "cgroup").read_text()
    return in_unit and fields(process)[1] == "1"


def look(process: Path) -> dict[str, float]:
    """Return the peak of the memory so far, the seconds since its start, and of CPU."""
    stat = fields(process)
    peak = int((process / "status").read_text().partition("VmHWM:")[2].split()[0])
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - int(stat[19]) / TICKS
    return {"mb": peak / 1024, "seconds": age, "cpu": (int(stat[11]) + int(stat[12])) / TICKS}


def idle_mb() -> float:
    """Return what all processes of the datasite, of jobs and of their launcher hold now."""
    pages = 0
    for process in processes():
        with contextlib.suppress(OSError):
            if "fedrnn" in (process / "cgroup").read_text():
                pages += int((process / "statm").read_text().split()[1])
    return pages * PAGE / (1 << 20)


def main() -> None:
    """Follow, then tell."""
    others: set[Path] = set()
    passes: dict[Path, dict[str, float]] = {}
    while not select.select([sys.stdin], [], [], EVERY)[0]:
        for process in set(processes()) - others:
            # One that just ended has no line VmHWM any more, or is no file at all.
            with contextlib.suppress(OSError, IndexError):
                if process in passes or is_pass(process):
                    passes[process] = look(process)
                # A fork of systemd is not yet what it will be.
                elif not (process / "comm").read_text().startswith(("(", "systemd")):
                    others.add(process)
    print(json.dumps({"idle_mb": idle_mb(), "passes": list(passes.values())}))


main()
