"""The commands of the tutorial that one machine can run, typed one after the other."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from fedrnn.inventory import CHECKOUT

PAGE = CHECKOUT / "docs" / "tutorial.md"


def test_the_tutorial_works_as_it_is_written():
    text = PAGE.read_text().partition("## Three virtual nodes")[0]
    lines = re.findall(r"(?m)^ {4}(\S.*)$", text)
    assert len(lines) == 7
    python = Path(sys.executable).parent
    for line in lines:
        done = subprocess.run(
            ["bash", "-euc", f"PATH='{python}':$PATH; {line}"], cwd=CHECKOUT,
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        if line.startswith("tail"):
            assert json.loads(done.stdout)["event"] == "message"
        if "predict" in line:
            assert done.stdout.splitlines()[0].startswith("Kowalski")
    assert (CHECKOUT / "runs" / "latest" / "report.html").is_file()
    (CHECKOUT / "rounds.jsonl").unlink()
    shutil.rmtree(CHECKOUT / "runs" / "compare-plots")
