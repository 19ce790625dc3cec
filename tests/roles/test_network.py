"""What listens on a node, and what a virtual one can reach."""

import re
import shlex

import pytest
from testinfra.host import Host

# 192.0.2.1 is nobody's (RFC 5737): without a route the kernel says so, with one it would time out.
CONNECT = """
import errno, socket
try:
    socket.create_connection(("192.0.2.1", 443), 3)
except OSError as error:
    print(errno.errorcode.get(error.errno, error))
"""


def test_only_ssh_listens(host: Host) -> None:
    # On loopback, apt's way out appears while Ansible is connected.
    listening = [line.split()[3] for line in host.check_output("ss -ltnH").splitlines()]
    outside = {a for a in listening if not a.startswith(("127.", "[::1]"))}
    # The node's own: a virtual node, or one behind a router, is reached by another.
    port = host.check_output("echo $SSH_CONNECTION").split()[3]
    assert {address.rpartition(":")[2] for address in outside} == {port}


def test_no_datagram_is_waited_for(host: Host, variables: dict) -> None:
    # A Pi's address, clock and name come from these programs of Raspberry Pi OS, not from ours.
    system = {"avahi-daemon", "NetworkManager", "dhcpcd", "dhclient", "systemd-network",
              "systemd-timesyn", "systemd-resolve", "chronyd", "ntpd"}  # fmt: skip
    waiting = host.check_output("sudo ss -lunpH")
    outside = [
        line for line in waiting.splitlines() if not line.split()[3].startswith(("127.", "[::1]"))
    ]
    programs = {name for line in outside for name in re.findall(r'\(\("([^"]+)"', line) or [line]}
    assert programs <= (set() if variables["in_lab"] else system)


def test_a_virtual_node_has_no_way_out(host: Host, variables: dict) -> None:
    if not variables["in_lab"]:
        pytest.skip("a real node may reach what its network allows")
    told = host.check_output(shlex.join(["/usr/bin/python3", "-c", CONNECT]))
    assert told == "ENETUNREACH"


def test_a_virtual_node_resolves_no_name(host: Host, variables: dict) -> None:
    if not variables["in_lab"]:
        pytest.skip("a real node may resolve what its network allows")
    assert host.run("getent hosts example.org").rc != 0
