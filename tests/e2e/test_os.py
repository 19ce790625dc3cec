"""Role os where it could lock the operator out, or a board out of its boot."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cluster import Lab, ansible_playbook, flat, must

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
    assert "would let nobody in after passwords are switched off" in flat(run.text)
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
