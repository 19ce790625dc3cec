"""What one node of five that lies costs, by strategy, and what it cannot do.

``python -m bench.hostile`` (a quarter of an hour of CPU time, halved by ``--jobs 2`` where a second
core is idle) writes ``bench/results/hostile.json``. The embedded names are shared out ``iid`` over
five nodes in this process; one of them sends the negative of what it has learnt, as it is or ten
times as large. The rival of each figure is the same strategy with five honest nodes.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

from bench.figures import Row, explained, publish, row
from bench.learning import measure
from bench.runs import Task
from fedrnn.config import DEFAULT_ROUNDS

RESULTS = Path(__file__).parent / "results" / "hostile.json"
ROBUST = ("krum", "fedmedian")
STRATEGIES = ("gradient", "fedavg", *ROBUST)
HONEST, LIES = 0.0, {"negated": 1.0, "negated, ten times as large": 10.0}
FLOOR = -3.0  # points below the same strategy undisturbed


def main() -> None:
    """Measure, write the result and print it."""
    parser = explained("hostile", __doc__)
    parser.add_argument("--jobs", type=int, default=1, help="runs at once, a core each (default 1)")
    given = parser.parse_args()
    honest = [Task("iid", 5, name, values={"rounds": DEFAULT_ROUNDS[name]}) for name in STRATEGIES]
    factors = (HONEST, *LIES.values())
    tasks = [replace(task, negated=factor) for task in honest for factor in factors]
    with ProcessPoolExecutor(given.jobs) as pool:
        results = iter(measure(pool, tasks))
    rows: list[Row] = []
    for strategy in STRATEGIES:
        undisturbed = next(results).accuracy
        for lie in LIES:
            lied = next(results).accuracy
            floor = FLOOR if strategy in ROBUST else None
            rows += [
                row(f"{strategy}: {lie}", "%", lied, undisturbed, of="five honest nodes"),
                row(f"{strategy}: {lie}, minus undisturbed", "points", lied - undisturbed, 0.0,
                    floor, 0.0, of="five honest nodes"),
            ]  # fmt: skip
    publish(rows, RESULTS)


if __name__ == "__main__":
    main()
