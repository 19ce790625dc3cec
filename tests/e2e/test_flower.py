"""Flower's SuperNodes on virtual nodes, from playbooks/flower.yml to reset. `make test-flower`."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from clone import clone
from cluster import Lab, Run, ansible_playbook, flat, must

pytestmark = pytest.mark.apart
FLOWER = "playbooks/flower.yml"
WORD = "/etc/fedrnn/flower-allowed"
UNIT = "flower-supernode.service"
LEFT_OUT = "{} is left out: its owner has not allowed"  # YAML doubles an apostrophe
TRAIN = ("--engine", "superlink", "--without-governance", "--strategy", "fedavg",
         "--set", "timeout=300")  # fmt: skip


def flower(lab: Lab, *words: str) -> Run:
    return ansible_playbook(*words, FLOWER, cwd=lab.root)


def pid(lab: Lab) -> str:
    return lab.ssh("pi1", f"systemctl show -P MainPID {UNIT}").stdout


PROBE = (
    "s,^Type=.*,Type=oneshot,; s,^Restart=.*,Restart=no,; s,/run/flower-supernode,/run/probe,g; "
    "s,^RuntimeDirectory=.*,RuntimeDirectory=probe,; "
    "s,^ExecStart=.*,ExecStart=/bin/sh /run/probe.sh,"
)


def as_supernode(lab: Lab, command: str) -> subprocess.CompletedProcess[str]:
    """Run a shell's command on pi1 under a copy of the SuperNode's unit.

    In a virtual node root may not enter the name spaces of another account's process.
    """
    unit = "/run/systemd/system/probe.service"
    return lab.ssh(
        "pi1",
        f"printf %s {shlex.quote(command)} | sudo tee /run/probe.sh > /dev/null && "
        f"systemctl cat {UNIT} | sed {shlex.quote(PROBE)} | sudo tee {unit} > /dev/null && "
        "sudo systemctl daemon-reload && sudo systemctl start probe; code=$?; "
        "sudo journalctl --no-pager -o cat -n 5 -u probe; "
        f"sudo rm {unit} /run/probe.sh; sudo systemctl daemon-reload; exit $code",
    )


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> Iterator[Lab]:
    """A clone with two provisioned nodes."""
    folder = tmp_path_factory.mktemp("flower") / "fedrnn"
    with clone(folder, pi1="bookworm", pi2="bookworm") as lab:
        must(ansible_playbook("site.yml", cwd=lab.root))
        yield lab


@pytest.fixture(scope="module")
def deployed(bare) -> Lab:
    """Both with a SuperNode, after no owner has allowed it, and then one of the two."""
    refused = flower(bare)
    assert refused.rc != 0 and "No owner has allowed Flower's own engine" in flat(refused.text)
    assert bare.ssh("pi1", f"systemctl cat {UNIT}").returncode != 0
    allow(bare, "pi1")
    assert LEFT_OUT.format("pi2") in flat(must(flower(bare)).text)
    assert bare.ssh("pi2", f"systemctl cat {UNIT}").returncode != 0
    assert keys(bare) == {"pi1.pub"}
    allow(bare, "pi2")
    must(flower(bare))
    return bare


def allow(lab: Lab, node: str) -> None:
    assert lab.ssh(node, f"sudo touch {WORD}").returncode == 0


def keys(lab: Lab) -> set[str]:
    return {path.name for path in (lab.root / "inventory/lab/keys/flower").glob("*.pub")}


def train(lab: Lab, rounds: int) -> dict:
    done = subprocess.run(
        [sys.executable, "-m", "fedrnn.run", *TRAIN, "--rounds", str(rounds)],
        cwd=lab.root, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    journal = lab.ssh("pi1", f"sudo journalctl --no-pager -n 50 -u {UNIT}").stdout
    assert done.returncode == 0, done.stdout + done.stderr + journal
    return json.loads((lab.root / "runs/latest/summary.json").read_text())


def languages(summary: dict) -> int:
    """How many languages pi1's names for the test are in."""
    return sum(any(row) for row in summary["nodes"]["pi1"]["test"]["confusion"])


@pytest.fixture(scope="module")
def trained(deployed) -> dict:
    """What came of three rounds with data that was made anew while the SuperNodes waited."""
    waiting = pid(deployed)
    anew = ("-e", "dataset_split=iid", "--tags", "dataset", "site.yml")
    assert sum(must(ansible_playbook(*anew, cwd=deployed.root)).changed.values()) > 0
    summary = train(deployed, rounds=3)
    assert pid(deployed) == waiting
    return summary


def test_a_second_run_changes_nothing(deployed):
    run = must(flower(deployed))
    assert set(run.changed.values()) == {0}, run.text
    again = must(ansible_playbook("site.yml", cwd=deployed.root))
    assert set(again.changed.values()) == {0}, again.text


def test_three_rounds_of_fedavg_are_trained_there(trained):
    assert trained["rounds"] == 3 and trained["engine"] == "superlink"
    assert set(trained["nodes"]) == {"pi1", "pi2"} and trained["accuracy"] > 0.15
    assert all(node["rows"] > 3000 for node in trained["nodes"].values())
    assert languages(trained) == 18


def test_what_the_supernode_is_sent_reads_the_data_and_not_what_is_not_its_own(trained, deployed):
    data = "/var/lib/fedrnn/SyftBox/pi1@lab.local/private/syft_datasets/names"
    own = f"{data}/*.txt", "/run/probe/key"  # with the key it could pose as the node
    others = (
        "/etc/fedrnn/flower/supernode",
        "/var/lib/fedrnn/SyftBox/.names.sha256",
        "/opt/fedrnn/lib/fedrnn/datasite/layout.py",
    )
    for what in own:
        read = as_supernode(deployed, f"cat {what} > /dev/null")
        assert read.returncode == 0, (what, read.stdout, read.stderr)
    for what in others:
        assert f"cat: {what}: " in as_supernode(deployed, f"cat {what} > /dev/null").stdout
        assert deployed.ssh("pi1", f"sudo cat {what} > /dev/null").returncode == 0, what
    assert as_supernode(deployed, f"touch {data}/more").returncode != 0
    status = deployed.ssh("pi1", f"cat /proc/$(systemctl show -P MainPID {UNIT})/status").stdout
    assert "NoNewPrivs:\t1" in status and "CapEff:\t0000000000000000" in status
    key = deployed.ssh("pi1", "sudo stat -c '%a %U' /etc/fedrnn/flower/supernode").stdout
    assert key == "600 root\n"


def test_another_superlink_trains_over_the_same_supernodes(trained, deployed):
    """It does not know their sessions with the one before: they end, and systemd starts them."""
    must(ansible_playbook("--tags", "dataset", "site.yml", cwd=deployed.root))
    again = train(deployed, rounds=1)
    assert set(again["nodes"]) == {"pi1", "pi2"} and languages(again) == 9


def test_an_owner_closes_the_node_again_and_no_operator_opens_it(trained, deployed):
    close = f"sudo rm {WORD} && sudo systemctl stop {UNIT}"
    assert deployed.ssh("pi1", close).returncode == 0
    deployed.ssh("pi1", f"sudo systemctl start {UNIT}")
    assert deployed.ssh("pi1", f"systemctl is-active {UNIT}").stdout != "active\n"
    assert LEFT_OUT.format("pi1") in flat(must(flower(deployed)).text)
    assert deployed.ssh("pi1", f"systemctl is-active {UNIT}").stdout != "active\n"
    assert deployed.ssh("pi1", f"ls {WORD}").returncode != 0 and keys(deployed) == {"pi2.pub"}


def test_a_supernode_that_takes_long_to_fail_is_told_and_tried_again(trained, deployed):
    """After the one above: the SuperNode of pi1 is stopped."""
    folder = f"/etc/systemd/system/{UNIT}.d"
    slow = "[Service]\nExecStart=\nExecStart=/bin/sh -c 'sleep 15; echo too bad; exit 1'\n"
    assert deployed.ssh("pi1", f"sudo mkdir {folder}").returncode == 0
    deployed.ssh("pi1", f"printf %s {shlex.quote(slow)} | sudo tee {folder}/slow.conf")
    allow(deployed, "pi1")
    for _ in range(2):
        broken = flower(deployed)
        assert broken.rc != 0 and "too bad" in broken.text
    deployed.ssh("pi1", f"sudo rm -r {folder}")
    must(flower(deployed))
    assert deployed.ssh("pi1", f"systemctl is-active {UNIT}").stdout == "active\n"
    assert keys(deployed) == {"pi1.pub", "pi2.pub"}


def test_reset_takes_it_away(trained, deployed):
    must(ansible_playbook("-e", "confirm=lab", "playbooks/reset.yml", cwd=deployed.root))
    time.sleep(1)
    # Alone and in brackets: the shell that runs it has the words in its own command line.
    assert deployed.ssh("pi1", "pgrep -af '[f]lower-super'").stdout == ""
    left = deployed.ssh("pi1", f"systemctl cat {UNIT}; ls /etc/fedrnn")
    assert left.stdout == "", left.stdout
