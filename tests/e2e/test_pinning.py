"""Pinned host keys, with an environment and a configuration of ssh that would rather not look."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import INVENTORY, ROOT, Lab, ansible_playbook, flat

OPEN = (
    "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
    " -o NoHostAuthenticationForLocalhost=yes"
)
CONFIG = f"""\
[defaults]
host_key_checking = False
transport = paramiko_ssh
inventory_ignore_patterns = ^keys$, ^known_hosts
[ssh_connection]
ssh_args = {OPEN}
"""
# Of a user; {program} prints the line of known_hosts for the key that the node has.
SSH_CONFIG = """\
Host *
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  NoHostAuthenticationForLocalhost yes
  VerifyHostKeyDNS yes
  KnownHostsCommand {program}
"""
ENVIRONMENTS: dict[str, dict[str, str]] = {
    "checking": {"ANSIBLE_HOST_KEY_CHECKING": "False", "ANSIBLE_SSH_HOST_KEY_CHECKING": "False"},
    "args": {"ANSIBLE_SSH_ARGS": OPEN},
    "common": {"ANSIBLE_SSH_COMMON_ARGS": OPEN, "ANSIBLE_SSH_EXTRA_ARGS": OPEN},
    "alias": {"ANSIBLE_SSH_EXTRA_ARGS": "-o HostKeyAlias=true-pi1"},
    "transport": {"ANSIBLE_TRANSPORT": "paramiko_ssh", "ANSIBLE_HOST_KEY_CHECKING": "False"},
    "config": {"ANSIBLE_CONFIG": "{tmp}/.ansible.cfg"},
    "home": {"HOME": "{tmp}", "ANSIBLE_CONFIG": ""},
    "ssh": {"ANSIBLE_SSH_EXECUTABLE": "{tmp}/ssh"},  # ssh(1) finds ~/.ssh/config by the account
    "socket": {"ANSIBLE_SSH_CONTROL_PATH": "{socket}"},
}


@pytest.fixture(scope="module")
def swapped(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a copy of the inventory, in which pi1 has another key than it shows."""
    tmp = tmp_path_factory.mktemp("swapped")
    shutil.copytree(INVENTORY, tmp / "inventory")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp / "other"], check=True)
    other = (tmp / "other.pub").read_text().split()[1]
    lines = (INVENTORY / "known_hosts").read_text().splitlines()
    own = next(line for line in lines if line.endswith(" pi1"))
    pinned = [line.replace(own.split()[2], other) for line in lines]
    pinned.append(own.replace(own.split()[0], "true-pi1"))
    (tmp / "inventory/known_hosts").write_text("\n".join(pinned) + "\n")
    # Connections of the true inventory stay open for a while; a socket's path must be short.
    sockets = tempfile.mkdtemp(dir="/tmp")
    ports = tmp / "inventory/ports.yml"
    ports.write_text(re.sub("(lab_run_dir: ).*", rf"\1{sockets}", ports.read_text()))
    # Without apt's way out it is as an inventory of Pis.
    group = tmp / "inventory/group_vars/lab.yml"
    group.write_text(re.sub("(?m)^ansible_ssh_extra_args.*", "", group.read_text()))
    (tmp / ".ansible.cfg").write_text(CONFIG)
    for name, text in (
        ("keys", f"echo '{own}'"),
        ("ssh", f"exec ssh -F '{tmp}/ssh_config' \"$@\""),
    ):
        (tmp / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp / name).chmod(0o755)
    (tmp / "ssh_config").write_text(SSH_CONFIG.format(program=tmp / "keys"))
    yield tmp
    shutil.rmtree(sockets)


@pytest.fixture(scope="module")
def socket(lab: Lab, swapped: Path) -> Iterator[str]:
    """A connection to pi1 that somebody opened without looking at its key."""
    path = f"{lab.engine['run_dir']}/unseen"
    words = ["ssh", "-F/dev/null", *OPEN.split(), f"-i{INVENTORY}/keys/operator", f"-S{path}"]
    where = [f"-p{lab.port('pi1')}", "pi@127.0.0.1"]
    subprocess.run([*words, "-fNM", *where], check=True)
    yield path
    subprocess.run([*words, "-Oexit", *where], check=True)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_no_environment_lets_another_key_in(swapped: Path, socket: str, name: str) -> None:
    more = {k: v.format(tmp=swapped, socket=socket) for k, v in ENVIRONMENTS[name].items()}
    words = ["-i", swapped / "inventory", "-m", "ansible.builtin.raw", "-a", "echo in", "pi1"]
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible"), *words],
        cwd=swapped if name == "home" else ROOT,
        env={key: value for key, value in {**os.environ, **more}.items() if value},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 4 and "Host key verification failed" in done.stdout, done
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in done.stdout


def test_preflight_names_the_key_whatever_the_environment(swapped: Path) -> None:
    more = ENVIRONMENTS["checking"] | ENVIRONMENTS["args"] | ENVIRONMENTS["common"]
    words = ("-i", f"{swapped}/inventory", "--limit", "pi1", "playbooks/preflight.yml")
    run = ansible_playbook(*words, env=more)
    assert run.rc == 2 and "has another host key than the one that was pinned" in flat(run.text)
