"""What the tests cost: as a whole with cold and with warm caches, and without nodes.

`python -m bench.testing` makes a new clone of the last commit, runs `make test` there twice and
`make check` once, and reads the durations that these have written themselves. 40 minutes; CPU
seconds are those of the whole machine, so leave it alone meanwhile.

make test cold   minutes of `make test` in a clone without .venv, lab or cache, and pip's cache off
make test warm   minutes of a second `make test` there
make check       minutes of `make check`, with the .venv
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.figures import Row, explained, publish, row
from lab.engine import ROOT

RESULTS = Path(__file__).parent / "results" / "testing.json"
RUNS = (("make test cold", "test", 25, 20), ("make test warm", "test", 20, 15),
        ("make check", "check", 4, 3))  # fmt: skip


def measured(clone: Path, figure: str, suite: str, floor: float, aim: float) -> list[Row]:
    """Run a suite; return its minutes, and the wall and CPU seconds of each of its steps."""
    environment = {**os.environ, "YES": "1", "PIP_NO_CACHE_DIR": "1"}
    done = subprocess.run(["make", suite], cwd=clone, env=environment, check=False)
    if done.returncode:
        sys.exit(f"make {suite} failed in {clone}, which is kept with its logs")
    record = max((clone / ".cache/test-logs").glob(f"*-make-{suite}.tsv"))
    steps = [line.split("\t") for line in record.read_text().splitlines()]
    seconds = sum(int(wall) for _, wall, _ in steps)
    work = sum(int(cpu) for *_, cpu in steps)
    rows = [row(figure, "min", seconds / 60, None, floor, aim) | {"cpu seconds": work}]
    for title, wall, cpu in steps:
        rows.append(row(f"{figure}: {title}", "s", int(wall), None) | {"cpu seconds": int(cpu)})
    return rows


def main() -> None:
    """Measure, print the table and write the rows."""
    explained("testing", __doc__).parse_args()
    folder = Path(tempfile.mkdtemp(prefix="testing-"))
    clone = folder / "fedrnn"
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    rows = [one for run in RUNS for one in measured(clone, *run)]
    subprocess.run(["make", "clean"], cwd=clone, check=True)
    shutil.rmtree(folder)
    publish(rows, RESULTS)


if __name__ == "__main__":
    main()
