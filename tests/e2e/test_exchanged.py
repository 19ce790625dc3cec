"""Two nodes whose addresses were exchanged: nothing is done to one in the place of the other."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from cluster import INVENTORY, NEW_CONNECTIONS, ROOT, Lab, ansible_playbook, flat

PAIR = ("pi1", "pi2")
KEPT = "/etc/fedrnn /var/lib/fedrnn /opt/fedrnn/.identity"  # data set, owner, decision log
LOOK = f"sudo sh -c 'find {KEPT} -type f -exec sha256sum {{}} + | sort'"


@pytest.fixture
def exchanged(lab: Lab, tmp_path: Path) -> Path:
    """A copy of the inventory in which two nodes have each other's port, as by DHCP."""
    folder = tmp_path / "lab"
    shutil.copytree(INVENTORY, folder)
    ports = yaml.safe_load((folder / "ports.yml").read_text())
    one, other = (ports["lab"]["hosts"][node] for node in PAIR)
    one["ansible_port"], other["ansible_port"] = other["ansible_port"], one["ansible_port"]
    (folder / "ports.yml").write_text(yaml.safe_dump(ports))
    # Pinned before, when each was at what is now the other's port.
    pinned = (folder / "known_hosts").read_text()
    a, b = (f"]:{lab.port(node)} " for node in PAIR)
    (folder / "known_hosts").write_text(
        pinned.replace(a, "]:0 ").replace(b, a).replace("]:0 ", b)
    )  # fmt: skip
    return folder


def python(module: str, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, "--inventory", folder, *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def names_both(said: str, by: str) -> bool:
    words = flat(said)
    return all(f"is not at its address: {n} answers there, as its {by}" in words for n in PAIR)


def test_exchanged_nodes_are_refused(lab: Lab, exchanged: Path) -> None:
    before = {node: lab.ssh(node, LOOK).stdout for node in PAIR}
    assert all("syft_datasets" in text and ".identity" in text for text in before.values())
    pins = (exchanged / "known_nodes").read_text()

    def play(name: str, *words: str) -> str:
        words = ("-i", str(exchanged), *NEW_CONNECTIONS, *words)
        run = ansible_playbook(*words, f"playbooks/{name}.yml")
        assert run.rc != 0 and set(run.changed.values()) <= {0}, run.tail()
        return run.text

    # ssh refuses the keys, which are pinned for each other.
    assert names_both(play("preflight"), "host key shows")
    looked = python("fedrnn.nodes", exchanged)
    assert looked.returncode == 1 and names_both(looked.stdout, "host key shows"), looked

    # Pinned again, as for nodes that were installed anew.
    known_hosts = exchanged / "known_hosts"
    known_hosts.unlink()
    with known_hosts.open("w") as file:
        for node in ("pi1", "pi2", "pi3"):
            scan = ["ssh-keyscan", "-t", "ed25519", "-p", str(lab.port(node)), "127.0.0.1"]
            subprocess.run(scan, stdout=file, stderr=subprocess.DEVNULL, check=True)
    assert names_both(play("cluster"), "identity shows")
    assert names_both(play("reset", "-e", "confirm=lab"), "identity shows")
    looked = python("fedrnn.nodes", exchanged)
    assert looked.returncode == 1 and names_both(looked.stdout, "identity shows"), looked
    run = python("fedrnn.run", exchanged, "--rounds", "1")
    assert run.returncode == 1 and names_both(run.stderr, "identity shows"), run
    assert "playbooks/preflight.yml" in run.stderr and "submitted" not in run.stdout

    assert {node: lab.ssh(node, LOOK).stdout for node in PAIR} == before
    assert (exchanged / "known_nodes").read_text() == pins
