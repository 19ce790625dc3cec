"""`--resume` without SSH: a run that is killed, and one whose checkpoints find no room."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedrnn.reporting import checkpoint

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "fedrnn", folder / "fedrnn")
    return folder


@pytest.fixture
def temporary() -> Iterator[Path]:
    """The temporary folder of the runs here, by which their workers are found and ended."""
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
        for file in Path("/proc").glob("[0-9]*/environ"):
            try:
                if f"FEDRNN_SOCKET={folder}".encode() in file.read_bytes():
                    os.kill(int(file.parent.name), signal.SIGKILL)
            except OSError:
                continue


def start(checkout, temporary, *words, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "fedrnn.run", *words],
        cwd=checkout, env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options,
    )  # fmt: skip


def summary(checkout):
    return json.loads((checkout / "runs" / "latest" / "summary.json").read_text())


def newest(checkout):
    return max((checkout / "runs").resolve().glob("2*"), key=lambda path: path.name)


def rounds_done(checkout):
    metrics = newest(checkout) / "metrics.jsonl"  # which a run that has just begun does not have
    return metrics.read_text().count('"event": "round"') if metrics.exists() else 0


RUN = ("--local", "1", "--rounds", "60", "--hidden", "16", "--set", "checkpoint_every=20")


def test_a_controller_killed_in_a_round_resumes_to_the_same_model(checkout, temporary):
    whole = start(checkout, temporary, *RUN)
    assert whole.communicate(timeout=120)[0] and whole.returncode == 0
    wanted, first = summary(checkout), newest(checkout)

    killed = start(checkout, temporary, *RUN)
    until = time.monotonic() + 90
    while newest(checkout) == first or rounds_done(checkout) < 43:
        assert killed.poll() is None and time.monotonic() < until
        time.sleep(0.02)
    killed.kill()
    killed.communicate()
    folder = newest(checkout)
    assert (checkout / "runs" / "latest").resolve() == folder
    assert not (folder / "summary.json").exists()

    wrong = start(checkout, temporary, "--resume", "--rounds", "70", "--seed", "1")
    said, _ = wrong.communicate(timeout=60)
    assert wrong.returncode == 2 and "leave out --rounds, --seed" in said

    resumed = start(checkout, temporary, "--resume")
    said, _ = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, said
    assert "taken up after round 40 of 60" in said
    found = summary(checkout)
    assert found["model_sha256"] == wanted["model_sha256"]
    assert found["accuracy"] == wanted["accuracy"] and found["rounds"] == 60
    events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [e["round"] for e in events if e["event"] == "round"] == list(range(1, 61))
    assert found["bytes_up"] > 0.9 * wanted["bytes_up"]
    taken = json.loads((folder / "manifest.json").read_text())["taken_up"]
    assert [t["after_round"] for t in taken] == [40]

    again = start(checkout, temporary, "--resume", str(folder))
    said, _ = again.communicate(timeout=60)
    assert again.returncode == 2 and "there is nothing to resume" in said


def test_a_full_disk_is_told_with_the_file_and_the_run_goes_on(checkout, temporary):
    def little_room():
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

    words = ("--local", "1", "--rounds", "9", "--hidden", "8", "--set", "checkpoint_every=4")
    run = start(checkout, temporary, *words, preexec_fn=little_room)
    said, _ = run.communicate(timeout=120)
    assert f"no checkpoint of round 4: {checkout}/runs/2" in said
    assert f"{checkpoint.NAME}: File too large. Make room: the run goes on" in said
    assert "no checkpoint of round 8" in said and "Traceback" not in said, said
