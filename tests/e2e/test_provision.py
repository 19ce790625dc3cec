"""Provisioning when something is wrong: it says what, and finishes what was begun."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cluster import INVENTORY, NEW_CONNECTIONS, ROOT, Lab, ansible_playbook, flat, must

CLUSTER = "playbooks/cluster.yml"
WHEELS = ROOT / ".cache" / "wheelhouse" / "x86_64-cp311"


@pytest.mark.parametrize("playbook", ["site", *(
    f"playbooks/{name}" for name in ("preflight", "sdcard", "flower", "upgrade", "reset")
)])  # fmt: skip
def test_an_inventory_without_nodes(tmp_path: Path, playbook: str) -> None:
    (tmp_path / "hosts.yml").write_text("nodes:\n  hosts: {}\n")
    run = ansible_playbook("-i", str(tmp_path / "hosts.yml"), f"{playbook}.yml")
    assert run.rc != 0
    assert "has no host in its group 'nodes'" in flat(run.text)
    assert "inventory/example" in run.text


def test_a_node_that_is_down_stops_all_before_anything_changes(lab: Lab) -> None:
    port = lab.port("pi2")
    lab.podman("stop", "-t", "2", lab.container("pi2"))
    try:
        run = ansible_playbook(*NEW_CONNECTIONS, CLUSTER)
    finally:
        must(ansible_playbook("playbooks/lab_up.yml"))
    assert run.rc != 0
    assert f"pi2 (127.0.0.1, port {port}) unreachable does not answer over SSH" in flat(run.text)
    assert "--limit 'all:localhost:!pi2'" in flat(run.text)
    assert "pi1 (127.0.0.1" not in run.text
    assert set(run.changed.values()) == {0} and "[os : " not in run.text


def test_a_changed_host_key_is_refused_with_its_remedy(lab: Lab, tmp_path: Path) -> None:
    pinned = INVENTORY / "known_hosts"
    before = pinned.read_text()
    subprocess.run(["ssh-keygen", "-qt", "ed25519", "-N", "", "-f", tmp_path / "k"], check=True)
    other = (tmp_path / "k.pub").read_text().split()[1]
    name = f"[127.0.0.1]:{lab.port('pi3')}"
    lines = [
        f"{name} ssh-ed25519 {other}" if line.startswith(name) else line
        for line in before.splitlines()
    ]
    assert lines != before.splitlines()
    try:
        pinned.write_text("\n".join(lines) + "\n")
        run = ansible_playbook(*NEW_CONNECTIONS, CLUSTER)
    finally:
        pinned.write_text(before)
    assert run.rc != 0
    assert "pi3 (127.0.0.1" in run.text and "Find out why first" in flat(run.text)
    assert f"ssh-keygen -R '{name}' -f {shlex.quote(str(pinned))}" in flat(run.text)


def test_a_wheel_with_a_flipped_bit_is_named_and_fetched_again(lab: Lab) -> None:
    wheel = min(WHEELS.glob("*.whl"), key=lambda path: path.stat().st_size)
    whole = wheel.read_bytes()
    # A new file, not the old one changed: the cache may be shared by hard links.
    wheel.unlink()
    wheel.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    run = must(ansible_playbook(CLUSTER, "--tags", "wheelhouse"))
    assert f"Refused {wheel.name}" in flat(run.text)
    assert wheel.read_bytes() == whole


def interrupt(said: str, how: Callable[[int], object], *arguments: str) -> tuple[int, str]:
    """Runs the cluster's playbook on pi3, and does `how`, which gets the process, when it has said
    so; gives its exit status and what it said."""
    log = ROOT / ".cache" / "test-logs" / "interrupted.log"
    program = Path(sys.executable).with_name("ansible-playbook")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output:
        running = subprocess.Popen(
            [program, CLUSTER, "--limit", "pi3", *arguments],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        deadline = time.monotonic() + 180
        while said not in log.read_text():
            assert running.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        how(running.pid)
        rc = running.wait(timeout=180)
    return rc, log.read_text()


def kill_when(said: str, *arguments: str, after: float = 0) -> str:
    """Interrupts by killing Ansible with all that it has started."""

    def kill(pid: int) -> None:
        time.sleep(after)
        # Ansible's workers have sessions of their own.
        children = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True)
        os.killpg(pid, signal.SIGKILL)
        for child in children.stdout.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)

    return interrupt(said, kill, *arguments)[1]


def test_an_installation_that_was_killed_or_has_no_room_is_finished_later(lab: Lab) -> None:
    """Killed at its work; then the wheels come to where there is no room; then nothing is wrong."""
    site, small = "/opt/fedrnn/venv/lib/python3*/site-packages", "/opt/fedrnn/small"
    assert lab.ssh("pi3", f"sudo sh -c 'rm -r {site}/numpy-*.dist-info'").returncode == 0
    said = kill_when("Every package of the lock is installed", "--tags", "wheelhouse", after=1)
    assert "numpy is missing" in said

    make = f"mkdir {small}; mount -t tmpfs -o size=64m tmpfs {small}"
    assert lab.ssh("pi3", f"sudo sh -ec '{make}'").returncode == 0
    try:
        options = ["-e", f"wheelhouse_work={small}/wheels", "--limit", "pi3"]
        run = ansible_playbook(CLUSTER, "--tags", "wheelhouse", *options)
        left = lab.ssh("pi3", f"sudo ls -A {small}").stdout
    finally:
        lab.ssh("pi3", f"sudo umount {small}; sudo rmdir {small}")
    assert run.rc == 2 and "No space left on device" in run.text
    assert left == "", "the room is not given back"

    run = must(ansible_playbook(CLUSTER, "--tags", "wheelhouse,torch"))
    assert run.changed["pi3"] > 0 and run.changed["pi1"] <= 1  # pi1 packs the tar file
    assert lab.ssh("pi3", "ls /opt/fedrnn/wheels").returncode != 0
    # That a further run has nothing to do, test_site.py looks at afterwards.


def test_a_node_that_restarts_in_the_middle_of_a_role_is_finished_by_the_next_run(lab: Lab) -> None:
    """Without its units and its keys, which the role brings before and after the restart."""
    units = "/usr/local/lib/systemd/system/fedrnn-*"
    assert lab.ssh("pi3", f"sudo sh -c 'rm -r {units} /etc/fedrnn'").returncode == 0
    rc, said = interrupt(
        "TASK [pysyft : Accounts, folders and units",
        # A container restarts in a second, which Ansible may not notice: so it stays off.
        lambda _: lab.podman("stop", "--time", "1", lab.container("pi3")),
        *("--tags", "pysyft,dataset"),
    )
    assert rc != 0 and "UNREACHABLE" in said
    must(ansible_playbook("playbooks/lab_up.yml"))
    must(ansible_playbook(CLUSTER, "--limit", "pi3"))
    assert lab.ssh("pi3", "systemctl is-active fedrnn-datasite.path").stdout == "active\n"
    assert lab.ssh("pi3", "sudo test -e /etc/fedrnn/researchers.keys").returncode == 0


WITHOUT_DATASITE = """
systemctl disable --now fedrnn-datasite.path fedrnn-launch.socket fedrnn-datasite.service
rm -r /usr/local/lib/systemd/system/fedrnn-* /etc/fedrnn /etc/tmpfiles.d/fedrnn.conf
rm -r /etc/sysusers.d/fedrnn.conf /etc/ssh/sshd_config.d/50-fedrnn.conf /opt/fedrnn/.applied
rm -r /var/lib/fedrnn /run/fedrnn
for name in fedrnn fedrnn-owner fedrnn-job fedrnn-wire; do userdel $name; groupdel $name; done
systemctl daemon-reload; systemctl reload ssh
"""


def test_a_datasite_that_was_killed_in_the_making_is_finished_by_the_next_run(lab: Lab) -> None:
    """Killed before its accounts exist, in the middle of them, and before it has its data."""
    undone = lab.ssh("pi3", f"sudo sh -c '{WITHOUT_DATASITE}'; getent passwd fedrnn")
    assert undone.stdout == "", undone
    points = {
        "TASK [pysyft : The files of the datasite": "test -d /var/lib/fedrnn",
        "TASK [pysyft : Accounts, folders and units": "test -e /etc/fedrnn/datasite.json",
        "TASK [dataset : The node has its share]": "ls /var/lib/fedrnn/published/*",
    }
    for said, comes_later in points.items():
        kill_when(said, "--tags", "pysyft,dataset", after=0.2)
        assert lab.ssh("pi3", f"sudo sh -c '{comes_later}'").returncode != 0, said

    must(ansible_playbook(CLUSTER, "--limit", "pi3"))
    assert lab.ssh("pi3", "sudo systemctl start fedrnn-datasite").returncode == 0, (
        "no pass succeeds"
    )
    # test_site.py, afterwards: a further run has nothing to do.
    looked_at = [sys.executable, "-m", "pytest", "-q", "tests/roles/test_pysyft.py", "-k", "pi3"]
    looks = [*looked_at, "--inventory", INVENTORY]
    done = subprocess.run(looks, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout


def test_packages_that_were_left_half_configured_are_configured(lab: Lab) -> None:
    make = (
        "set -e; d=$(mktemp -d); mkdir $d/DEBIAN; "
        "printf 'Package: halfway\\nVersion: 1\\nArchitecture: all\\nMaintainer: t <t@t.local>\\n"
        "Description: t\\n' > $d/DEBIAN/control; "
        "printf '#!/bin/sh\\ntest -e /run/halfway-ok\\n' > $d/DEBIAN/postinst; "
        "chmod 755 $d/DEBIAN/postinst; dpkg-deb -b $d /tmp/halfway.deb; "
        "sudo dpkg -i /tmp/halfway.deb || sudo touch /run/halfway-ok"
    )
    status = "dpkg-query -Wf '${db:Status-Status}' halfway"
    assert lab.ssh("pi1", make).returncode == 0
    assert lab.ssh("pi1", status).stdout == "half-configured"
    try:
        run = must(ansible_playbook(CLUSTER, "--tags", "os"))
        assert run.changed["pi1"] == 1 and run.changed["pi2"] == 0
        assert lab.ssh("pi1", status).stdout == "installed"
    finally:
        lab.ssh("pi1", "sudo dpkg -r halfway; sudo rm -f /tmp/halfway.deb /run/halfway-ok")
