"""A node that is killed in the middle of anything settles it, and tells the sender in words."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from cluster import ENDLESS, RESEARCHER, WORKERS, Lab, job_in, read_until, start_run
from governed import BOX, NODE, VAR, Governed, governed, key, unit

SLEEPER = "import time\nprint('awake', flush=True)\ntime.sleep(300)\n"
QUICK = "print('ran')\n"
REVIEW = f"{BOX}/app_data/job/review/{RESEARCHER}/v1"
INBOX = f"{BOX}/app_data/job/inbox/{RESEARCHER}/v1"
WITHOUT_A_WORD = "it ended without a word: the power of this node went, or somebody killed it"
PATH_UNIT = "fedrnn-datasite.path"


@pytest.fixture(scope="module")
def node(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Governed]:
    with governed(lab, tmp_path_factory.mktemp("researcher")) as found:
        yield found


def power_cut(node: Governed) -> None:
    """Kill the node with all its processes, none of which gets a word out, and start it again."""
    container = node.lab.container(NODE)
    node.lab.podman("kill", "--signal", "KILL", container)
    until = time.monotonic() + 10
    while "true" in node.lab.podman("inspect", "-f", "{{.State.Running}}", container):
        assert time.monotonic() < until, "it is still there"
        time.sleep(0.1)
    node.lab.podman("start", container)
    node.until(lambda: node.lab.ssh(NODE, "true").returncode == 0, 60)
    active = "systemctl is-active fedrnn-datasite.path fedrnn-launch.socket"
    node.until(lambda: node.lab.ssh(NODE, active).stdout == "active\nactive\n", 60)


@pytest.mark.parametrize("delay", [0.1, 0.4, 0.8])
def test_a_datasite_that_is_killed_in_a_pass_settles_all_in_the_next(
    node: Governed, delay: float
) -> None:
    """Killed by SIGKILL while it takes a job in, and again while its owner has it started."""
    name = f"killed-{time.time_ns()}"
    (node.folder / "killed.py").write_text(QUICK)
    kill = "systemctl kill -s KILL fedrnn-datasite.service || true"
    node.node.submit_python_job(node.folder / "killed.py", name)
    node.sent.append(name)
    node.root(f"sleep {delay}; {kill}")
    node.wait(name, "pending")
    assert node.root(f"ls -A {VAR}/mailbox/new") == "" and node.lab.ssh(NODE, WORKERS).stdout == ""
    start = f"timeout -s KILL {delay} fedrnn-owner approve {name} || true"
    node.root(f"{start}; systemctl start fedrnn-datasite.service")
    state = node.node.status(name)
    if state["status"] == "pending":  # killed before it had decided
        node.owner(f"approve {name}")
    state = node.wait(name, "done", "failed")
    assert state["status"] == "done" or state["reason"] == WITHOUT_A_WORD, state
    assert node.until(lambda: node.is_gone(name))


def test_a_worker_whose_job_is_not_known_any_more_is_ended(node: Governed) -> None:
    """As a datasite leaves it that was killed between two files: the job's state is gone."""
    name = node.start(SLEEPER, "orphan")
    node.root(f"rm -r '{REVIEW}/{name}' '{INBOX}/{name}'; systemctl start fedrnn-datasite.service")
    assert node.until(lambda: node.is_gone(name))
    node.sent.remove(name)


@pytest.mark.parametrize("whom", ["main", "all"])
def test_a_killed_worker_has_failed_at_once(node: Governed, whom: str) -> None:
    name = node.start(SLEEPER, "killed-worker")
    node.root(f"systemctl kill -s KILL --kill-whom={whom} '{unit(name)}'")
    state = node.wait(name, "failed", seconds=15)
    assert state["reason"] == "it was ended by the signal KILL"
    assert node.until(lambda: node.is_gone(name))


def test_a_power_cut_in_any_state_is_settled_at_the_next_start(node: Governed) -> None:
    """One that had ended, unrecorded; approved; undecided; sent; and damaged ones of each kind."""
    ended = node.start(SLEEPER, "ended")
    kinds = ("approved", "pending", "torn-approved", "torn-state", "torn-config")
    names = {kind: node.submit(SLEEPER if kind == "approved" else QUICK, kind) for kind in kinds}
    for kind in ("approved", "torn-approved"):
        assert "approved" in node.owner(f"approve {names[kind]}")
    node.root(f"systemctl stop {PATH_UNIT}")  # nobody is woken from here on
    node.root(
        f"pkill -9 -G fedrnn-wire; until test -e '{VAR}/due/{key(ended)}'; do sleep 0.1; done"
    )
    sent = f"sent-{time.time_ns()}"
    (node.folder / "sent.py").write_text(QUICK)
    node.node.submit_python_job(node.folder / "sent.py", sent)
    node.sent.append(sent)
    assert node.node.status(sent)["status"] == "sent"
    assert node.node.status(ended)["status"] == "running", "it was recorded too early"
    node.root(f"cd {REVIEW}; head -c 20 {names['torn-state']}/state.yaml > /tmp/half; "
              f"cat /tmp/half > {names['torn-state']}/state.yaml; "
              f": > {names['torn-approved']}/state.yaml; "
              f"printf 'name: [\\0' > {INBOX}/{names['torn-config']}/config.yaml")  # fmt: skip
    power_cut(node)
    assert node.wait(ended, "failed")["reason"] == "it was ended by the signal KILL"
    assert node.wait(names["approved"], "running")["approval"] == "manual"
    assert node.wait(names["pending"], "pending")
    assert node.wait(sent, "pending")
    # Where the decision cannot be read any more, the owner decides again.
    assert node.wait(names["torn-state"], "pending") and node.wait(
        names["torn-approved"], "pending"
    )
    torn = node.wait(names["torn-config"], "refused")
    assert (
        "its files were damaged on this node, as by a power cut: submit it again" in torn["reason"]
    )
    assert re.search(rf"(?m)^pending +{names['pending']} ", node.owner("list"))

    power_cut(node)  # with one that runs
    assert node.wait(names["approved"], "failed")["reason"] == WITHOUT_A_WORD
    node.owner(f"approve {names['pending']}")
    assert node.wait(names["pending"], "done")
    assert node.until(lambda: node.is_gone(names["approved"]))


def test_the_second_of_two_runs_is_told_who_holds_the_node_and_since_when(node: Governed) -> None:
    first = start_run("--nodes", NODE, *ENDLESS)
    try:
        job = job_in(read_until(first, " of 4000"))
        second = start_run("--nodes", NODE, "--rounds", "2")
        said, _ = second.communicate(timeout=120)
        assert second.returncode == 1, said
        flat = " ".join(said.split())
        assert f"{NODE}: {RESEARCHER} holds it since {time.strftime('%Y-%m-%d')} " in flat, said
        assert f"with the job {job}" in flat and "a node runs one job at a time" in flat
        assert first.poll() is None and node.node.status(job)["status"] == "running"
        first.send_signal(2)
        rest, _ = first.communicate(timeout=120)
        assert first.returncode == 130, rest
    finally:
        first.kill()
    assert node.wait(job, "done")
    assert node.until(lambda: node.is_gone(job)), "its job has not ended with it"


@pytest.fixture
def impatient(node: Governed) -> Iterator[None]:
    """A node whose jobs wait three seconds for a controller that has gone."""
    file = "/etc/fedrnn/datasite.json"
    node.root(f'sed -i.kept \'s/"idle_seconds": [0-9]*/"idle_seconds": 3/\' {file}')
    assert '"idle_seconds": 3,' in node.root(f"cat {file}")
    yield
    node.root(f"cat {file}.kept > {file}; rm {file}.kept")


@pytest.mark.usefixtures("impatient")
def test_a_job_ends_when_its_controller_has_vanished_for_longer_than_the_limit(
    node: Governed,
) -> None:
    gone = start_run("--nodes", NODE, *ENDLESS)
    job = job_in(read_until(gone, " of 4000"))
    gone.kill()
    state: dict[str, Any] = node.wait(job, "failed", "done")
    assert state["status"] == "failed" and state["return_code"] == 1
    assert node.until(lambda: node.is_gone(job))
    assert "nobody attached for 3 s: ending" in node.owner(f"show {job}")
