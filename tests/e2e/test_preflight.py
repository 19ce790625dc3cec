"""Nodes that have what preflight looks for, all at once: one run finds everything, and no more.

What only a board can tell (voltage, a 32-bit userland, its clock) comes from programs that print
what the real ones print.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import INVENTORY, RESEARCHER, Lab, ansible_playbook, flat, must
from login import Login

PREFLIGHT = "playbooks/preflight.yml"
PACKAGE = """
d=$(mktemp -d); mkdir $d/DEBIAN
printf '%s\\n' "Package: $1" 'Version: 99' 'Architecture: all' 'Maintainer: t <t@t.local>' \
  'Description: t' > $d/DEBIAN/control
printf '#!/bin/sh\\nexit %s\\n' $2 > $d/DEBIAN/postinst; chmod 755 $d/DEBIAN/postinst
dpkg-deb -b $d /tmp/$1.deb > /dev/null
dpkg -i /tmp/$1.deb > /dev/null 2>&1 || true; rm -r $d /tmp/$1.deb
"""
HOLD = """
import fcntl, time
lock = open("/var/lib/dpkg/lock-frontend", "w")
fcntl.lockf(lock, fcntl.LOCK_EX)
time.sleep(600)
"""
SAYS = "printf '#!/bin/sh\\necho %s\\n' '{says}' > {path}; chmod 755 {path}"

# By node: what is done to it as root, and what undoes it.
DONE = {
    "pi1": [
        ("mount -t tmpfs -o size=64m tmpfs /opt", "umount /opt"),
        ("mkdir -p /boot/firmware; mount -t tmpfs -o ro tmpfs /boot/firmware",
         "umount /boot/firmware; rmdir /boot/firmware"),
        (SAYS.format(says="armhf", path="/usr/local/bin/dpkg"), "rm /usr/local/bin/dpkg"),
        (SAYS.format(says="throttled=0x50000", path="/usr/local/bin/vcgencmd"),
         "rm /usr/local/bin/vcgencmd"),
        (SAYS.format(says="86400", path="/usr/local/bin/date"), "rm /usr/local/bin/date"),
    ],
    "pi2": [
        ("mkdir -p /home/pi/.local/lib/python3.9/site-packages/torchvision",
         "rm -r /home/pi/.local"),
        (f"set -- python3-numpy 0; {PACKAGE}", "dpkg --purge python3-numpy"),
        (f"set -- halfway 1; {PACKAGE}", "dpkg --purge halfway"),
        ("echo mine >> /etc/fedrnn/researchers.keys", "sed -i '$d' /etc/fedrnn/researchers.keys"),
        (f"systemd-run --quiet --unit hold python3 -c '{HOLD}'", "systemctl stop hold"),
        ("cp /etc/fstab /run/fstab; echo '/swapfile none swap sw 0 0' >> /etc/fstab;"
         "echo '[zram0]' > /etc/systemd/zram-generator.conf; cd /usr/lib/systemd;"
         "mkdir -p system-generators; ln -s /bin/true system-generators/zram-generator",
         "cp /run/fstab /etc/fstab; rm /etc/systemd/zram-generator.conf"
         " /usr/lib/systemd/system-generators/zram-generator"),
    ],
    "pi3": [
        ("cp -p /etc/sudoers.d/010_pi-nopasswd /run/; rm /etc/sudoers.d/010_pi-nopasswd",
         "cp -p /run/010_pi-nopasswd /etc/sudoers.d/"),
        ("hostname pi2", "hostname pi3"),
        ("cp -p /etc/machine-id /run/; echo {machine} > /etc/machine-id",
         "cp -p /run/machine-id /etc/machine-id"),
        # One site is reached, on the node itself, the other is not.
        ("cp /etc/hosts /run/hosts; echo '127.0.0.1 www.debian.org' >> /etc/hosts;"
         "systemd-run --quiet --unit site python3 -m http.server --bind 127.0.0.1 443",
         "cat /run/hosts > /etc/hosts; systemctl stop site"),
    ],
}  # fmt: skip
EVERY = {"route", "variable"}  # without a default route; a misspelt variable after -e
EXPECTED = {
    # Without its /opt, nothing says that the accounts of pi1 are ours, or which node it is.
    "pi1": EVERY | {"disk-full", "read-only", "32-bit", "under-voltage", "throttled", "clock",
                    "foreign-account", "identity"},
    "pi2": EVERY | {"stray-python", "apt-python", "half-configured", "apt-lock", "two-swaps",
                    "researcher-lines"},
    "pi3": EVERY | {"sudo", "same-name", "same-machine", "same-address", "site"},
}  # fmt: skip


@pytest.fixture
def broken(lab: Lab) -> Iterator[Lab]:
    """The lab with all that is wrong in DONE, put right afterwards."""

    def root(node: str, command: str) -> None:
        lab.podman("exec", lab.container(node), "sh", "-euc", command)

    def address(what: str) -> None:  # of the node's own accord it may not
        dial = ("exec", "--privileged", lab.container("pi3"), "ip", "addr", what)
        lab.podman(*dial, f"{twice}/32", "dev", "lo")

    machine = lab.ssh("pi1", "cat /etc/machine-id").stdout.strip()
    twice = lab.ssh("pi1", "hostname -I").stdout.split()[0]
    undo = []
    try:
        for node, steps in DONE.items():
            for do, back in steps:
                root(node, do.replace("{machine}", machine))
                undo.append((node, back))
        address("add")
        yield lab
        address("del")
    finally:
        for node, back in reversed(undo):
            root(node, back)


def test_one_run_finds_every_problem_of_every_node(broken: Lab, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    options = ("preflight_internet=true", "swap_sise=1", f"preflight_report={file}")
    run = ansible_playbook(*[word for option in options for word in ("-e", option)], PREFLIGHT)
    report = json.loads(file.read_text())
    found = {node: set() for node in EXPECTED}
    for one in report["findings"]:
        found[one["node"]].add(one["finding"])
        assert one["says"] in run.text and one["remedy"] in run.text
    assert found == EXPECTED
    assert run.rc == 2 and report["stopped"] == ["pi1", "pi2", "pi3"]
    assert "do you mean swap_" in run.text


def test_afterwards_nothing_is_in_the_way(lab: Lab) -> None:
    run = must(ansible_playbook(PREFLIGHT))
    assert "Nothing is in the way on pi1, pi2, pi3" in flat(run.text)
    assert set(run.changed.values()) == {0}


INVENTORIES = {
    "a tab": ("nodes:\n  hosts:\n\tpi1:\n", "Tabs are usually invalid in YAML"),
    "a node twice": ("nodes: {hosts: {pi1: }}\nlab:\n  hosts:\n    a:\n    a:\n",
                     "Found duplicate mapping key 'a'"),
    "another group": ("node:\n  hosts:\n    pi1:\n", "has no host in its group 'nodes'"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", INVENTORIES)
def test_an_inventory_that_is_wrong_is_refused_in_words(tmp_path: Path, wrong: str) -> None:
    text, words = INVENTORIES[wrong]
    (tmp_path / "hosts.yml").write_text(text)
    run = ansible_playbook("-i", str(tmp_path / "hosts.yml"), "site.yml")
    assert run.rc != 0 and words in flat(run.text)


def test_an_account_without_a_home_is_told_what_it_lacks(lab: Lab) -> None:
    def root(command: str) -> None:
        lab.podman("exec", lab.container("pi1"), "sh", "-euc", command)

    root(
        "useradd --no-create-home --shell /bin/sh nohome;"
        " echo 'nohome ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/nohome;"
        " install -m 644 /home/pi/.ssh/authorized_keys /etc/ssh/nohome;"
        " printf 'Match User nohome\\nAuthorizedKeysFile /etc/ssh/nohome\\n' >"
        " /etc/ssh/sshd_config.d/90-nohome.conf; systemctl reload ssh"
    )
    try:
        run = ansible_playbook("-e", "ansible_user=nohome", "--limit", "pi1", PREFLIGHT)
    finally:
        root(
            "userdel nohome; rm /etc/sudoers.d/nohome /etc/ssh/nohome"
            " /etc/ssh/sshd_config.d/90-nohome.conf; systemctl reload ssh"
        )
    assert run.rc == 2
    assert "has no home directory for nohome that it can write to (/home/nohome)" in flat(run.text)


def test_the_account_of_the_gate_is_refused_as_operator(lab: Lab) -> None:
    run = ansible_playbook("-e", "ansible_user=fedrnn", "--limit", "pi1", PREFLIGHT)
    assert run.rc == 2 and "pi1 (127.0.0.1" in run.text
    assert "is reached as fedrnn, and site.yml gives accounts" in flat(run.text)


def test_an_inventory_copied_without_its_keys_locks_nobody_out(lab: Lab, tmp_path: Path) -> None:
    pair = INVENTORY / "keys" / "researcher"
    told = subprocess.run(["ssh-keygen", "-lf", pair], capture_output=True, text=True, check=True)
    first = told.stdout.split()[1]
    copy = tmp_path / "home"
    shutil.copytree(INVENTORY, copy, ignore=shutil.ignore_patterns("researcher*"))
    run = ansible_playbook("-i", str(copy), "playbooks/cluster.yml")
    said = flat(run.text)
    assert run.rc != 0 and set(run.changed.values()) == {0}
    for node in ("pi1", "pi2", "pi3"):
        assert f"STOP {node} (127.0.0.1, port {lab.port(node)}) researcher-key" in said
    assert f"knows {RESEARCHER} by the key {first}, and this inventory has a new one" in said
    assert not (copy / "keys" / "researcher").exists()
    with Login(lab) as login:
        assert not login.ask("describe").refused
    named = must(ansible_playbook("-i", str(copy), "-e", f"pysyft_retired_keys={first}", PREFLIGHT))
    assert "Nothing is in the way" in flat(named.text)
