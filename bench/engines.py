"""The same app on each engine, for the same few rounds, and what a thousand nodes take.

`python -m bench.engines` needs the lab (`ansible-playbook site.yml`), Ray (`make simulation`) and
SuperNodes in the lab (as each node's owner `sudo touch /etc/fedrnn/flower-allowed`, then
`ansible-playbook playbooks/flower.yml`). It takes half an hour, most of it for a thousand
simulated nodes (`--few` leaves those out), writes bench/results/engines.json and draws
docs/scaling.svg. Memory of a node is the most that its processes have: of a job and its sshd
the sum of each one's peak; of a SuperNode and what it starts their sum, what they share once,
looked at every two seconds; of the simulation all that runs on this machine, which its nodes share.

lab           PySyft's jobs over SSH: every owner is asked; three nodes of the lab
simulation    Flower's simulation: before there are nodes; three of them here
superlink     Flower's SuperLink: nodes that can only call out; the lab's nodes as SuperNodes
N simulated   N nodes of 200 names each at Dirichlet 0.1, a tenth of them in each of 100 rounds
"""

from __future__ import annotations

import json
import os
import shlex
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib

matplotlib.use("svg")

import asyncssh
import psutil
from matplotlib import pyplot
from rich.console import Console
from rich.table import Table

from bench.figures import Row, explained, publish, row
from fedrnn.checkout import ROOT
from fedrnn.inventory import DEFAULT, Node, read_inventory
from fedrnn.nodes import connect
from fedrnn.transport.grid import Loop

RESULTS = Path(__file__).parent / "results" / "engines.json"
PICTURE = ROOT / "docs" / "scaling.svg"
FEW = ("--strategy", "fedavg", "--rounds", "4")
ENGINES = {
    "lab": (),
    "simulation": ("--engine", "simulation", "--local", "3"),
    "superlink": ("--engine", "superlink", "--without-governance"),
}
PURPOSE = {
    "lab": "nodes that SSH reaches, each governed by its owner; hundreds of rounds",
    "simulation": "before there are nodes: what more of them, or another split, would give",
    "superlink": "nodes that can only call out; few rounds, and no owner is asked",
}
UNITS = ("s", "MB", "%")
FIGURES = ("a round", "memory of a node", "accuracy after four rounds of FedAvg")
LOOK_AT_SUPERNODE = """
most=0
while read -r -t 2; [ $? -gt 128 ]; do  # until our end is closed
  uid=$(stat -c %u /proc/$(systemctl show -P MainPID flower-supernode))
  now=$(cat $(pgrep -u $uid | sed 's,.*,/proc/&/smaps_rollup,') 2> /dev/null |
    awk '/^Pss:/ {kb += $2} END {print kb + 0}')
  [ $now -gt $most ] && most=$now
done
echo $most
"""
NODES = {10: (0, 1, 2), 100: (0, 1, 2), 1000: (0,)}  # and the seeds that they are run with
MANY = (
    *("--rounds", "100", "--split", "dirichlet:0.1:200"),
    *("--set", "sample=0.1", "--set", "evaluate_every=50"),
)
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


@contextmanager
def supernodes() -> Iterator[list[float]]:
    """Look at the lab's SuperNodes on their nodes; give the most of each, in MB, at the end."""
    loop, inventory, most = Loop(), read_inventory(DEFAULT), []
    command = f"sudo bash -c {shlex.quote(LOOK_AT_SUPERNODE)}"

    async def look(node: Node) -> asyncssh.SSHClientProcess[str]:
        return await (await connect(inventory, node)).create_process(command)

    async def tell(looking: asyncssh.SSHClientProcess[str]) -> float:
        looking.stdin.write_eof()
        return int((await looking.wait(check=True)).stdout) * 1024 / 1e6

    sessions = [loop.run(look(node)) for node in inventory.nodes]
    yield most
    most += [loop.run(tell(session)) for session in sessions]
    loop.close()


def engines(names: Sequence[str]) -> list[Row]:
    """Measure the same rounds on these engines."""
    took = {}
    for name in names:
        if name == "superlink":
            with supernodes() as most:
                one = run(*ENGINES[name], *FEW)
            one = replace(one, node_mb=max(most))
        else:
            one = run(*ENGINES[name], *FEW)
        took[name] = replace(one, node_mb=one.here_mb) if name == "simulation" else one
        print(name, took[name])
    return beside_each_other(took)


def beside_each_other(took: Mapping[str, Run]) -> list[Row]:
    """Print what each engine took and is for; return it, beside the lab where that was measured."""
    table = Table("", *FIGURES, "what it is for", box=None)
    rows: list[Row] = []
    for name, one in took.items():
        values = (one.round_seconds, one.node_mb, one.accuracy)
        lab = took.get("lab") if name != "lab" else None
        theirs = (lab.round_seconds, lab.node_mb, lab.accuracy) if lab else (None,) * len(values)
        told = []
        for figure, unit, ours, rival in zip(FIGURES, UNITS, values, theirs, strict=True):
            of = "the lab" if lab else None
            what = name if figure == FIGURES[0] else f"{name}: {figure}"
            measured = row(what, unit, ours, rival, of=of)
            rows.append({**measured, "is": figure, "for": PURPOSE[name]})
            told.append(f"{measured['ours']:g} {unit}")
        table.add_row(name, *told, PURPOSE[name])
    Console().print(table)
    return rows


def crowds() -> list[Row]:
    """Measure more and more simulated nodes; draw their accuracy."""
    rows: list[Row] = []
    reached: dict[int, list[float]] = {}
    for number, seeds in NODES.items():
        engine = ("--engine", "simulation", "--local", str(number))
        runs = [run(*engine, *MANY, "--seed", str(seed)) for seed in seeds]
        reached[number] = [one.accuracy for one in runs]
        spread = statistics.stdev(reached[number]) / len(runs) ** 0.5 if len(runs) > 1 else None
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
    rows = engines([name for name in ENGINES if name in asked.engines.split(",")])
    if not asked.few:
        rows += crowds()
    publish(rows, RESULTS)
    print(f"{os.cpu_count()} processors; nodes and controller share them")
    return 0


if __name__ == "__main__":
    sys.exit(main())
