"""What it costs to look: the report of a long run, the cluster at a glance, the live view.

`python -m bench.look` needs the lab (`ansible-playbook site.yml`); two minutes.

report        seconds of `python -m fedrnn.report` for 600 rounds on ten nodes, charts and all
report size   megabytes of that page, the model in it included
nodes         seconds of `python -m fedrnn.nodes` on the lab's three nodes, from start to end
live          CPU of the controller in a run of three local nodes, its live view included, as a
              multiple of that without drawing it
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path
from unittest.mock import patch

from rich.live import Live

from bench.figures import Row, publish, row
from fedrnn import run
from fedrnn.checkout import ROOT
from fedrnn.learning.embedded import names
from tests.made_runs import make_run

RESULTS = Path(__file__).parent / "results" / "look.json"
ROUNDS, NODES, TURNS = 600, 10, 3
LIVE_ROUNDS = 100


def seconds(*words: str) -> float:
    """Return how long a command of ours takes, the best of a few turns."""
    taken = []
    for _ in range(TURNS):
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True
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


def live() -> Row:
    """Measure the CPU of a run that draws its view, and within it that of drawing."""
    drawing, refresh = 0.0, Live.refresh

    def timed(view: Live) -> None:
        nonlocal drawing
        started = time.thread_time()
        refresh(view)
        drawing += time.thread_time() - started

    terminal = {"FORCE_COLOR": "1", "TERM": "xterm-256color", "COLUMNS": "92", "LINES": "50"}
    with patch.dict(os.environ, terminal), patch.object(Live, "refresh", timed):
        started = time.process_time()
        with redirect_stdout(io.StringIO()) as shown:
            code = run.main(["--local", "3", "--rounds", str(LIVE_ROUNDS)])
        total = time.process_time() - started
    if code or "trains" not in shown.getvalue():
        sys.exit(f"the run was not drawn:\n{shown.getvalue()}")
    return row("live", "CPU s", total, total - drawing, 1.03, of="the same run, less its drawing")


def main() -> int:
    """Measure, print the table and write the results."""
    with tempfile.TemporaryDirectory() as box:
        folder = Path(box) / "run"
        rows = reports(folder)
        rows.append(row("nodes", "s", seconds("fedrnn.nodes"), None, 2, of="three nodes"))
        rows.append(live())
    publish(rows, RESULTS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
