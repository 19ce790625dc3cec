"""The same app on each engine, for the same few rounds, and what a thousand nodes take.

`python -m bench.engines` needs the lab (`ansible-playbook site.yml`), Ray (`make simulation`) and
SuperNodes in the lab (`ansible-playbook playbooks/flower.yml -e flower_allowed=true`). It takes an
hour or more, most of it for a thousand simulated nodes (`--few` leaves those out), writes
bench/results/engines.json and draws docs/scaling.svg. Memory is what a node's processes have at
most; of the simulation it is all that runs on this machine, shared between its nodes.

lab           PySyft's jobs over SSH: every owner is asked; three nodes of the lab
simulation    Flower's simulation: before there are nodes; three of them here
superlink     Flower's SuperLink: nodes that can only call out; the lab's nodes as SuperNodes
N simulated   N nodes of 200 names each at Dirichlet 0.1, a tenth of them in each of 300 rounds
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("svg")

import psutil
from matplotlib import pyplot

from bench.figures import Row, explained, publish, row
from fedrnn.checkout import ROOT

RESULTS = Path(__file__).parent / "results" / "engines.json"
PICTURE = ROOT / "docs" / "scaling.svg"
FEW = ("--strategy", "fedavg", "--rounds", "4")
ENGINES = {
    "lab": (),
    "simulation": ("--engine", "simulation", "--local", "3"),
    "superlink": ("--engine", "superlink", "--without-governance"),
}
NODES = (10, 100, 1000)
MANY = ("--split", "dirichlet:0.1:200", "--set", "sample=0.1", "--set", "evaluate_every=50")
SEEDS = (0, 1, 2)
LOOK_SECONDS = 2.0


@dataclass(frozen=True)
class Run:
    """What a run took: seconds in all and of the median round, MB, accuracy in %."""

    seconds: float
    round_seconds: float
    node_mb: float
    here_mb: float
    accuracy: float


def run(*words: str) -> Run:
    """Train and look at the memory of what is started here; what fails ends the bench."""
    process = subprocess.Popen(
        [sys.executable, "-m", "fedrnn.run", "--quiet", *words], cwd=ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    most, done = [0.0], threading.Event()

    def look() -> None:
        while not done.wait(LOOK_SECONDS):
            most[0] = max(most[0], tree_mb(process.pid))

    looking = threading.Thread(target=look)
    looking.start()
    out, errors = process.communicate()
    done.set()
    looking.join()
    if process.returncode:
        sys.exit(f"fedrnn.run {' '.join(words)} failed:\n{out[-2000:]}{errors[-2000:]}")
    summary = json.loads((ROOT / out.split()[-1] / "summary.json").read_text())
    return Run(
        summary["seconds_total"],
        summary["round_seconds"]["median"],
        max(sum(node["rss_mb_max"].values()) for node in summary["nodes"].values()),
        most[0],
        100 * summary["accuracy"],
    )


def tree_mb(pid: int) -> float:
    """Return the memory of a process and of all that it has started, what they share once."""
    total = 0.0
    try:
        for process in (one := psutil.Process(pid), *one.children(recursive=True)):
            try:
                total += process.memory_full_info().pss / 1e6
            except psutil.Error:
                continue
    except psutil.Error:
        return total
    return total


def engines() -> list[Row]:
    """Measure the same rounds on every engine; the rival of the others is the lab."""
    rows: list[Row] = []
    lab = None
    for name, words in ENGINES.items():
        took = run(*words, *FEW)
        lab = lab or took
        memory = took.here_mb if name == "simulation" else took.node_mb
        for figure, unit, ours, theirs in (
            ("a round", "s", took.round_seconds, lab.round_seconds),
            ("memory of a node", "MB", memory, lab.node_mb),
            ("accuracy after four rounds of FedAvg", "%", took.accuracy, lab.accuracy),
        ):
            rival = None if name == "lab" else theirs
            rows.append(row(f"{name}: {figure}", unit, ours, rival, of=rival and "the lab"))
        print(name, took)
    return rows


def crowds() -> list[Row]:
    """Measure more and more simulated nodes; draw their accuracy."""
    rows: list[Row] = []
    reached: dict[int, list[float]] = {}
    for number in NODES:
        engine = ("--engine", "simulation", "--local", str(number))
        runs = [run(*engine, *MANY, "--seed", str(seed)) for seed in SEEDS]
        reached[number] = [one.accuracy for one in runs]
        spread = statistics.stdev(reached[number]) / len(runs) ** 0.5
        rows += [
            row(f"{number} simulated: accuracy", "%", statistics.fmean(reached[number]), None,
                spread=spread),
            row(f"{number} simulated: a round", "s",
                statistics.fmean(one.round_seconds for one in runs), None),
            row(f"{number} simulated: the run", "s",
                statistics.fmean(one.seconds for one in runs), None),
            row(f"{number} simulated: memory here", "MB", max(one.here_mb for one in runs), None),
        ]  # fmt: skip
        print(number, runs)
    draw(reached)
    return rows


def draw(reached: dict[int, Sequence[float]] | dict[int, list[float]]) -> None:
    """Draw accuracy against the number of nodes: the mean, and each seed as a dot."""
    matplotlib.rcParams["svg.hashsalt"] = "fedrnn"  # the same picture for the same figures
    figure, axis = pyplot.subplots(figsize=(6, 3.6), layout="constrained")
    axis.plot(list(reached), [statistics.fmean(several) for several in reached.values()])
    for number, several in reached.items():
        axis.plot([number] * len(several), several, "o", color="C0", markersize=4)
    axis.set_xscale("log")
    axis.set_xticks(list(reached), [f"{number:,}" for number in reached])
    axis.set_xlabel("nodes of 200 names each at Dirichlet 0.1, a tenth in each round")
    axis.set_ylabel("accuracy, %")
    axis.grid(alpha=0.3)
    figure.savefig(PICTURE, metadata={"Date": None})
    pyplot.close(figure)
    print(PICTURE)


def main() -> int:
    """Measure, print the table, write the results and the picture."""
    parser = explained("engines", __doc__)
    parser.add_argument("--few", action="store_true", help="the engines alone, no crowds")
    parser.add_argument("--engines", default=",".join(ENGINES), help="these engines only")
    asked = parser.parse_args()
    for name in set(ENGINES) - set(asked.engines.split(",")):
        del ENGINES[name]
    rows = engines()
    if not asked.few:
        rows += crowds()
    publish(rows, RESULTS)
    print(f"{os.cpu_count()} processors; nodes and controller share them")
    return 0


if __name__ == "__main__":
    sys.exit(main())
