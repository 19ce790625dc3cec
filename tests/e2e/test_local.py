"""`--local`: the whole way without SSH, in a copy of the checkout, so that runs/ stays yours."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import ENDLESS

from fedrnn.reporting.commands import commands
from fedrnn.reporting.record import read

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def temporary() -> Iterator[Path]:
    """The temporary folder of all runs here: nobody else's, and short enough for a socket."""
    with (
        tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("TMPDIR", folder)
        yield Path(folder)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory, temporary) -> Path:
    """A copy whose path has a space."""
    copy = tmp_path_factory.mktemp("local") / "a clone"
    copy.mkdir()
    shutil.copytree(ROOT / "fedrnn", copy / "fedrnn")
    shutil.copytree(ROOT / "inventory" / "lab" / "group_vars", copy / "inventory/lab/group_vars")
    shutil.copyfile(ROOT / "inventory" / "lab" / "hosts.yml", copy / "inventory/lab/hosts.yml")
    shutil.copyfile(ROOT / "ansible.cfg", copy / "ansible.cfg")
    return copy


def python(checkout: Path, module: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"fedrnn.{module}", *words],
        cwd=checkout,
        capture_output=True,
        text=True,
        timeout=300,
    )


def train(checkout: Path, *words: str) -> dict:
    done = python(checkout, "run", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((checkout / "runs" / "latest" / "summary.json").read_text())


@pytest.fixture(scope="module")
def first(checkout) -> dict:
    return train(checkout, "--local", "3", "--rounds", "40", "--seed", "1")


def test_a_run_leaves_what_it_promises(checkout, first):
    latest = checkout / "runs" / "latest"
    assert latest.is_symlink()
    names = {p.name for p in latest.iterdir()}
    assert {"model.safetensors", "config.json", "manifest.json", "metrics.jsonl",
            "tensorboard", "summary.json", "split.csv", "split.svg"} <= names  # fmt: skip
    told = "accuracy macro_recall rounds strategy split seed model_sha256 round_seconds bytes_up"
    assert {*told.split(), "bytes_down", "seconds_total", "nodes"} <= first.keys()
    assert 0.2 < first["accuracy"] < 1 and 0.1 < first["macro_recall"] < 1
    assert first["rounds"] == 40 and first["split"] == "language" and first["seed"] == 1
    assert set(first["nodes"]) == {"node1", "node2", "node3"}
    assert all(n["rows"] > 3000 and n["rss_mb_max"] for n in first["nodes"].values())
    assert first["jobs"] == {"node1": "done", "node2": "done", "node3": "done"}
    rounds = [json.loads(line) for line in (latest / "metrics.jsonl").read_text().splitlines()]
    assert [e["round"] for e in rounds if e["event"] == "round"] == list(range(1, 41))
    manifest = json.loads((latest / "manifest.json").read_text())
    assert len(manifest["nodes"]["node1"]["packages"]["torch"]["record_sha256"]) == 64


def test_the_same_seed_makes_the_same_model(checkout, first):
    again = train(checkout, "--local", "3", "--rounds", "40", "--seed", "1")
    assert again["model_sha256"] == first["model_sha256"]


def test_another_seed_makes_another_model(checkout, first):
    other = train(checkout, "--local", "1", "--rounds", "2", "--seed", "2", "--split", "iid")
    assert other["model_sha256"] != first["model_sha256"]
    assert other["split"] == "iid"


def test_the_model_predicts(checkout, first):
    done = python(checkout, "predict", "Kowalski", "Παπαδόπουλος", "🎻", "")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("%") == 12


def test_federated_averaging_runs_the_same_way(checkout):
    summary = train(checkout, "--local", "2", "--strategy", "fedavg", "--rounds", "2")
    assert summary["strategy"] == "fedavg" and summary["accuracy"] > 0.1


def test_rivals_are_trained_on_the_same_rows(checkout):
    summary = train(checkout, "--local", "2", "--rounds", "60", "--hidden", "16", "--compare")
    assert list(summary["comparison"]) == [
        "gradient, federated", "central, same network", "central, 1-4-grams", "fedavg, federated",
    ]  # fmt: skip
    assert summary["comparison"]["central, 1-4-grams"]["accuracy"] > 0.7
    assert summary["comparison"]["gradient, federated"]["accuracy"] == summary["accuracy"]


def test_no_process_and_no_folder_is_left(temporary, first):
    for file in Path("/proc").glob("[0-9]*/environ"):
        try:
            assert f"FEDRNN_SOCKET={temporary}".encode() not in file.read_bytes(), file
        except OSError:  # ended meanwhile, or another account's
            continue
    assert list(temporary.iterdir()) == []


def test_ctrl_c_keeps_what_there_is(checkout, temporary):
    run = subprocess.Popen(
        [sys.executable, "-m", "fedrnn.run", "--local", "2", *ENDLESS],
        cwd=checkout,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    seen = ""
    while " of 4000" not in seen:
        line = run.stdout.readline()
        assert line, seen
        seen += line
    os.killpg(run.pid, signal.SIGINT)
    rest, _ = run.communicate(timeout=60)
    assert run.returncode == 130, seen + rest
    assert "Traceback" not in rest
    summary = json.loads((checkout / "runs" / "latest" / "summary.json").read_text())
    assert summary["interrupted"] and summary["rounds"] >= 20 and summary["accuracy"] is None
    assert (checkout / "runs" / "latest" / "model.safetensors").stat().st_size > 100_000
    assert summary["jobs"] == {"node1": "done", "node2": "done"}
    time.sleep(1)
    test_no_process_and_no_folder_is_left(temporary, None)


def test_a_terminal_that_closes_loses_nothing(checkout, temporary):
    ours, theirs = os.openpty()
    run = subprocess.Popen(
        [sys.executable, "-m", "fedrnn.run", "--local", "1", *ENDLESS],
        cwd=checkout, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        env={**os.environ, "TERM": "xterm"},
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # nohup ignores it
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    while not re.search(rb"round [1-9]\d* of 4000", seen):
        seen += os.read(ours, 4096)
    os.close(ours)
    run.send_signal(signal.SIGHUP)
    run.send_signal(signal.SIGTERM)
    assert run.wait(60) == 130
    summary = json.loads((checkout / "runs" / "latest" / "summary.json").read_text())
    assert summary["interrupted"] and summary["jobs"] == {"node1": "done"}
    time.sleep(1)
    test_no_process_and_no_folder_is_left(temporary, None)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--local", "2", "--rounds", "0"], "rounds is 0"),
        (["--local", "0"], "--local is 0"),
        (["--local", "2", "--split", "alphabet"], "split 'alphabet' is not known"),
        (["--split", "iid"], "--split belongs to --local"),
        (["--nodes", "pi1,pi9"], "--nodes names pi9; the inventory has pi1, pi2, pi3"),
        (["--inventory", "nowhere"], "there is no inventory nowhere"),
    ],
)
def test_wrong_questions_get_clear_answers(checkout, words, says):
    done = python(checkout, "run", *words)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_an_inventory_without_nodes_is_refused(checkout):
    (checkout / "empty.yml").write_text("nodes:\n")
    done = python(checkout, "run", "--inventory", "empty.yml")
    assert done.returncode == 2 and "no host in its group 'nodes'" in done.stderr


def test_the_commands_of_the_report_come_to_the_same_model(checkout):
    words = ["--local", "2", "--rounds", "6", "--seed", "3", "--hidden", "16", "--split", "iid"]
    before = train(checkout, *words, "--set", "batch=192", "--set", "lr=0.013")
    folder = (checkout / "runs" / "latest").resolve()
    lines = commands(read(folder))
    assert lines[-2] == "source .venv/bin/activate"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    again = subprocess.run(
        lines[-1], shell=True, cwd=checkout, env={**os.environ, "PATH": path}, timeout=300
    )
    assert again.returncode == 0 and (checkout / "runs" / "latest").resolve() != folder
    after = json.loads((checkout / "runs" / "latest" / "summary.json").read_text())
    assert after["model_sha256"] == before["model_sha256"]
