"""Cards for an inventory of nodes that do not exist yet."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from cluster import ROOT, ansible_playbook, flat, must

SDCARD = "playbooks/sdcard.yml"
SECRET = "correct horse"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The example inventory as its reader fills it in, with wifi and a key."""
    home = tmp_path / "home"
    shutil.copytree(ROOT / "inventory" / "example", home)
    key = tmp_path / "operator"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    said = home / "group_vars" / "nodes.yml"
    more = {
        "ansible_ssh_private_key_file": str(key), "card_wifi": "Home", "card_wifi_country": "DE",
        "card_wifi_password": SECRET,
    }  # fmt: skip
    said.write_text(said.read_text() + yaml.safe_dump(more))
    return home


def test_each_node_gets_its_files_and_no_log_the_password(home: Path) -> None:
    run = must(ansible_playbook("-vvv", "-i", str(home), SDCARD))
    for name in ("pi-kitchen", "pi-attic", "pi-garage"):
        told = yaml.safe_load((home / "cards" / name / "user-data").read_text())
        assert told["hostname"] == name
        assert f"has the first-boot files of {name}" in flat(run.text)
    assert SECRET not in run.text
    assert set(must(ansible_playbook("-i", str(home), SDCARD)).changed.values()) == {0}


def test_a_mounted_card_gets_the_files_of_its_node(home: Path, tmp_path: Path) -> None:
    boot = tmp_path / "bootfs"
    boot.mkdir()
    (boot / "cmdline.txt").write_text("root=PARTUUID=1\n")
    must(ansible_playbook("-i", str(home), "--limit", "pi-attic", "-e", f"boot={boot}", SDCARD))
    assert yaml.safe_load((boot / "user-data").read_text())["hostname"] == "pi-attic"


def test_what_is_wrong_is_told_of_all_nodes_and_nothing_is_written(home: Path) -> None:
    hosts = home / "hosts.yml"
    hosts.write_text(hosts.read_text().replace("192.168.1.22", "192.168.1.21"))
    run = ansible_playbook("-i", str(home), "-e", "card_hostname=my_pi", SDCARD)
    said = flat(run.text)
    assert run.rc != 0 and "Nothing was written" in said
    assert "pi-attic, pi-kitchen: each of them is reached at 192.168.1.21" in said
    assert "pi-garage: 'my_pi' is no host name" in said
    # The other node need not be asked for.
    run = ansible_playbook("-i", str(home), "--limit", "pi-attic", SDCARD)
    assert run.rc != 0 and "pi-attic, pi-kitchen: each of them" in flat(run.text)
    assert not (home / "cards").exists()
