"""Swap, as the kernel counts it."""

import pytest
from testinfra.host import Host


def test_swap_is_large_enough(host: Host) -> None:
    if host.run("systemd-detect-virt --container").rc == 0:
        pytest.skip("a container's swap is its host's")
    sizes = host.check_output("/usr/sbin/swapon --show=SIZE --bytes --noheadings").split()
    assert sum(map(int, sizes)) >= 1023 * 2**20


def test_a_container_is_left_alone(host: Host) -> None:
    if host.run("systemd-detect-virt --container").rc != 0:
        pytest.skip("no container")
    assert not host.file("/swapfile").exists
    assert "swap" not in host.run("cat /etc/fstab").stdout
