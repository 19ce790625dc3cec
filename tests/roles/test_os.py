"""Names, packages, time zone and clock."""

import time

import pytest
from testinfra.host import Host


def test_every_node_knows_every_node(host: Host, cluster: dict[str, dict]) -> None:
    for name in cluster:
        assert host.check_output(f"getent hosts {name}"), name


def test_nothing_is_half_installed(host: Host) -> None:
    assert host.check_output("dpkg --audit") == ""


def test_clock_agrees_with_the_controller(host: Host) -> None:
    assert abs(float(host.check_output("date +%s.%N")) - time.time()) < 60


def test_time_zone(host: Host, variables: dict) -> None:
    assert host.check_output("readlink /etc/localtime").endswith(variables["os_timezone"])


def test_clock_is_kept(host: Host, variables: dict) -> None:
    if host.run("systemd-detect-virt --container").rc == 0 or not variables["os_time_sync"]:
        return  # its host's clock, or by other means; checked above
    assert host.service("systemd-timesyncd").is_running


def skip_without(variable: str, variables: dict) -> None:
    if not variables[variable]:
        pytest.skip(f"{variable} is false in the inventory")


def test_ssh_takes_keys_alone_and_no_old_algorithm(host: Host, variables: dict) -> None:
    skip_without("os_ssh_hardening", variables)
    settings = dict(
        line.split(" ", 1) for line in host.check_output("sudo sshd -T").splitlines() if " " in line
    )
    assert settings["passwordauthentication"] == "no"
    assert settings["kbdinteractiveauthentication"] == "no"
    offered = " ".join(settings[kind] for kind in ("kexalgorithms", "ciphers", "macs"))
    old = ("diffie", "nistp", "-cbc", "-ctr", "sha1", "umac-64")
    assert not [name for name in old if name in offered]


def test_a_new_connection_has_proved_what_sshd_reads(host: Host) -> None:
    assert host.run("sha256sum --check --strict /opt/fedrnn/.sshd-in-force").rc == 0
    assert host.run("systemctl is-active fedrnn-ssh-undo.timer").stdout == "inactive\n"


def test_security_upgrades_come_every_night(host: Host, variables: dict) -> None:
    skip_without("os_security_upgrades", variables)
    told = host.check_output("apt-config dump APT::Periodic")
    assert 'APT::Periodic::Unattended-Upgrade "1";' in told
    assert host.package("unattended-upgrades").is_installed
    told = host.check_output("apt-config dump Unattended-Upgrade::Automatic-Reboot")
    assert told.endswith('"false";')


def test_the_journal_and_temporary_files_spare_the_card(host: Host, variables: dict) -> None:
    skip_without("os_spare_card", variables)
    assert host.check_output("sudo find /run/log/journal -name system.journal")
    unit = host.run("cat /etc/systemd/system/tmp.mount").stdout
    if not unit.startswith("# By Ansible") and not variables["in_lab"]:
        return  # its owner's /tmp stays as it is
    assert host.check_output("systemctl is-enabled tmp.mount") == "enabled"
    assert host.run("sudo systemd-analyze verify /etc/systemd/system/tmp.mount").stderr == ""


def test_locale(host: Host, variables: dict) -> None:
    assert host.check_output('. /etc/default/locale && echo "$LANG"') == variables["os_locale"]
