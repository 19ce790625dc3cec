"""The virtual nodes: what they can reach, who can reach them, and what lab_up mends."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from cluster import INVENTORY, ROOT, Lab, ansible_playbook, must

NODES = ("pi1", "pi2", "pi3")
UP = "playbooks/lab_up.yml"

REACH_OUT = """
import errno, socket, time
begin = time.monotonic()
for target in [("192.0.2.1", 443), ("example.org", 80)]:
    try:
        socket.create_connection(target, timeout=10)
        print("REACHED", target)
    except OSError as error:
        print(type(error).__name__, error)
print("FAST" if time.monotonic() - begin < 3 else "SLOW")
"""


@pytest.mark.parametrize("node", NODES)
def test_node_has_no_way_out_and_says_so_at_once(nodes: Lab, node: str) -> None:
    assert nodes.ssh(node, "ip route show default").stdout == ""
    answer = nodes.ssh(node, f"python3 -c '{REACH_OUT}'")
    assert "REACHED" not in answer.stdout and "FAST" in answer.stdout, answer


def test_nodes_reach_each_other(nodes: Lab) -> None:
    address = nodes.ssh("pi2", "hostname -I").stdout.split()[0]
    assert nodes.ssh("pi1", f"ping -c5 -i0.3 -W2 {address}").returncode == 0


def test_ssh_is_published_on_loopback_alone(nodes: Lab) -> None:
    assert nodes.podman("port", nodes.container("pi1")).strip() == (
        f"22/tcp -> 127.0.0.1:{nodes.port('pi1')}"
    )
    addresses = subprocess.run(
        ["ip", "-4", "-o", "addr", "show", "up"], capture_output=True, text=True, check=True
    ).stdout
    for address in set(re.findall(r"inet ([\d.]+)/", addresses)) - {"127.0.0.1"}:
        with pytest.raises(OSError):
            socket.create_connection((address, nodes.port("pi1")), timeout=2).close()


def test_nodes_are_not_privileged_and_carry_the_label(nodes: Lab) -> None:
    for node in NODES:
        form = '{{.HostConfig.Privileged}} {{index .Config.Labels "org.fedrnn.lab"}}'
        inspected = nodes.podman("container", "inspect", "--format", form, nodes.container(node))
        assert inspected.split() == ["false", nodes.engine["label"].partition("=")[2]]


def test_node_is_a_running_debian_without_authorities_of_this_machine(nodes: Lab) -> None:
    assert nodes.ssh("pi1", "systemctl is-system-running --wait").stdout.strip() == "running"
    assert "bookworm" in nodes.ssh("pi1", "cat /etc/os-release").stdout
    assert nodes.ssh("pi1", "find /usr/local/share/ca-certificates -type f").stdout == ""


def test_what_lab_up_wrote_is_private(nodes: Lab) -> None:
    for path in ("keys/operator", "known_hosts", "ports.yml"):
        status = (INVENTORY / path).stat()
        assert status.st_mode & 0o077 == 0, path
        assert status.st_uid == os.getuid(), path


def test_second_run_and_check_change_nothing(nodes: Lab) -> None:
    for arguments in ([UP], ["--check", UP]):
        run = must(ansible_playbook(*arguments))
        assert run.changed == dict.fromkeys(["localhost", *NODES], 0)


def test_reboot_brings_no_way_out(nodes: Lab) -> None:
    born = "stat -c %Y /proc/1"  # when PID 1 began
    before = nodes.ssh("pi3", born).stdout
    nodes.ssh("pi3", "sudo systemctl reboot")
    must(ansible_playbook(UP))
    assert int(nodes.ssh("pi3", born).stdout) > int(before)
    assert nodes.ssh("pi3", "ip route show default").stdout == ""


def test_stopped_node_is_started_and_foreign_restart_is_mended(nodes: Lab, tmp_path: Path) -> None:
    port = nodes.port("pi3")
    nodes.podman("stop", "--time", "5", nodes.container("pi3"))
    # Whose containers.conf is not the lab's knows no hook: the default route is back.
    podman = nodes.engine["podman"]
    (setting,) = (word for word in podman if word.startswith("CONTAINERS_CONF="))
    lines = Path(setting.partition("=")[2]).read_text().splitlines(keepends=True)
    plain = tmp_path / "containers.conf"
    plain.write_text("".join(line for line in lines if not line.startswith("hooks_dir")))
    assert len(plain.read_text()) < sum(map(len, lines))
    subprocess.run(
        [f"CONTAINERS_CONF={plain}" if word == setting else word for word in podman]
        + ["restart", "--time", "5", nodes.container("pi2")],
        check=True, capture_output=True,
    )  # fmt: skip
    run = must(ansible_playbook(UP))
    assert run.changed["pi3"] == 1 and run.changed["pi2"] == 1 and run.changed["pi1"] == 0
    assert nodes.port("pi3") == port
    for node in ("pi2", "pi3"):
        assert nodes.ssh(node, "ip route show default").stdout == ""


def test_changed_host_key_is_refused_with_the_remedy(nodes: Lab) -> None:
    key = "/etc/ssh/ssh_host_ed25519_key"
    aside = f"mv {key} {key}.aside; mv {key}.pub {key}.pub.aside; systemctl restart ssh"
    back = f"mv -f {key}.aside {key}; mv -f {key}.pub.aside {key}.pub; systemctl restart ssh"
    nodes.podman("exec", nodes.container("pi3"), "sh", "-c", aside)
    try:
        assert nodes.ssh("pi3", "true").returncode == 255
        run = ansible_playbook(UP)
    finally:
        nodes.podman("exec", nodes.container("pi3"), "sh", "-c", back)
    assert run.rc != 0
    assert "Its host key is not the one pinned in" in run.text
    assert "make lab-down" in run.text
    assert nodes.ssh("pi3", "true").returncode == 0


def test_without_podman_the_error_names_the_package(tmp_path: Path) -> None:
    for program in Path("/usr/bin").iterdir():
        if program.name not in ("podman", "podman-remote"):
            (tmp_path / program.name).symlink_to(program)
    run = ansible_playbook(UP, env={"PATH": str(tmp_path)})
    assert run.rc != 0
    assert "podman is not installed on this machine" in run.text
    assert "sudo apt-get install podman" in run.text


def test_two_clones_live_side_by_side(nodes: Lab, tmp_path: Path) -> None:
    """The other's node is bare, its .cache empty: `--check` passes and tells what it would do."""
    clone = tmp_path / "another clone"
    for name in ("lab", "library", "playbooks", "roles", "fedrnn", "inventory/lab/group_vars"):
        shutil.copytree(ROOT / name, clone / name)
    for name in ("ansible.cfg", "site.yml"):
        shutil.copy2(ROOT / name, clone / name)
    (clone / ".cache/lab").mkdir(parents=True)
    images = Path(nodes.engine["images"]).parent
    (clone / ".cache/lab/images").symlink_to(images)
    (clone / "inventory/lab/hosts.yml").write_text("nodes: {children: {lab: {hosts: {pi1: }}}}\n")
    before = nodes.podman("ps", "--quiet", "--filter", f"label={nodes.engine['label']}")
    must(ansible_playbook(UP, cwd=clone))
    try:
        other = Lab(clone)
        assert other.engine["label"] != nodes.engine["label"]
        assert other.port("pi1") != nodes.port("pi1")
        assert other.ssh("pi1", "hostname").stdout == "pi1\n"
        checked = must(ansible_playbook("--check", "site.yml", cwd=clone))
        assert checked.changed["pi1"] > 5
        assert other.ssh("pi1", "ls /opt").stdout == ""
    finally:
        down = subprocess.run(
            [sys.executable, clone / "lab/down.py"], capture_output=True, text=True, check=False
        )
    assert "removed 1 container" in down.stdout, down
    assert (
        other.podman("ps", "--all", "--quiet", "--filter", f"label={other.engine['label']}") == ""
    )
    assert not (clone / "inventory/lab/keys").exists()
    assert nodes.podman("ps", "--quiet", "--filter", f"label={nodes.engine['label']}") == before
    assert nodes.ssh("pi1", "true").returncode == 0
