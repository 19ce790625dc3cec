"""`--engine simulation`: Flower's own simulation, and nothing left of it. `make test-flower`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedrnn.checkout import ROOT
from fedrnn.flower_programs import HOME, free_ports, running, settings, wait_for
from fedrnn.learning import checkpoint

pytestmark = pytest.mark.apart
FEW = ("--rounds", "6", "--seed", "1", "--hidden", "16", "--set", "batch=192")
LONG = ("--rounds", "80", *FEW[2:])  # half a minute: a stranger needs some seconds to knock
DEALT = HOME / "fedrnn"  # the nodes' shares
RAYS = ("raylet", "gcs_server", "ray::", "ray/_private")
INTRUDE = """
import sys, ray
ray.init(address=sys.argv[1], logging_level="ERROR")
print("let in:", len(ray.nodes()))
"""


def rays() -> dict[int, str]:
    """What Ray has running for this clone, by process id."""
    found = {}
    for proc in Path("/proc").glob("[0-9]*"):
        try:
            command = (proc / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            ours = (proc / "cwd").readlink().is_relative_to(ROOT)
        except OSError:
            continue
        if ours and any(word in command for word in RAYS):
            found[int(proc.name)] = command
    return found


def start(*words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "fedrnn.run", "--engine", "simulation", *words]
    return subprocess.Popen(
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def finish(run: subprocess.Popen[str]) -> tuple[dict, Path]:
    """The summary and the folder of a run that has ended well."""
    said, _ = run.communicate(timeout=400)
    assert run.returncode == 0, said
    folder = ROOT / next(w for w in said.split() if w.startswith("runs/") and "/report" not in w)
    return json.loads((folder / "summary.json").read_text()), folder


@pytest.fixture(scope="module")
def before() -> dict[int, str]:
    return rays()


@pytest.fixture(scope="module")
def dealt() -> set[Path]:
    """What killed runs have left."""
    return set(DEALT.glob("*"))


def within(seconds: float, holds, run: subprocess.Popen[str] | None = None) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, rays()
        assert run is None or run.poll() is None, run.communicate()[0]
        time.sleep(0.2)


def is_up() -> bool:
    return any("ray::ClientAppActor" in command for command in rays().values())


@pytest.fixture(scope="module")
def simulated(before, dealt) -> Iterator[tuple[dict, Path, str]]:
    """A run of three simulated nodes, and what a stranger was told by its Ray."""
    run = start("--local", "3", *LONG)
    within(300, is_up, run)
    gcs = next(c for c in rays().values() if "--gcs-address=" in c)
    address = gcs.partition("--gcs-address=")[2].split()[0]
    stranger = subprocess.run(
        [sys.executable, "-c", INTRUDE, address], capture_output=True, text=True, timeout=120,
        env={**os.environ, **settings(), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64},
    )  # fmt: skip
    yield *finish(run), stranger.stdout + stranger.stderr


def test_it_comes_to_the_very_model_of_local(simulated):
    summary, folder, _ = simulated
    local = subprocess.run(
        [sys.executable, "-m", "fedrnn.run", "--local", "3", "--quiet", *LONG],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    theirs = json.loads((ROOT / local.stdout.split()[-1] / "summary.json").read_text())
    assert summary["model_sha256"] == theirs["model_sha256"]
    assert summary["accuracy"] == theirs["accuracy"] > 0.1
    assert summary["nodes"]["node1"]["rows"] == theirs["nodes"]["node1"]["rows"]
    assert summary["engine"] == "simulation" and theirs["engine"] == "ssh"
    assert (folder / "report.html").stat().st_size > 100_000


def test_nothing_of_it_is_left(simulated, before, dealt):
    assert rays().keys() <= before.keys()
    assert set(DEALT.glob("*")) == dealt


@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGKILL])
def test_whatever_ends_a_run_ends_what_it_has_started(before, dealt, ended_by):
    run = start("--local", "3", *LONG)
    within(300, is_up, run)
    run.send_signal(ended_by)
    said, _ = run.communicate(timeout=180)
    within(180, lambda: rays().keys() <= before.keys())  # Ray's agents look up now and then
    assert run.returncode == (130 if ended_by == signal.SIGINT else -ended_by), said
    left = set(DEALT.glob("*")) - dealt
    for folder in left:
        shutil.rmtree(folder)
    assert len(left) == (ended_by == signal.SIGKILL)  # it has no time to clear up


def test_a_stranger_cannot_use_its_ray(simulated):
    _, _, told = simulated
    assert "let in" not in told and "uthenticat" in told


def test_a_ray_that_does_not_start_is_told_at_once(before):
    script = (
        "import sys, fedrnn.run, fedrnn.simulation\n"
        "fedrnn.simulation.STORE_BYTES = 1  # Ray refuses so small a store\n"
        "sys.exit(fedrnn.run.main(['--engine', 'simulation', '--local', '3', '--quiet']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "Flower's simulation has ended before its time: " in done.stderr, done.stderr
    assert "object store" in done.stderr.lower(), done.stderr
    assert rays().keys() <= before.keys()


def test_a_tenth_of_fifty_nodes_trains_in_each_round(before):
    words = ("--split", "dirichlet:0.1:200", "--set", "sample=0.1", "--set", "evaluate_every=6")
    summary, folder = finish(start("--local", "50", *words, *FEW))
    events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    took = [e["nodes"].keys() for e in events if e["event"] == "round"]
    assert [len(nodes) for nodes in took] == [5] * 6 and len({n for t in took for n in t}) > 12
    assert len(summary["nodes"]) == 50 and summary["accuracy"] > 0.1
    assert rays().keys() <= before.keys()


def test_flower_runs_the_app_as_pyproject_declares_it(tmp_path, before):
    """`flwr run`, with a SuperLink of the test's own: the one that Flower would start stays."""
    log, (port,) = tmp_path / "log", free_ports(1)
    home, model = tmp_path / "flwr", tmp_path / "model"
    home.mkdir()
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "here"\n[superlink.here]\naddress = "127.0.0.1:{port}"\n'
        "insecure = true\n"
    )
    environment = {
        **os.environ, **settings(home),
    }  # fmt: skip
    superlink = ["flower-superlink", "--insecure", "--simulation", "--host", "127.0.0.1"]
    superlink += ["--port", str(port), "--disable-runtime-dependency-installation"]
    with running(superlink, environment, log):
        wait_for(port, log)
        asked = subprocess.run(
            [Path(sys.executable).parent / "flwr", "run", ROOT, "here", "--stream",
             "--federation-config", "num-supernodes=3 init-args-num-cpus=2",
             "-c", f"rounds=3 hidden=16 out='{model}'"],
            env=environment, capture_output=True, text=True, timeout=400,
        )  # fmt: skip
        until = time.monotonic() + 300
        while not (model / "model.safetensors").exists() and time.monotonic() < until:
            time.sleep(0.5)
    assert (model / "model.safetensors").exists(), asked.stdout + asked.stderr + log.read_text()
    assert len(checkpoint.load(model).config.labels) == 18
    assert not list((home / "fedrnn").glob("*"))
    within(20, lambda: rays().keys() <= before.keys())
