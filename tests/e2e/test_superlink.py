"""`--engine superlink` here: SuperLink, door, three real SuperNodes. `make test-flower`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fedrnn.checkout import ROOT
from fedrnn.cluster import ClusterError
from fedrnn.config import RunConfig
from fedrnn.federation.server_app import federate
from fedrnn.flower_programs import BIN, HOME, free_ports, running, settings
from fedrnn.inventory import Inventory
from fedrnn.learning.embedded import write_shares
from fedrnn.plan import Plan
from fedrnn.reporting.progress import Display
from fedrnn.superlink import deployed
from tests.papers import HOST, make_papers, private

pytestmark = pytest.mark.apart
NODES = ("pi1", "pi2", "pi3")
CONFIG = RunConfig(rounds=2, strategy="fedavg", hidden=16, evaluate_every=2, timeout=150.0)
PATHS = (
    "control/start-run",
    "runtime/acquire-task",
    "fleet/pull-messages",
    "fleet/../control/list-runs",
    "fleet/%2e%2e/control/list-runs",
)
PROGRAMS = [f"{BIN}/{name}" for name in ("flower-super", "flwr-serverapp", "flwr-clientapp")]


@dataclass
class Place:
    inventory: Inventory
    keys: Path
    data: list[Path]
    before: set[int]  # Flower's programs

    @property
    def plan(self) -> Plan:
        return Plan(CONFIG, list(NODES), None, {}, engine="superlink", inventory=self.inventory)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Place:
    """An inventory's folder with the papers and keys that playbooks/flower.yml makes."""
    folder = tmp_path_factory.mktemp("inventory")
    keys = folder / "keys" / "flower"
    keys.mkdir(parents=True)
    make_papers(keys)
    for node in (*NODES, "stranger"):
        key = ec.generate_private_key(ec.SECP384R1())
        (keys / node).write_bytes(private(key, serialization.PrivateFormat.OpenSSH))
        ssh = (serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        (keys / f"{node}.pub").write_bytes(key.public_key().public_bytes(*ssh))
    (port,) = free_ports(1)
    inventory = Inventory(folder, "", folder, "language", 0, (), f"{HOST}:{port}")
    data = write_shares(folder / "data", "language", len(NODES), 0)
    return Place(inventory, keys, data, programs())


def programs() -> set[int]:
    """The ids of the processes that are Flower's programs, those of this clone's .venv."""
    pids = [int(proc.name) for proc in Path("/proc").glob("[0-9]*")]
    return {pid for pid in pids if any(word in told(pid) for word in PROGRAMS)}


def told(pid: int) -> str:
    """The command line of a process, nothing where it has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    return ""


def supernode(place: Place, node: str, data: Path, log: Path):
    """A SuperNode, as role flower's unit runs it."""
    command = ["flower-supernode", "--superlink", place.inventory.superlink, "--host", HOST]
    command += ["--root-certificates", str(place.keys / "authority.crt")]
    command += ["--auth-supernode-private-key", str(place.keys / node)]
    command += ["--port", str(free_ports(1)[0])]
    home = log.parent / f"home-{node}"
    home.mkdir()
    environment = {**os.environ, **settings(home), "FEDRNN_DATA": str(data)}
    environment.pop("PYTHONPATH", None)
    return running(command, environment, log)


@pytest.fixture(scope="module")
def trained(place, tmp_path_factory):
    """What came of two rounds, and what a stranger was told meanwhile."""
    log = tmp_path_factory.mktemp("nodes") / "log"
    events, told = [], {}
    with ExitStack() as stack:
        for node, data in zip((*NODES, "stranger"), [*place.data, place.data[0]], strict=True):
            stack.enter_context(supernode(place, node, data, log))
        engine = stack.enter_context(deployed(place.plan, Display(CONFIG.rounds, quiet=True)))
        trust = str(place.keys / "authority.crt")
        with httpx.Client(base_url=f"https://{place.inventory.superlink}", verify=trust) as web:
            for path in PATHS:
                told[path] = web.post(f"/v1/{path}", content=b"").status_code
            told["health"] = web.get("/health").status_code
        outcome = federate(engine.grid, CONFIG, events.append, engine.names)
    return outcome, events, told, engine, log.read_text()


def test_the_same_app_trains_there(trained):
    outcome, events, _, engine, said = trained
    # A fourth SuperNode calls all the time, whose key is not known.
    assert outcome.rounds == 2 and set(outcome.counts) == set(NODES), said
    assert outcome.losses[1] < outcome.losses[0] and outcome.accuracy > 0.1
    assert sorted(engine.names.values()) == list(NODES)
    assert all(set(e["nodes"]) == set(NODES) for e in events if e["event"] == "round")
    json.dumps(engine.manifest)
    measured = engine.measure(outcome)
    assert all(100 < measured["memory_mb"][node]["client app"] < 900 for node in NODES)


def test_the_same_bits_come_of_it_as_elsewhere(trained, place, make_grid_of):
    """Node by node, in the inventory's order: what engine carries the app changes nothing."""
    outcome = trained[0]
    here = federate(make_grid_of(place.data), CONFIG)
    assert (here.weights == outcome.weights).all()


@pytest.fixture
def make_grid_of():
    from tests.unit.inprocess import InProcessGrid

    return InProcessGrid


def test_nobody_starts_a_run_or_asks_for_work_through_the_door(trained):
    told = trained[2]
    assert told.pop("fleet/pull-messages") in (400, 401, 415, 422)  # it is Flower that says no
    assert set(told.values()) == {404}


def test_nothing_of_it_is_left(trained, place):
    until = time.monotonic() + 30
    while (left := programs() - place.before) and time.monotonic() < until:
        time.sleep(0.5)
    assert left == set()
    assert not [p for p in HOME.iterdir() if p.name.startswith("tmp")]


@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_whatever_ends_a_run_ends_what_it_has_started(place, ended_by):
    hosts = {name: {"flower_superlink": place.inventory.superlink} for name in NODES}
    (place.inventory.folder / "hosts.yml").write_text(yaml.safe_dump({"nodes": {"hosts": hosts}}))
    before, folders = programs(), set(HOME.iterdir())
    run = subprocess.Popen(
        [sys.executable, "-m", "fedrnn.run", "--engine", "superlink", "--without-governance",
         "--inventory", place.inventory.folder],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    try:
        until = time.monotonic() + 300
        while not any("flwr-serverapp" in told(pid) for pid in programs() - before):
            assert run.poll() is None and time.monotonic() < until, run.communicate()
            time.sleep(0.2)
        run.send_signal(ended_by)
        run.wait(60)
        until = time.monotonic() + 20
        while (left := programs() - before) and time.monotonic() < until:
            time.sleep(0.2)
        assert left == set(), [told(pid) for pid in left]
        assert run.returncode == (-ended_by if ended_by == signal.SIGKILL else 130)
    finally:
        run.kill()
        for folder in set(HOME.iterdir()) - folders:  # of who had no time to clear up
            shutil.rmtree(folder)


def test_nodes_that_do_not_call_are_named(place, monkeypatch):
    monkeypatch.setattr("fedrnn.superlink.ONLINE_SECONDS", 1.0)
    with (
        pytest.raises(ClusterError, match="pi1, pi2, pi3: no SuperNode has called"),
        deployed(place.plan, Display(1, quiet=True)),
    ):
        pass
