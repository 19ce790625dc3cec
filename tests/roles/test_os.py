"""Names, packages, time zone and clock."""

import time

from testinfra.host import Host


def test_every_node_knows_every_node(host: Host, cluster: dict[str, dict]) -> None:
    for name in cluster:
        assert host.check_output(f"getent hosts {name}"), name


def test_nothing_is_half_installed(host: Host) -> None:
    assert host.check_output("dpkg --audit") == ""


def test_clock_agrees_with_the_controller(host: Host) -> None:
    assert abs(float(host.check_output("date +%s.%N")) - time.time()) < 60


def test_time_zone(host: Host) -> None:
    assert host.check_output("date +%Z") == "UTC"


def test_clock_is_kept(host: Host) -> None:
    if host.run("systemd-detect-virt --container").rc == 0:
        return  # its host's clock, checked above
    assert host.service("systemd-timesyncd").is_running
