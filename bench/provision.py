"""What provisioning costs: with nothing to do, from bare nodes, and with twice as many.

`python -m bench.provision` uses copies of this clone with labs of their own, and their warm caches;
the lab of this clone is left alone. About fifteen minutes.

unchanged: `site.yml` on three nodes that need nothing, as a multiple of `ansible all -m ping`
bare:      `site.yml` on three bare nodes, their images, wheels and packages in the caches, seconds
six:       the same on six bare nodes, as a multiple of `bare`
card:      an image checked, written and read back, beside dd and cmp: bench/card.py
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.card import RESULTS, card
from bench.figures import Row, explained, publish, row
from lab.clone import copy

PROGRAMS = Path(sys.executable).parent
PAIRS = 3


@contextmanager
def clone(nodes: int) -> Iterator[Path]:
    """Give a copy of this clone whose lab has so many nodes; remove both afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="provision-")) / "fedrnn"
    copy(folder, {f"pi{number}": "bookworm" for number in range(1, nodes + 1)})
    try:
        yield folder
    finally:
        subprocess.run([sys.executable, folder / "lab/down.py"], check=False)
        shutil.rmtree(folder.parent)


def seconds(folder: Path, *command: str) -> float:
    """Run a program of Ansible in a clone; give what it took. Ends with its output if it fails."""
    started = time.perf_counter()
    done = subprocess.run(
        [PROGRAMS / command[0], *command[1:]],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
    return time.perf_counter() - started


def bare(folder: Path) -> float:
    """Give the seconds of site.yml on nodes that run and have nothing."""
    seconds(folder, "ansible-playbook", "playbooks/lab_up.yml")
    os.sync()  # a gigabyte a node: what was measured before is not to be written meanwhile
    return seconds(folder, "ansible-playbook", "site.yml")


def unchanged(folder: Path) -> Row:
    """Return the seconds of a run with nothing to do beside those of a ping, run by run."""
    ping_s, site_s = [], []
    for _ in range(PAIRS):
        ping_s.append(seconds(folder, "ansible", "nodes", "-m", "ping"))
        site_s.append(seconds(folder, "ansible-playbook", "site.yml"))
    ping, site = statistics.median(ping_s), statistics.median(site_s)
    return row("unchanged", "s", site, ping, 14, 8, of="ansible nodes -m ping")


def main() -> None:
    """Measure, print the table and write the rows."""
    explained("provision", __doc__).parse_args()
    with clone(3) as folder:
        three = bare(folder)
        rows = [unchanged(folder), row("bare", "s", three, None, 180, 120)]
    with clone(6) as folder:
        rows.append(row("six", "s", bare(folder), three, 2.2, 1.5, of="three bare nodes"))
    publish([*rows, card()], RESULTS)


if __name__ == "__main__":
    main()
