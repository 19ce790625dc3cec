"""Role swap up to what a container may do. That swap is used is proved on an emulated board."""

from __future__ import annotations

from pathlib import Path

import pytest
from cluster import Lab, ansible_playbook, flat, must

SWAP = ("playbooks/cluster.yml", "--limit", "pi3", "--tags", "swap")
LIKE_A_BOARD = ("-e", '{"swap_is_hosts": false}')
TWO = """
cp /etc/fstab /var/tmp/fstab.before
printf '%s\\n' 'proc /proc proc defaults 0 0' '/swapfile none swap sw 0 0' > /etc/fstab
echo not-really > /swapfile; mkdir -p /etc/rpi
printf '[Main]\\nMechanism=auto\\n' > /etc/rpi/swap.conf
"""


def test_a_size_that_is_none_is_refused_in_words(lab: Lab) -> None:
    run = ansible_playbook(*SWAP, "-e", "swap_size=lots")
    assert run.rc != 0
    assert "swap_size of pi3 is lots. It is auto, or a number of MiB" in flat(run.text)


def test_a_file_system_that_cannot_hold_swap_is_told(lab: Lab) -> None:
    run = ansible_playbook(*SWAP, *LIKE_A_BOARD)
    assert run.rc != 0 and run.changed["pi3"] == 0
    assert "/ of pi3 is on overlay, which cannot hold a swap file" in flat(run.text)
    assert "swap_mechanism: zram" in flat(run.text)


@pytest.mark.skipif(
    len(Path("/proc/swaps").read_text().splitlines()) > 1, reason="swap of this machine is in use"
)
def test_without_swap_no_mechanism_is_left(lab: Lab) -> None:
    lab.podman("exec", lab.container("pi3"), "sh", "-euc", TWO)
    try:
        run = must(ansible_playbook(*SWAP, *LIKE_A_BOARD, "-e", "swap_size=0"))
        assert "two-swaps" in run.text and run.text.count("RUNNING HANDLER") == 1
        assert lab.ssh("pi3", "cat /etc/fstab").stdout == (
            "proc /proc proc defaults 0 0\n# /swapfile none swap sw 0 0\n"
        )
        assert lab.ssh("pi3", "ls /swapfile").returncode != 0
        again = must(ansible_playbook(*SWAP, *LIKE_A_BOARD, "-e", "swap_size=0"))
        assert again.changed["pi3"] == 0 and "two-swaps" not in again.text
    finally:
        lab.ssh("pi3", "sudo sh -c 'cp /var/tmp/fstab.before /etc/fstab; rm -rf /etc/rpi'")
