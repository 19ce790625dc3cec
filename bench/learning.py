"""What federated training by gradients is worth, on the embedded names, beside its rivals.

``python -m bench.learning`` (five paired runs each; about half an hour of CPU time, halved by
``--jobs 2`` where a second core is idle) writes ``bench/results/learning.json`` and draws
``docs/learning.svg``. All nodes live in this process, so its seconds are those of their compute
one after another. A run's seed is that of the weights, of the parts and of the split: run i of
every way has the same test names. Whatever is chosen (the round of a run, the settings of FedAvg
and FedProx) is chosen on the validation part. Rivals: central training, which is the same code
with one node that has all names; Flower's FedAvg and FedProx, tuned on a small grid and with half
as many passes again over the data as ours; the classic tutorial's loop for the speed.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.curves import draw
from bench.figures import Row, publish, row
from bench.runs import Result, Task, run
from bench.tutorial import speeds
from fedrnn.config import RunConfig
from fedrnn.learning.checkpoint import ModelConfig
from fedrnn.learning.embedded import names
from fedrnn.learning.model import parameters_of

Settings = Mapping[str, Any]
RESULTS = Path(__file__).parent / "results" / "learning.json"
CENTRAL = Task("iid", 1)
TWO = Task("language", 2)
WAYS = {
    "two nodes": (TWO, -0.7),
    "three nodes by language": (Task("language", 3), -1.0),
    "ten nodes by language": (Task("language", 10), -1.0),
    "fifty nodes at Dirichlet 0.1": (Task("dirichlet:0.1", 50), -1.0),
    "ten nodes iid": (Task("iid", 10), -1.0),
}
FEDAVG_GRID: list[Settings] = [
    {"local_lr": rate, "dropout": dropout}
    for rate, dropout in itertools.product((0.025, 0.05, 0.1, 0.2), (0.1, 0.3, 0.5))
]
FEDPROX_GRID: list[Settings] = [
    {"options": {"proximal_mu": mu}} for mu in (0.0001, 0.001, 0.01, 0.1)
]
GRID_ROUNDS, RIVAL_ROUNDS = 30, 40


def measure(pool: ProcessPoolExecutor, tasks: Sequence[Task]) -> list[Result]:
    """Run the tasks and tell how far it is."""
    started = time.perf_counter()
    results = []
    for number, result in enumerate(pool.map(run, tasks), 1):
        results.append(result)
        task, end = result.task, result.curve[-1]
        print(
            f"{time.perf_counter() - started:5.0f} s  {number}/{len(tasks)}  {task.strategy},"
            f" {task.split}, nodes {task.nodes}, seed {task.seed} {dict(task.values) or ''}:"
            f" validation {result.validation:.1f}, test {result.accuracy:.1f} /"
            f" {result.macro_recall:.1f} %, {end.megabytes:.1f} MB a node, {end.seconds:.0f} CPU s",
            flush=True,
        )
    return results


def seeded(task: Task, seeds: int) -> list[Task]:
    """Return the task once per seed."""
    return [replace(task, seed=seed) for seed in range(seeds)]


def gridded(strategy: str, grid: Iterable[Settings]) -> list[Task]:
    """Return a task per point of a grid: two nodes, seed 0."""
    return [
        replace(TWO, strategy=strategy, values={**values, "rounds": GRID_ROUNDS}) for values in grid
    ]


def tuned(results: Sequence[Result]) -> Task:
    """Return the task that does best on the validation part, at the rounds of the figures."""
    best = max(results, key=lambda result: result.validation).task
    return replace(best, values={**best.values, "rounds": RIVAL_ROUNDS})


def spread(values: Sequence[float]) -> float:
    """Return the standard error of the mean."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def differences(way: str, floor: float, ours: list[Result], central: list[Result]) -> list[Row]:
    """Return accuracy and macro-recall of a way beside central training, and minus it."""
    rows = []
    for figure, of in (("accuracy", "accuracy"), ("macro-recall", "macro_recall")):
        mine = [float(getattr(result, of)) for result in ours]
        theirs = [float(getattr(result, of)) for result in central]
        paired = [a - b for a, b in zip(mine, theirs, strict=True)]
        mean = statistics.fmean
        rows += [
            row(f"{way} minus central {figure}", "points", mean(paired), 0.0, floor, 0.0,
                spread=spread(paired), of="central training itself"),
            row(f"{way} {figure}", "%", mean(mine), mean(theirs), spread=spread(mine),
                of="central training"),
        ]  # fmt: skip
    return rows


def main() -> None:
    """Measure, write the result and print it."""
    parser = argparse.ArgumentParser(prog="python -m bench.learning", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="runs per figure (default 5)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once, a core each (default 1)")
    given = parser.parse_args()
    mean = statistics.fmean

    speed = speeds()
    print(speed, flush=True)
    seeds = given.seeds
    with ProcessPoolExecutor(given.jobs) as pool:
        tasks = [CENTRAL, *(task for task, _ in WAYS.values())]
        results = measure(
            pool,
            [
                *(one for task in tasks for one in seeded(task, seeds)),
                *gridded("fedavg", FEDAVG_GRID),
            ],
        )
        central, *federated = (
            results[start : start + seeds] for start in range(0, seeds * len(tasks), seeds)
        )
        ways = dict(zip(WAYS, federated, strict=True))
        best = tuned(results[seeds * len(tasks) :])
        settings = best.values
        results = measure(
            pool,
            [
                *seeded(best, seeds),
                *gridded("fedprox", [{**settings, **more} for more in FEDPROX_GRID]),
            ],
        )
        fedavg = results[:seeds]
        fedprox = measure(pool, seeded(tuned(results[seeds:]), seeds))

    rows = []
    for figure, of in (("accuracy", "accuracy"), ("macro-recall", "macro_recall")):
        reached = [float(getattr(result, of)) for result in central]
        majority = mean(result.majority for result in central)
        rival = majority if of == "accuracy" else 100 / len(names())
        rows.append(
            row(f"central {figure}", "%", mean(reached), rival, 71.0, 74.0,
                spread=spread(reached), of="the commonest label")
        )  # fmt: skip
    for way, (_, floor) in WAYS.items():
        rows += differences(way, floor, ways[way], central)
    two = ways["two nodes"]
    for name, theirs in (("FedAvg", fedavg), ("FedProx", fedprox)):
        of = f"{name}, {RIVAL_ROUNDS} rounds, {dict(theirs[0].task.values)}"
        for figure in ("accuracy", "macro_recall"):
            mine, other = ([getattr(r, figure) for r in results] for results in (two, theirs))
            label = f"two nodes {figure.replace('_', '-')} beside {name}"
            rows.append(
                row(label, "%", mean(mine), mean(other), spread=spread(mine),
                    rival_spread=spread(other), of=of)
            )  # fmt: skip
    down_and_up, theirs_too = (
        mean(result.curve[-1].megabytes for result in results) for results in (two, fedavg)
    )
    rows.append(
        row("bytes a node", "MB", down_and_up, theirs_too, 110, 30,
            of=f"FedAvg, {RIVAL_ROUNDS} rounds, to an accuracy that is lower")
    )  # fmt: skip
    parameters = len(parameters_of(ModelConfig(tuple(names())).build()))
    rows += [
        row("rounds", "rounds", RunConfig().rounds, RIVAL_ROUNDS, 600, 300, of="FedAvg"),
        row("model", "kB", 4e-3 * parameters, 350.0, 350, of="what it may be, as float32"),
        row("tutorial speed", "us a name", 1e6 / speed.like, 1e6 / speed.tutorial, 12, 20,
            times=True, of="the tutorial's loop; ours trains a plain RNN of 128 units too"),
        row("tutorial speed of the default network", "us a name", 1e6 / speed.default,
            1e6 / speed.tutorial, times=True, of="the tutorial's loop on its own, smaller network"),
        row("share of the matmul bound", "names/s", speed.default, speed.bound, 0.4, 0.5,
            of="a large matmul of the same FLOPs"),
    ]  # fmt: skip
    publish(rows, RESULTS)
    draw({"gradients": two, "FedAvg": fedavg, "FedProx": fedprox}, central)


if __name__ == "__main__":
    main()
