"""A worker that dies in the middle of a run, without SSH: the run goes on without it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import ROOT

RUN = ("--rounds", "200", "--hidden", "16", "--set", "evaluate_every=20")


def worker_of(owner: str, temporary: str) -> int:
    """The process that trains for this owner, of the run with this temporary folder."""
    for file in Path("/proc").glob("[0-9]*/environ"):
        try:
            variables = file.read_bytes().split(b"\0")
            command = (file.parent / "cmdline").read_bytes()
        except OSError:
            continue
        ours = any(word.startswith(f"FEDRNN_SOCKET={temporary}/".encode()) for word in variables)
        if ours and f"SYFTBOX_EMAIL={owner}".encode() in variables and b"main.py" in command:
            return int(file.parent.name)
    raise LookupError(owner)


@pytest.fixture
def temporary() -> Iterator[str]:
    """Short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as folder:
        yield folder


def test_a_run_goes_on_and_keeps_its_model(tmp_path: Path, temporary: str) -> None:
    shutil.copytree(ROOT / "fedrnn", tmp_path / "fedrnn")
    run = subprocess.Popen(
        [sys.executable, "-m", "fedrnn.run", "--local", "2", *RUN],
        cwd=tmp_path, env={**os.environ, "TMPDIR": temporary},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    seen = ""
    while "round  40 of" not in seen:
        line = run.stdout.readline()
        assert line, seen
        seen += line
    os.kill(worker_of("node2@lab.local", temporary), signal.SIGKILL)
    rest, _ = run.communicate(timeout=120)
    assert run.returncode == 0, rest
    summary = json.loads((tmp_path / "runs" / "latest" / "summary.json").read_text())
    assert summary["rounds"] == 200 and summary["accuracy"] is not None
    assert summary["jobs"] == {"node1": "done", "node2": "failed"}
    assert "node2" in rest
