"""site.yml from bare, in every run of the tests: all other labs begin from images of its result."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from cluster import CLONE, ROOT, Lab, ansible_playbook, flat, must


def test_a_bare_node_of_another_clone_is_provisioned(lab: Lab, tmp_path: Path) -> None:
    """Beside this lab. While its .cache is empty, `--check` passes and tells what it would do."""
    clone = tmp_path / "another clone"
    folders = ("lab", "library", "callbacks", "playbooks", "roles", "fedrnn")
    for name in (*folders, "inventory/lab/group_vars"):
        shutil.copytree(ROOT / name, clone / name)
    for name in ("ansible.cfg", "site.yml"):
        shutil.copy2(ROOT / name, clone / name)
    (clone / ".cache/lab").mkdir(parents=True)
    images = Path(lab.engine["images"]).parent
    (clone / ".cache/lab/images").symlink_to(images)
    (clone / "inventory/lab/hosts.yml").write_text("nodes: {children: {lab: {hosts: {pi1: }}}}\n")
    before = lab.podman("ps", "--quiet", "--filter", f"label={lab.engine['label']}")
    must(ansible_playbook("playbooks/lab_up.yml", cwd=clone))
    try:
        other = Lab(clone)
        assert other.engine["label"] != lab.engine["label"]
        assert other.port("pi1") != lab.port("pi1")
        assert other.ssh("pi1", "hostname").stdout == "pi1\n"
        checked = must(ansible_playbook("--check", "site.yml", cwd=clone))
        assert checked.changed["pi1"] > 5
        assert other.ssh("pi1", "ls /opt").stdout == ""
        root = ("exec", other.container("pi1"), "sh", "-euc")
        other.podman(*root, "useradd --create-home fedrnn")
        refused = ansible_playbook("playbooks/cluster.yml", cwd=clone)
        assert refused.rc == 2, refused.tail()
        assert "the names of ours: account fedrnn, group fedrnn" in flat(refused.text)
        assert refused.changed["pi1"] == 0 and other.ssh("pi1", "ls /opt").stdout == ""
        other.podman(*root, "userdel --remove fedrnn")
        for name in ("apt", "wheelhouse"):
            (clone / ".cache" / name).symlink_to(ROOT / ".cache" / name)
        assert must(ansible_playbook("site.yml", cwd=clone)).changed["pi1"] > 20
        looks = [sys.executable, "-m", "pytest", "-q", "tests/roles"]
        looked = subprocess.run(
            [*looks, "--inventory", clone / "inventory/lab"],
            cwd=CLONE, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert looked.returncode == 0, looked.stdout
    finally:
        down = subprocess.run(
            [sys.executable, clone / "lab/down.py"], capture_output=True, text=True, check=False
        )
    assert "removed 1 container" in down.stdout, down
    assert (
        other.podman("ps", "--all", "--quiet", "--filter", f"label={other.engine['label']}") == ""
    )
    assert not (clone / "inventory/lab/keys").exists()
    assert lab.podman("ps", "--quiet", "--filter", f"label={lab.engine['label']}") == before
    assert lab.ssh("pi1", "true").returncode == 0
