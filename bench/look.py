"""What it costs to look: the report of a long run, the cluster at a glance, the live view.

`python -m bench.look` needs the lab (`ansible-playbook site.yml`); a minute.

report        seconds of `python -m fedrnn.report` for 600 rounds on ten nodes, charts and all
report size   megabytes of that page, the model in it included
nodes         seconds of `python -m fedrnn.nodes` on the lab's three nodes, from start to end
live          the live view's share of the controller's CPU in a run of three local nodes
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from bench.figures import Row, publish, row
from fedrnn.inventory import CHECKOUT
from fedrnn.learning.embedded import names
from fedrnn.reporting.live import REFRESH, View
from fedrnn.reporting.record import read
from tests.made_runs import make_run

RESULTS = Path(__file__).parent / "results" / "look.json"
ROUNDS, NODES, TURNS = 600, 10, 3


def seconds(*words: str) -> float:
    """Return how long a command of ours takes, the best of a few turns."""
    taken = []
    for _ in range(TURNS):
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", *words], cwd=CHECKOUT, capture_output=True, text=True
        )
        if done.returncode:
            sys.exit(f"{' '.join(words)} failed:\n{done.stdout}{done.stderr}")
        taken.append(time.perf_counter() - started)
    return min(taken)


def reports(folder: Path) -> list[Row]:
    """Measure the page of a long run on many nodes, with a model of the usual size."""
    nodes = tuple(f"pi{n}" for n in range(1, NODES + 1))
    make_run(folder, ROUNDS, nodes, tuple(names()), hidden=80, embedding=32)
    taken = seconds("fedrnn.report", str(folder))
    size = (folder / "report.html").stat().st_size / 1e6
    return [
        row("report", "s", taken, None, 5, of="600 rounds, ten nodes"),
        row("report size", "MB", size, None, 2, of="the same page"),
    ]


def live(folder: Path) -> Row:
    """Measure what drawing the view costs, beside the CPU that a run's controller has in a second.

    A controller is busy all the time, so that the share is that of one core.
    """
    record = read(folder)
    view = View(ROUNDS)
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    for event in record.evaluations:
        view.take(event, 1.0)
    started, pictures = time.process_time(), 200
    for event in record.rounds[:pictures]:
        view.take(event, 1.0)
        console.print(view)
    each = (time.process_time() - started) / pictures
    return row(
        "live", "% CPU", 100 * each * REFRESH, None, 3, of="ten nodes, two pictures a second"
    )


def main() -> int:
    """Measure, print the table and write the results."""
    with tempfile.TemporaryDirectory() as box:
        folder = Path(box) / "run"
        rows = reports(folder)
        rows.append(row("nodes", "s", seconds("fedrnn.nodes"), None, 2, of="three nodes"))
        rows.append(live(folder))
    publish(rows, RESULTS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
