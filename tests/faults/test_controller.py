"""A controller that dies, sleeps, or has no room."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from cluster import ROOT, read_until
from faults import ROUNDS

from fedrnn import former


def test_a_controller_killed_in_a_round_resumes_to_the_same_model(start, undisturbed):
    run = start()
    run.until_round(120)
    run.process.kill()
    run.end()
    for reached in ("submitted", "taken up after round 100"):  # and again before a checkpoint
        again = start("--resume")
        again.until_said(reached)
        again.process.kill()
        again.end()
    again = start("--resume")
    again.folder = run.folder
    assert again.end() == 0, again.said
    assert f"taken up after round 100 of {ROUNDS}" in again.said
    assert again.summary()["model_sha256"] == undisturbed.summary()["model_sha256"]
    assert [event["round"] for event in again.rounds()] == list(range(1, ROUNDS + 1))
    assert set(again.summary()["jobs"].values()) == {"done"}


def test_a_controller_that_sleeps_for_a_minute_goes_on(start, undisturbed):
    run = start()
    run.until_round(60)
    os.kill(run.process.pid, signal.SIGSTOP)
    time.sleep(60)
    os.kill(run.process.pid, signal.SIGCONT)
    assert run.end() == 0, run.said
    assert run.summary()["rounds"] == ROUNDS
    assert not [node for node in ("pi1", "pi2", "pi3") if run.without(node)], run.said
    assert run.summary()["model_sha256"] == undisturbed.summary()["model_sha256"]


RUN = "python -m fedrnn.run --local 2 --rounds 60 --set checkpoint_every=10"
ON_A_DISK_OF_6_MB = (
    f"mount -t tmpfs -o size=6m none runs && {{ {RUN};"
    " code=$?; cp runs/latest/summary.json .; exit $code; }"
)


def test_a_disk_that_is_full_at_a_checkpoint_leaves_the_one_before_whole(tmp_path):
    """The disk is the run's own: nobody else sees it."""
    shutil.copytree(ROOT / "fedrnn", tmp_path / "fedrnn")
    (tmp_path / "runs").mkdir()
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    run = subprocess.Popen(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", ON_A_DISK_OF_6_MB],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env,
    )  # fmt: skip
    disk = Path(f"/proc/{run.pid}/cwd/runs")
    said = read_until(run, "round 14 of")
    (checkpoint,) = disk.glob("2*/checkpoint.safetensors")
    before = checkpoint.read_bytes()
    with contextlib.suppress(OSError), (disk / "full").open("wb", buffering=0) as full:
        while full.write(bytes(4096)):
            pass
    said += read_until(run, "no checkpoint of round 20: ")
    assert checkpoint.read_bytes() == before
    shutil.copytree(checkpoint.parent, tmp_path / "seen")
    assert former.read(tmp_path / "seen").state.round == 10
    (disk / "full").unlink()
    rest, _ = run.communicate(timeout=120)
    said += rest
    assert run.returncode == 0, said
    (told,) = (line for line in said.splitlines() if "no checkpoint of round" in line)
    assert "checkpoint.safetensors: No space left on device. Make room" in told
    summary = json.loads((tmp_path / "summary.json").read_text())
    subprocess.run(["sh", "-c", RUN], cwd=tmp_path, check=True, env=env, timeout=300)  # with room
    undisturbed = json.loads((tmp_path / "runs/latest/summary.json").read_text())
    assert summary["rounds"] == undisturbed["rounds"] == 60
    assert summary["model_sha256"] == undisturbed["model_sha256"]
