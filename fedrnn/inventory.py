"""Who there is: the nodes of an Ansible inventory. There is no second list of hosts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[1]
DEFAULT = CHECKOUT / "inventory" / "lab"


class InventoryError(ValueError):
    """The inventory cannot be used; the text says what to do."""


@dataclass(frozen=True)
class Node:
    """One node: where its SSH is, and who owns its data."""

    name: str
    host: str
    port: int
    owner: str


@dataclass(frozen=True)
class Inventory:
    """The nodes in the inventory's order, and what lies beside it."""

    folder: Path
    researcher: str
    split: str
    data_seed: int
    nodes: tuple[Node, ...]

    @property
    def key(self) -> Path:
        """The private key that the gates know this researcher by."""
        return self.folder / "keys" / "researcher"

    @property
    def known_hosts(self) -> Path:
        """The pinned host keys."""
        return self.folder / "known_hosts"

    def choose(self, names: list[str]) -> tuple[Node, ...]:
        """Return the named nodes in the inventory's order, all of them for no names.

        Raises InventoryError for a name that is not there.
        """
        known = [node.name for node in self.nodes]
        if unknown := [name for name in names if name not in known]:
            raise InventoryError(
                f"--nodes names {', '.join(unknown)}; the inventory has {', '.join(known)}"
            )
        return tuple(node for node in self.nodes if not names or node.name in names)


def read_inventory(path: Path) -> Inventory:
    """Ask Ansible for the inventory at `path`, a file or a folder.

    Raises InventoryError when there is none, or when it has no host in the group `nodes`.
    """
    if not path.exists():
        raise InventoryError(f"there is no inventory {path}: copy inventory/example and edit it")
    asked = subprocess.run(
        [Path(sys.executable).parent / "ansible-inventory", "-i", path, "--list"],
        cwd=CHECKOUT,
        env={**os.environ, "ANSIBLE_DEPRECATION_WARNINGS": "false"},
        capture_output=True,
        text=True,
    )
    if asked.returncode != 0:
        raise InventoryError(f"Ansible cannot read {path}: {asked.stderr.strip()}")
    answer = json.loads(asked.stdout)
    hosts = _members(answer, "nodes")
    if not hosts:
        raise InventoryError(
            f"the inventory {path} has no host in its group 'nodes'; a lab gets its nodes from "
            "`ansible-playbook site.yml`"
        )
    variables: dict[str, dict[str, Any]] = answer["_meta"]["hostvars"]
    nodes = tuple(_node(name, variables.get(name, {})) for name in hosts)
    common = variables.get(hosts[0], {})
    return Inventory(
        folder=(path if path.is_dir() else path.parent).resolve(),
        researcher=str(common.get("fedrnn_researcher", "controller@lab.local")),
        split=_split(common),
        data_seed=int(common.get("dataset_seed", 0)),
        nodes=nodes,
    )


def _members(answer: dict[str, Any], group: str) -> list[str]:
    """Return the hosts of a group and of its children, each once."""
    found = list(answer.get(group, {}).get("hosts", []))
    for child in answer.get(group, {}).get("children", []):
        found += _members(answer, child)
    return list(dict.fromkeys(found))


def _split(variables: dict[str, Any]) -> str:
    if variables.get("dataset_source", "embedded") != "embedded":
        return "own"
    return str(variables.get("dataset_split", "language"))


def _node(name: str, variables: dict[str, Any]) -> Node:
    return Node(
        name=name,
        host=str(variables.get("ansible_host", name)),
        port=int(variables.get("ansible_port", 22)),
        owner=str(variables.get("fedrnn_owner_email", f"{name}@lab.local")),
    )
