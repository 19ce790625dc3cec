"""Role os where it could lock the operator out, or a board out of its boot."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from cluster import NEW_CONNECTIONS, ROOT, Lab, ansible_playbook, flat, must

CLUSTER = "playbooks/cluster.yml"
HARDENING = "/etc/ssh/sshd_config.d/05-fedrnn-hardening.conf"
CMDLINE = "/boot/firmware/cmdline.txt"
STARTED = "stat -c %Y /proc/1"


@pytest.fixture
def unhardened(lab: Lab) -> Iterator[Lab]:
    """The cluster, with the settings of SSH gone from pi3, and there again afterwards."""
    lab.ssh("pi3", f"sudo rm {HARDENING}; sudo systemctl reload ssh")
    yield lab
    must(ansible_playbook(CLUSTER, "--limit", "pi3", "--tags", "os"))


def test_an_operator_who_has_no_key_is_not_locked_out(unhardened: Lab) -> None:
    by_password = "-o ControlPath=none -o PreferredAuthentications=password -o BatchMode=yes"
    run = ansible_playbook(
        CLUSTER, "--limit", "pi3", "--tags", "os", "-e", f"os_ssh_proof='{by_password}'"
    )
    assert run.rc != 0
    assert "a change of SSH's settings could lock you out" in flat(run.text)
    assert run.changed["pi3"] == 0
    assert unhardened.ssh("pi3", f"ls {HARDENING}").returncode != 0


def test_settings_that_sshd_cannot_read_are_taken_back(unhardened: Lab) -> None:
    broken = "/etc/ssh/sshd_config.d/90-broken.conf"
    assert unhardened.ssh("pi3", f"echo Nonsense yes | sudo tee {broken}").returncode == 0
    try:
        run = ansible_playbook(CLUSTER, "--limit", "pi3", "--tags", "os")
    finally:
        unhardened.ssh("pi3", f"sudo rm {broken}")
    assert run.rc != 0
    assert "sshd refuses the settings" in flat(run.text) and "Nonsense" in run.text
    assert unhardened.ssh("pi3", f"ls {HARDENING}").returncode != 0


NOBODY = "/etc/ssh/sshd_config.d/90-nobody.conf"  # not in force until somebody reloads


def test_settings_under_which_nobody_comes_in_are_taken_back(unhardened: Lab) -> None:
    def inside(command: str) -> str:
        command = f"{command}; true"
        return unhardened.podman("exec", unhardened.container("pi3"), "sh", "-c", command)

    time.sleep(2)  # sshd may still be reading its settings anew
    inside(f"echo 'AllowUsers nobody' > {NOBODY}")
    try:
        run = ansible_playbook(CLUSTER, "--limit", "pi3", "--tags", "os")
        left = inside(f"ls {HARDENING}")
    finally:
        inside(f"rm {NOBODY}; systemctl reload ssh")
    assert run.rc != 0
    assert "did not let pi in with SSH's new settings, so they were taken back" in flat(run.text)
    assert not left


def test_a_node_that_hears_nothing_more_takes_them_back_by_itself(unhardened: Lab) -> None:
    """What was there before, though two runs were broken off without a proof."""
    script = (ROOT / "roles/os/files/sshd.sh").read_text()
    pi3 = unhardened.container("pi3")
    unhardened.podman("exec", pi3, "sh", "-c", f"echo '# before' > {HARDENING}")
    for text, seconds in (("# one\n", 600), ("# two\n", 3)):
        in_seconds = ("env", f"UNDO_SECONDS={seconds}", "sh", "-c", script, "sh", "try")
        unhardened.podman("exec", pi3, *in_seconds, HARDENING, text, f"{HARDENING}.also", text)
        assert unhardened.podman("exec", pi3, "cat", HARDENING) == text
    until = time.monotonic() + 30
    while unhardened.ssh("pi3", f"cat {HARDENING}").stdout != "# before\n":
        assert time.monotonic() < until
        time.sleep(0.5)
    assert unhardened.ssh("pi3", f"ls {HARDENING}.*").returncode == 2


OF_PYSYFT = "/etc/ssh/sshd_config.d/50-fedrnn.conf"


def test_settings_of_another_role_are_taken_back_as_well(lab: Lab) -> None:
    """By the node's timer alone: there is no old connection by which Ansible could do it."""
    source = ROOT / f"roles/pysyft/files/root{OF_PYSYFT}"
    before = source.read_text()
    source.write_text(f"DenyUsers pi\n{before}")
    options = ("--limit", "pi3", "--tags", "pysyft", "-e", "os_undo_seconds=15", *NEW_CONNECTIONS)
    try:
        run = ansible_playbook(CLUSTER, *options)
    finally:
        source.write_text(before)
    assert run.rc != 0 and "pi3 did not let pi in with SSH's new settings" in flat(run.text)
    assert lab.ssh("pi3", "true").returncode == 255, "the test locks nobody out"
    until = time.monotonic() + 30
    while lab.ssh("pi3", f"cat {OF_PYSYFT}").stdout != before:
        assert time.monotonic() < until
        time.sleep(0.5)
    run = must(ansible_playbook(CLUSTER, "--limit", "pi3", "--tags", "pysyft"))
    assert run.changed["pi3"] == 0


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("console=tty1 root=PARTUUID=1-02 rootwait\n", " cgroup_enable=memory\n"),
        ("root=/dev/mmcblk0p2 quiet \n", " cgroup_enable=memory\n"),
        ("cgroup_enable=memory root=/dev/sda2\n", "\n"),
    ],
)
def test_the_kernel_gets_what_is_missing_on_its_one_line_and_one_restart(
    lab: Lab, before: str, after: str
) -> None:
    write = f"sudo mkdir -p /boot/firmware; printf '%s' '{before}' | sudo tee {CMDLINE}"
    lab.ssh("pi3", write)
    started = lab.ssh("pi3", STARTED).stdout
    try:
        run = must(ansible_playbook("tests/e2e/kernel.yml"))
        assert lab.ssh("pi3", f"cat {CMDLINE}").stdout == before.rstrip() + after
    finally:
        lab.ssh("pi3", "sudo rm -r /boot/firmware")
    assert run.text.count("RUNNING HANDLER") == 1
    assert int(lab.ssh("pi3", STARTED).stdout) > int(started)
