"""scripts/test.sh and test_all.sh around suites that only print: order, last line, table."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTEST = """#!/bin/sh
echo "pytest $*" >> calls
echo "1 passed in the words of a test"
echo "=== ${FAILED:+$FAILED failed, }3 passed, 1 skipped in 0.12s (0:00:00) ==="
exit ${FAILED:-0}
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".cache/labs/gw1/inventory/lab").mkdir(parents=True)
    (tmp_path / ".cache/labs/gw1/inventory/lab/ports.yml").touch()
    programs = {
        **{f"scripts/{name}.sh": f'#!/bin/sh\necho "{name} $*" >> calls\n'
           for name in ("system", "venv", "lint")},
        ".venv/bin/pytest": PYTEST, ".venv/bin/make": "#!/bin/sh\n",
        ".venv/bin/python3": '#!/bin/sh\necho "python3 $*" >> calls\n',
    }  # fmt: skip
    for name, text in programs.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return tmp_path


def run(clone: Path, script: str, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "STEPS_FILE"}
    return subprocess.run(
        [clone / "scripts" / script, *words],
        cwd=clone, env={**environment, **more}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize(("words", "suites", "passed"), [(["check"], 1, 3), ([], 3, 9)])
def test_cheap_steps_come_first_and_the_last_line_counts(clone, words, suites, passed):
    done = run(clone, "test.sh", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    calls = (clone / "calls").read_text().splitlines()
    order = [call.split()[0] for call in calls]
    assert order == ["system", "venv", "lint", *["pytest"] * suites, *["python3"] * (not words)]
    assert "tests/unit tests/contract" in calls[3]
    last = done.stdout.splitlines()[-1]
    suite = words[0] if words else "test"
    found = re.fullmatch(
        rf"make {suite} passed: {passed} tests passed in 0 min 0\d s. Log: (\.cache/\S+\.log)", last
    )
    assert found, last
    assert "=== 3 passed" in (clone / found[1]).read_text()
    steps = (clone / found[1]).with_suffix(".tsv").read_text().splitlines()
    assert len(steps) == 2 + suites and all(re.fullmatch(r".+\t\d+\t\d+", step) for step in steps)


def test_a_failed_step_ends_the_run_and_is_in_the_last_line(clone):
    done = run(clone, "test.sh", FAILED="2")
    assert done.returncode == 2
    assert (clone / "calls").read_text().count("pytest") == 1
    assert "failed (exit 2) in step 3 of 5" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("make test failed: 3 tests passed in 0 min 0")


def test_all_suites_run_whatever_fails_and_a_table_ends_them(clone):
    (clone / "Makefile").write_text("good:\n\t@echo fine\nbad:\n\t@exit 3\nlast:\n\t@echo done\n")
    (clone / ".venv/bin/make").unlink()
    done = run(clone, "test_all.sh", "good", "bad", "last")
    assert done.returncode == 1
    table = [line.split()[:3] for line in done.stdout.splitlines()[-4:]]
    assert table[0] == ["suite", "result", "minutes"]
    assert table[1:] == [["good", "passed", "0"], ["bad", "failed", "0"], ["last", "passed", "0"]]
