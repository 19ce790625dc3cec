"""The nodes of an inventory, each looked at over plain SSH with its pinned host key."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import testinfra
import yaml
from testinfra.host import Host

ROOT = Path(__file__).parents[2]
LOCKS = ROOT / "roles" / "wheelhouse" / "files" / "locks"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--inventory", default="inventory/lab", help="inventory whose group 'nodes' is looked at"
    )


def inventory_of(config: pytest.Config) -> Path:
    # Without tests/roles on the command line, pytest reads this file too late for its option.
    path = Path(config.getoption("inventory", "inventory/lab"))
    return path if path.is_absolute() else Path(config.invocation_params.dir) / path


@cache
def read_inventory(path: Path) -> dict[str, dict]:
    """Give the variables of every node, by name."""
    listed = subprocess.run(
        [Path(sys.executable).parent / "ansible-inventory", "-i", path, "--list"],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_DEPRECATION_WARNINGS": "false"},
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        raise pytest.UsageError(f"Ansible cannot read the inventory {path}: {listed.stderr}")
    groups = json.loads(listed.stdout)

    def members(group: str) -> list[str]:
        entry = groups.get(group, {})
        below = [name for child in entry.get("children", []) for name in members(child)]
        return [*entry.get("hosts", []), *below]

    lab = members("lab")
    hostvars = groups["_meta"]["hostvars"]
    return {name: {**hostvars.get(name, {}), "in_lab": name in lab} for name in members("nodes")}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "node" in metafunc.fixturenames:
        path = inventory_of(metafunc.config)
        nodes = sorted(read_inventory(path))
        if not nodes:
            raise pytest.UsageError(f"The inventory {path} has no host in its group 'nodes'.")
        metafunc.parametrize("node", nodes, scope="session")


@pytest.fixture(scope="session")
def sockets() -> Iterator[str]:
    """A folder for ssh's control sockets, whose paths end at about 100 bytes."""
    folder = tempfile.mkdtemp(prefix="ti-", dir="/tmp")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> dict[str, dict]:
    """The inventory's variables of every node, by name; `in_lab` tells a virtual one."""
    return read_inventory(inventory_of(request.config))


def defaults() -> dict:
    """The roles' own values of their variables, where they are no templates."""
    values: dict = {}
    for file in sorted(ROOT.glob("roles/*/defaults/main.yml")):
        values |= yaml.safe_load(file.read_text()) or {}
    return {name: value for name, value in values.items() if "{{" not in str(value)}


@pytest.fixture(scope="session")
def variables(node: str, cluster: dict[str, dict]) -> dict:
    """The variables of this node: the inventory's, and the roles' defaults behind them."""
    return defaults() | cluster[node]


@pytest.fixture(scope="session")
def host(node: str, variables: dict, sockets: str, request: pytest.FixtureRequest) -> Host:
    """The node, as testinfra sees it: `host.run`, `host.file`, …"""
    folder = str(inventory_of(request.config))

    def given(name: str, default: str = "") -> str:
        return str(variables.get(name, default)).replace("{{ inventory_dir }}", folder)

    options = [
        # The pinned host keys first: ssh takes the first word on each option.
        *shlex.split(f"{given('ansible_ssh_args')} {given('ansible_ssh_common_args')}"),
        *("-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "LogLevel=ERROR"),
        *("-o", "ControlMaster=auto", "-o", f"ControlPath={sockets}/%C"),
    ]
    if key := given("ansible_ssh_private_key_file"):
        options += ["-i", key]
    address = f"{given('ansible_host', node)}:{given('ansible_port', '22')}"
    user = given("ansible_user")
    seen = testinfra.get_host(
        f"ssh://{user}@{address}" if user else f"ssh://{address}",
        ssh_extra_args=shlex.join(options),
    )
    try:
        seen.run("true")
    except RuntimeError as error:
        pytest.fail(f"{node} ({address}) does not answer: run site.yml first. {error}", False)
    return seen


@pytest.fixture(scope="session")
def lock(host: Host) -> dict[str, str]:
    """The lock of this kind of node: version by package."""
    machine = {"amd64": "x86_64", "arm64": "aarch64"}[
        host.check_output("dpkg --print-architecture")
    ]
    python = host.check_output(
        "/opt/fedrnn/venv/bin/python -c 'import sys; print(\"%d%d\" % sys.version_info[:2])'"
    )
    lines = (LOCKS / f"{machine}-cp{python}.txt").read_text().splitlines()
    return dict(line.split(" ")[0].split("==") for line in lines if "==" in line)
