"""Nodes that freeze, lag, fill up, have another time, or go, and those that come back."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from faults import EASIER, NEAR, ROUNDS, WORKER, root, slow_rounds


def test_a_node_ten_times_slower_is_left_out_by_the_deadline_and_taken_back(
    start, lab, undisturbed
):
    """Its late replies are dropped, and no round waits for it while it works on an old one."""
    run = start("--set", "timeout=3")
    run.until_round(40)
    turn = f"kill -STOP {WORKER}; sleep 3.6; kill -CONT {WORKER}; sleep 0.4"
    with slow_rounds(lab, "pi1", 1.0):
        root(lab, "pi2", f"for i in $(seq 5); do {turn}; done")
    assert run.end() == 0, run.said
    assert "pi2 is left out from round" in run.said and "pi2 is back in round" in run.said
    assert "pi2: no reply in time" in run.said
    late = [event for event in run.rounds() if event["seconds"] > 2.9]
    assert 1 <= len(late) <= 8 and run.longest() < 5, "rounds wait for a node that is known to lag"
    assert run.accuracy() > undisturbed.accuracy() - NEAR


@pytest.fixture
def freeze(lab):
    """Freeze a node for some seconds."""
    frozen = []

    def pause(node, seconds):
        frozen.append(node)
        lab.podman("pause", lab.container(node))
        time.sleep(seconds)
        lab.podman("unpause", lab.container(node))
        frozen.remove(node)

    yield pause
    for node in frozen:
        lab.podman("unpause", lab.container(node))


def test_a_node_that_is_frozen_and_thawed_is_waited_for(start, freeze, undisturbed):
    run = start()
    run.until_round(60)
    freeze("pi3", 25)
    assert run.end() == 0, run.said
    assert "pi3: its worker is out of reach: " in run.said, run.said
    assert "pi3: its worker is there again, after " in run.said
    assert 20 < run.longest() < 45 and not run.without("pi3")
    assert run.summary()["model_sha256"] == undisturbed.summary()["model_sha256"]


@pytest.fixture
def power(lab):
    """Take a node's power, and give it back: in any case at the end."""
    off = []

    def cut(node):
        off.append(node)
        lab.podman("kill", "--signal", "KILL", lab.container(node))

    def give(node):
        while "true" in lab.podman("inspect", "-f", "{{.State.Running}}", lab.container(node)):
            time.sleep(0.1)
        lab.podman("start", lab.container(node))
        off.remove(node)

    yield cut, give
    for node in list(off):
        give(node)
        until = time.monotonic() + 60
        while lab.ssh(node, "systemctl is-active fedrnn-datasite.path").stdout != "active\n":
            assert time.monotonic() < until, f"{node} has not come back"
            time.sleep(0.5)


def shared(lab, node):
    """The seconds that others on this machine add to a worker's imports, three times over."""
    imports = "import time, torch, flwr.clientapp; print(time.process_time())"
    began = time.monotonic()
    alone = float(root(lab, node, f"/opt/fedrnn/venv/bin/python -c '{imports}'"))
    return 3 * (time.monotonic() - began - alone)


def test_a_node_that_has_lost_its_power_takes_part_again_once_it_is_back(
    start, lab, power, undisturbed
):
    """Its job went with the power: the same code is sent anew, under its owner's rules."""
    cut, give = power
    run = start("--set", "timeout=10")
    run.until_round(60)
    with slow_rounds(lab, "pi1", 3.0):
        cut("pi3")
        run.until_said("pi3 is left out from round")
        run.until_round(len(run.rounds()) + 3)
        give("pi3")
        while lab.ssh("pi3", "true").returncode:
            time.sleep(0.1)
        back = time.monotonic()
        run.until_said("pi3: its job is lost, and was sent anew", 60)
        run.until_said("pi3: its worker is there again", 60)
        reached = time.monotonic() - back
        run.until_said("pi3 is back in round")
        taken_in = time.monotonic() - back
        limit = min(5 + shared(lab, "pi3"), 20)
        assert reached < limit and taken_in < limit + 3.5, "a round, which pi1 makes 3 s long"
    assert run.end() == 0, run.said
    assert "pi3: its worker is out of reach: " in run.said
    assert "pi3: its job is lost, and was sent anew as train-" in run.said
    assert "the power of this node went" in run.said
    assert run.longest() < 20 and run.summary()["rounds"] == ROUNDS
    assert set(run.summary()["jobs"].values()) == {"done"}
    assert run.accuracy() > undisturbed.accuracy() - NEAR


def test_a_run_goes_on_with_the_one_node_that_is_left(start, power, link, undisturbed):
    """One is switched off and does not come back; later another one is cut off."""
    run = start()
    run.until_round(60)
    power[0]("pi3")
    run.until_said("pi3 is left out from round")
    run.until_round(len(run.rounds()) + 20)
    link[0]("pi2")
    assert run.end() == 0, run.said
    assert "pi3: its worker is out of reach: " in run.said
    assert "pi2 is left out from round" in run.said
    assert run.summary()["rounds"] == ROUNDS and run.longest() < 60
    jobs = run.summary()["jobs"]
    assert jobs["pi1"] == "done"
    assert jobs["pi2"].startswith("unknown") and jobs["pi3"].startswith("unknown")
    assert run.accuracy("pi1") > undisturbed.accuracy("pi1") + EASIER[1]


VAR = "/var/lib/fedrnn"


@pytest.fixture
def small_disk(lab):
    """Lay a node's datasite on a disk of 24 MB, which can be filled, and take it off again."""
    lay = (
        f"systemctl stop fedrnn-datasite.path; mount -t tmpfs -o size=24m,mode=1775 none /mnt;"
        f"cp -a {VAR}/. /mnt; chown --reference={VAR} /mnt; mount --move /mnt {VAR};"
        "systemctl start fedrnn-datasite.path"
    )
    back = (
        f"systemctl stop fedrnn-datasite.path; rm -f {VAR}/full; cp -a {VAR} /tmp/kept;"
        f"umount -l {VAR}; cp -a /tmp/kept/. {VAR}; rm -r /tmp/kept;"
        "systemctl start fedrnn-datasite.path fedrnn-datasite.service"
    )
    root(lab, "pi2", lay)
    yield lambda: root(lab, "pi2", f"cat /dev/zero > {VAR}/full 2>/dev/null || true")
    root(lab, "pi2", back)


def test_a_node_whose_disk_is_full_trains_to_the_end_and_says_so(
    start, lab, small_disk, undisturbed
):
    run = start()
    run.until_round(60)
    small_disk()
    assert run.end() == 0, run.said
    assert not run.without("pi2"), run.said
    assert run.summary()["model_sha256"] == undisturbed.summary()["model_sha256"]
    again = start("--rounds", "5", "--min-nodes", "2")
    assert again.end() == 0, again.said
    assert "going on without pi2: " in again.said and "No space left on device" in again.said


LIBRARY = "/usr/local/lib/libfaketime.so.1"


@pytest.fixture
def another_time(lab):
    """Have sshd, the datasite and the jobs of a node a day ahead, and nobody else."""
    node = lab.container("pi2")
    lab.podman("cp", faketime(), f"{node}:{LIBRARY}")
    names = {"LD_PRELOAD": LIBRARY, "FAKETIME": "+1d", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    pairs = " ".join(f"{name}={value}" for name, value in names.items())
    root(lab, "pi2", f"systemctl set-environment {pairs}; systemctl restart ssh")
    yield
    unset = f"systemctl unset-environment {' '.join(names)}; systemctl restart ssh; rm {LIBRARY}"
    root(lab, "pi2", unset)


def faketime() -> str:
    """The library of this machine, which is of the same kind as its nodes."""
    found = sorted(Path("/usr/lib").glob("*-linux-gnu/faketime/libfaketime.so.1"))
    assert found, "apt-get install libfaketime"
    return str(found[0])


def test_a_node_whose_clock_is_a_day_ahead_trains_as_any(start, lab, another_time, undisturbed):
    run = start()
    run.until_round(20)
    worker = root(lab, "pi2", f"tr '\\0' '\\n' < /proc/{WORKER}/environ")
    assert "FAKETIME=+1d" in worker
    assert run.end() == 0, run.said
    assert run.summary()["model_sha256"] == undisturbed.summary()["model_sha256"]
    log = root(lab, "pi2", "fedrnn-owner log").splitlines()
    tomorrow = time.strftime("%Y-%m-%d", time.gmtime(time.time() + 86400))
    decided = [line for line in log if run.job() in line]
    assert decided and all(tomorrow in line for line in decided), "it goes by the node's clock"
