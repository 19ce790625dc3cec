"""Swap, as the kernel counts it."""

import pytest
from testinfra.host import Host


def test_swap_is_as_large_as_wanted(host: Host, variables: dict) -> None:
    if host.run("systemd-detect-virt --container").rc == 0:
        pytest.skip("a container's swap is its host's")
    wanted = variables["swap_size"]
    if wanted == "auto":
        memory = int(host.check_output("sed -n 's/^MemTotal: *\\([0-9]*\\).*/\\1/p' /proc/meminfo"))
        wanted = 1024 if memory < 1900 * 1024 else 512
    areas = host.check_output("/usr/sbin/swapon --show=SIZE --bytes --noheadings").split()
    assert len(areas) == (int(wanted) > 0)
    # The first page of an area is its header.
    assert abs(sum(map(int, areas)) / 2**20 - int(wanted)) <= 1


def test_a_container_is_left_alone(host: Host) -> None:
    if host.run("systemd-detect-virt --container").rc != 0:
        pytest.skip("no container")
    assert not host.file("/swapfile").exists
    assert "swap" not in host.run("cat /etc/fstab").stdout
