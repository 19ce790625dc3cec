"""What the tests cost: as a whole with cold and with warm caches, and without nodes.

`python -m bench.testing` makes a new clone of the last commit and runs `make test` there twice and
`make check` once: 50 minutes. `--clone FOLDER` takes the records of a clone where these have run
already. CPU seconds are those of the whole machine: leave it alone meanwhile.

make test cold   minutes of the first `make test`: without .venv, lab or cache, pip's own included
make test warm   minutes of the last `make test`
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
LOGS = ".cache/test-logs"


def run(clone: Path) -> None:
    """Run the suites in a new clone."""
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    environment = {**os.environ, "YES": "1", "PIP_NO_CACHE_DIR": "1"}
    for suite in ("test", "test", "check"):
        if subprocess.run(["make", suite], cwd=clone, env=environment, check=False).returncode:
            sys.exit(f"make {suite} failed in {clone}, which is kept with its logs")


def measured(figure: str, record: Path, floor: float, aim: float) -> list[Row]:
    """Return a suite's minutes, and the wall and CPU seconds of each of its steps."""
    steps = [line.split("\t") for line in record.read_text().splitlines()]
    seconds, work = (sum(int(step[column]) for step in steps) for column in (1, 2))
    rows = [row(figure, "min", seconds / 60, None, floor, aim) | {"cpu seconds": work}]
    for title, wall, cpu in steps:
        rows.append(row(f"{figure}: {title}", "s", int(wall), None) | {"cpu seconds": int(cpu)})
    return rows


def main() -> None:
    """Measure, print the table and write the rows."""
    parser = explained("testing", __doc__)
    parser.add_argument("--clone", type=Path, metavar="FOLDER", help="a clone where the suites ran")
    given = parser.parse_args().clone
    clone = given or Path(tempfile.mkdtemp(prefix="testing-")) / "fedrnn"
    if not given:
        run(clone)
    whole = sorted((clone / LOGS).glob("*-make-test.tsv"))
    check = sorted((clone / LOGS).glob("*-make-check.tsv"))
    if len(whole) < 2 or not check:
        sys.exit(f"{clone / LOGS} needs the records of `make test`, twice, and of `make check`")
    publish(
        measured("make test cold", whole[0], 25, 20)
        + measured("make test warm", whole[-1], 20, 15)
        + measured("make check", check[-1], 4, 3),
        RESULTS,
    )
    if not given:
        subprocess.run(["make", "clean"], cwd=clone, check=True)
        shutil.rmtree(clone.parent)


if __name__ == "__main__":
    main()
