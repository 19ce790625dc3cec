"""`--help`, as a terminal of 80 columns and 24 lines shows it."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMANDS = sorted(
    file.stem for file in (ROOT / "fedrnn").glob("*.py") if "\nif __name__ ==" in file.read_text()
)


def test_there_are_commands():
    assert {"nodes", "owner", "predict", "report", "run"} <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_a_screen_and_gives_an_example(name):
    told = subprocess.run(
        [sys.executable, "-m", f"fedrnn.{name}", "--help"], cwd=ROOT, check=True,
        env={**os.environ, "COLUMNS": "80"}, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert sum(max(1, math.ceil(len(line) / 80)) for line in told.splitlines()) <= 24, told
    command = "fedrnn-owner" if name == "owner" else f"python -m fedrnn.{name}"
    assert f"example: {command}" in told
