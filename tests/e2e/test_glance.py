"""`fedrnn.nodes` over real SSH: three nodes, one that is stopped, and another key."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cluster import ROOT

pytestmark = pytest.mark.usefixtures("lab")


def nodes(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fedrnn.nodes", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_lab_is_healthy_and_each_node_tells_what_runs_on_it():
    done = nodes("--json")
    told = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert told["healthy"] and [row["node"] for row in told["nodes"]] == ["pi1", "pi2", "pi3"]
    for row in told["nodes"]:
        assert row["torch"] and row["pysyft"] == "0.10.0" and row["datasite"] == "listens"
        assert row["celsius"] is row["card_errors"] is None  # a container tells its host's


def test_a_failed_datasite_makes_the_exit_code_tell():
    def do(command: str) -> None:
        ansible = [Path(sys.executable).with_name("ansible"), "pi2", "-a"]
        subprocess.run([*ansible, command], cwd=ROOT, check=True, capture_output=True)

    do("systemctl stop fedrnn-datasite.path")
    try:
        done = nodes()
    finally:
        do("systemctl start fedrnn-datasite.path")
    assert done.returncode == 1 and "pi2: its datasite does not listen" in done.stdout
    assert "2 of 3 nodes are healthy" in done.stdout
    assert nodes("--nodes", "pi1,pi3").returncode == 0
