"""Debian 12 and 13 in one cluster. `make test-mixed`.

On x86-64 with Python 3.13 there is no torch for the CPU on the default index, and so no lock: the
Debian 13 node gets the packages of aarch64-cp313 without torch, and all else that a node has.
Training on Python 3.13 is for a board to prove.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from clone import clone, give
from cluster import CLONE, Lab, ansible_playbook, flat, must

FILES = CLONE / "roles" / "wheelhouse" / "files"
sys.path.insert(0, str(FILES))
import lock as maker  # noqa: E402
import wheelhouse  # noqa: E402

pytestmark = pytest.mark.apart
LOCK = "x86_64-cp313"
CLUSTER = "playbooks/cluster.yml"


def lock_without_torch(work: Path) -> str:
    """The lock of an x86-64 node with Python 3.13: the versions of aarch64's, without torch."""
    pins = wheelhouse.read_lock(FILES / "locks" / "aarch64-cp313.txt")
    packages = [f"{pin.name}=={pin.version}" for pin in pins if pin.name != "torch"]
    return "".join(f"{pin}\n" for pin in maker.choose(LOCK, packages, work))


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A clone with one bare node of each."""
    folder = tmp_path_factory.mktemp("mixed") / "fedrnn"
    with clone(folder, bookworm="bookworm", trixie="trixie") as lab:
        must(ansible_playbook("playbooks/lab_up.yml", cwd=lab.root))
        yield lab


@pytest.fixture(scope="module")
def provisioned(mixed: Lab, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Both, as far as they can go."""
    lock = mixed.root / "roles/wheelhouse/files/locks" / f"{LOCK}.txt"
    lock.write_text(lock_without_torch(tmp_path_factory.mktemp("lock")))
    modules = yaml.safe_load((CLONE / "roles/wheelhouse/defaults/main.yml").read_text())
    modules = [name for name in modules["wheelhouse_modules"] if name != "torch"]
    give(mixed, "trixie", {"wheelhouse_modules": modules})
    must(ansible_playbook("site.yml", "--skip-tags", "torch", cwd=mixed.root))
    alone = ("--limit", "bookworm", "--tags", "torch")
    must(ansible_playbook(CLUSTER, *alone, cwd=mixed.root))
    return mixed


def test_a_node_without_a_lock_stops_all_and_is_told_what_helps(mixed: Lab) -> None:
    run = ansible_playbook("site.yml", cwd=mixed.root)
    assert run.rc != 0
    assert f"for which there is no lock of wheels {LOCK}" in flat(run.text)
    assert "run `make locks`" in flat(run.text)
    assert run.changed["bookworm"] == run.changed["trixie"] == 0 and "[os : " not in run.text


def test_each_node_has_the_python_of_its_debian(provisioned: Lab) -> None:
    for node, version in (("bookworm", "3.11"), ("trixie", "3.13")):
        ask = ". /etc/os-release; echo $VERSION_CODENAME; /opt/fedrnn/venv/bin/python --version"
        said = provisioned.ssh(node, ask).stdout
        assert said.startswith(f"{node}\nPython {version}."), said


def test_a_second_run_changes_nothing(provisioned: Lab) -> None:
    run = must(ansible_playbook("site.yml", "--skip-tags", "torch", cwd=provisioned.root))
    assert set(run.changed.values()) == {0}, run.changed


def test_what_the_nodes_are_looked_at_over_ssh(provisioned: Lab) -> None:
    """All of tests/roles, but what imports torch where there is none."""
    torch = "not (trixie and (torch or byte_code))"
    looks = [sys.executable, "-m", "pytest", "-q", "tests/roles", "-k", torch]
    done = subprocess.run(looks, cwd=provisioned.root, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout
