"""The virtual nodes: what they can reach, who can reach them, and what lab_up mends."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import labs
import pytest
from cluster import CLONE, INVENTORY, ROOT, Lab, ansible_playbook, must

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
def test_node_has_no_way_out_and_says_so_at_once(lab: Lab, node: str) -> None:
    assert lab.ssh(node, "ip route show default").stdout == ""
    answer = lab.ssh(node, f"python3 -c '{REACH_OUT}'")
    assert "REACHED" not in answer.stdout and "FAST" in answer.stdout, answer


def test_nodes_reach_each_other(lab: Lab) -> None:
    address = lab.ssh("pi2", "hostname -I").stdout.split()[0]
    assert lab.ssh("pi1", f"ping -c5 -i0.3 -W2 {address}").returncode == 0


def test_ssh_is_published_on_loopback_alone(lab: Lab) -> None:
    assert lab.podman("port", lab.container("pi1")).strip() == (
        f"22/tcp -> 127.0.0.1:{lab.port('pi1')}"
    )
    addresses = subprocess.run(
        ["ip", "-4", "-o", "addr", "show", "up"], capture_output=True, text=True, check=True
    ).stdout
    for address in set(re.findall(r"inet ([\d.]+)/", addresses)) - {"127.0.0.1"}:
        with pytest.raises(OSError):
            socket.create_connection((address, lab.port("pi1")), timeout=2).close()


def test_nodes_are_not_privileged_and_carry_the_label(lab: Lab) -> None:
    for node in NODES:
        form = '{{.HostConfig.Privileged}} {{index .Config.Labels "org.fedrnn.lab"}}'
        inspected = lab.podman("container", "inspect", "--format", form, lab.container(node))
        assert inspected.split() == ["false", lab.engine["label"].partition("=")[2]]


def test_node_is_a_running_debian_without_authorities_of_this_machine(lab: Lab) -> None:
    assert lab.ssh("pi1", "systemctl is-system-running --wait").stdout.strip() == "running"
    assert "bookworm" in lab.ssh("pi1", "cat /etc/os-release").stdout
    assert lab.ssh("pi1", "find /usr/local/share/ca-certificates -type f").stdout == ""


def test_nodes_of_one_image_have_own_ids_and_keys(lab: Lab) -> None:
    form = ("container", "inspect", "--format", "{{.ImageName}}")
    assert {lab.podman(*form, lab.container(node)).strip() for node in NODES} == {labs.image(ROOT)}
    own = "cat /etc/machine-id /opt/fedrnn/.identity /etc/ssh/ssh_host_ed25519_key.pub"
    told = [lab.ssh(node, own).stdout.split() for node in NODES]
    assert all(len(words[0]) == 32 and words[2] == "ssh-ed25519" for words in told), told
    for ids in zip(*((*words[:2], words[3]) for words in told), strict=True):
        assert len(set(ids)) == len(NODES), ids


def test_what_lab_up_wrote_is_private(lab: Lab) -> None:
    for path in ("keys/operator", "known_hosts", "ports.yml"):
        status = (INVENTORY / path).stat()
        assert status.st_mode & 0o077 == 0, path
        assert status.st_uid == os.getuid(), path


def test_second_run_and_check_change_nothing(lab: Lab) -> None:
    for arguments in ([UP], ["--check", UP]):
        run = must(ansible_playbook(*arguments))
        assert run.changed == dict.fromkeys(["localhost", *NODES], 0)


def test_reboot_brings_no_way_out(lab: Lab) -> None:
    born = "stat -c %Y /proc/1"  # when PID 1 began
    before = lab.ssh("pi3", born).stdout
    lab.ssh("pi3", "sudo systemctl reboot")
    must(ansible_playbook(UP))
    assert int(lab.ssh("pi3", born).stdout) > int(before)
    assert lab.ssh("pi3", "ip route show default").stdout == ""


def test_stopped_node_is_started_and_foreign_restart_is_mended(lab: Lab, tmp_path: Path) -> None:
    port = lab.port("pi3")
    lab.podman("stop", "--time", "5", lab.container("pi3"))
    # Whose containers.conf is not the lab's knows no hook: the default route is back.
    podman = lab.engine["podman"]
    (setting,) = (word for word in podman if word.startswith("CONTAINERS_CONF="))
    lines = Path(setting.partition("=")[2]).read_text().splitlines(keepends=True)
    plain = tmp_path / "containers.conf"
    plain.write_text("".join(line for line in lines if not line.startswith("hooks_dir")))
    assert len(plain.read_text()) < sum(map(len, lines))
    subprocess.run(
        [f"CONTAINERS_CONF={plain}" if word == setting else word for word in podman]
        + ["restart", "--time", "5", lab.container("pi2")],
        check=True, capture_output=True,
    )  # fmt: skip
    run = must(ansible_playbook(UP))
    assert run.changed["pi3"] == 1 and run.changed["pi2"] == 1 and run.changed["pi1"] == 0
    assert lab.port("pi3") == port
    for node in ("pi2", "pi3"):
        assert lab.ssh(node, "ip route show default").stdout == ""


def test_changed_host_key_is_refused_with_the_remedy(lab: Lab) -> None:
    key = "/etc/ssh/ssh_host_ed25519_key"
    aside = f"mv {key} {key}.aside; mv {key}.pub {key}.pub.aside; systemctl restart ssh"
    back = f"mv -f {key}.aside {key}; mv -f {key}.pub.aside {key}.pub; systemctl restart ssh"
    lab.podman("exec", lab.container("pi3"), "sh", "-c", aside)
    try:
        assert lab.ssh("pi3", "true").returncode == 255
        run = ansible_playbook(UP)
    finally:
        lab.podman("exec", lab.container("pi3"), "sh", "-c", back)
    assert run.rc != 0
    assert "Its host key is not the one pinned in" in run.text
    assert "make lab-down" in run.text
    assert lab.ssh("pi3", "true").returncode == 0


def test_without_podman_the_error_names_the_package(tmp_path: Path) -> None:
    for program in Path("/usr/bin").iterdir():
        if program.name not in ("podman", "podman-remote"):
            (tmp_path / program.name).symlink_to(program)
    run = ansible_playbook(UP, env={"PATH": str(tmp_path)})
    assert run.rc != 0
    assert "podman is not installed on this machine" in run.text
    assert "sudo apt-get install podman" in run.text


def owned(lab: Lab, name: str, *labels: str) -> None:
    """Make an image, a network and a container with these labels."""
    words = [word for label in labels for word in ("--label", label)]
    changes = [word for label in labels for word in ("--change", f"LABEL {label}")]
    subprocess.run([*lab.engine["podman"], "import", *changes, "-", f"localhost/{name}"],
                   input=bytes(10240), check=True, capture_output=True)  # fmt: skip
    lab.podman("network", "create", *words, name)
    lab.podman("create", "--name", name, "--network", name, *words, f"localhost/{name}", "/x")


def test_labs_of_deleted_clones_go_and_no_others(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(CLONE / "lab")
    import down

    ids = {kind: f"{kind}-{os.getpid()}" for kind in ("gone", "here", "old")}
    folders = {"gone": tmp_path / "a clone, löschen", "here": tmp_path}
    for kind, name in ids.items():
        path = [f"{down.PATH_LABEL}={quote(str(folders[kind]))}"] if kind in folders else []
        owned(lab, name, f"{down.LABEL}={name}", *path)
    # Labs of this machine's user that a deleted clone has left are not this test's to remove.
    everything = down.items
    ours = {*ids.values(), lab.engine["label"].partition("=")[2]}
    monkeypatch.setattr(down, "items", lambda: [i for i in everything() if i.lab in ours])

    def left() -> dict[str, list[str]]:
        return {kind: [i.kind for i in everything() if i.lab == name] for kind, name in ids.items()}

    whole = ["container", "network", "image"]
    assert left() == dict.fromkeys(ids, whole)
    running = ("ps", "--quiet", "--filter", f"label={lab.engine['label']}")
    nodes = lab.podman(*running)
    down.remove_gone_clones()
    assert left() == {"gone": [], "here": whole, "old": whole}
    assert lab.podman(*running) == nodes
    said = capsys.readouterr().out
    assert f"{folders['gone']} is gone:\nremoved 1 container\nremoved 1 network" in said
    assert ids["here"] not in said and "did not record the clone's folder" in said
    by_hand = said.strip().rpartition(": ")[2]
    assert by_hand == f"make lab-down LAB={ids['old']}"
    subprocess.run(["sh", "-c", by_hand], cwd=ROOT, check=True, capture_output=True)
    assert left() == {"gone": [], "here": whole, "old": []}
    down.remove(i for i in everything() if i.lab == ids["here"])


def test_lab_down_takes_no_word_that_it_does_not_know(lab: Lab) -> None:
    command = [sys.executable, ROOT / "lab/down.py", "yes"]
    refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode == 2 and "unrecognized arguments: yes" in refused.stderr
    assert lab.ssh("pi1", "true").returncode == 0
