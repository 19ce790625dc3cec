"""Who there is: the nodes of an Ansible inventory. There is no second list of hosts."""

from __future__ import annotations

import argparse
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible.vars.manager import VariableManager

from fedrnn.checkout import ROOT

DEFAULT = ROOT / "inventory" / "lab"
RESEARCHER = "controller@lab.local"
NEEDED = (
    "ansible_host", "ansible_port", "pysyft_owner", "pysyft_researchers",
    "dataset_source", "dataset_split", "dataset_seed", "ansible_user",
    "ansible_ssh_private_key_file", "ansible_ssh_common_args", "ansible_ssh_extra_args",
    "flower_superlink",
)  # fmt: skip

_OPTION = re.compile(r"\s*[\s=]\s*")  # between name and value, see ssh_config(5)


class InventoryError(ValueError):
    """The inventory cannot be used; the text says what to do."""


@dataclass(frozen=True)
class Node:
    """One node: where its SSH is, who owns its data, and as whom its operator logs in.

    Without an account or a key the operator's SSH decides. `jump` is the way to a node that is not
    reached directly, as ssh_config(5) has ProxyJump.
    """

    name: str
    host: str
    port: int
    owner: str
    operator: str = ""
    operator_key: str = ""
    jump: str = ""


@dataclass(frozen=True)
class Inventory:
    """The nodes in the inventory's order, and who the researcher is.

    `key` is the private key that the gates know the researcher by.
    """

    folder: Path
    researcher: str
    key: Path
    split: str
    data_seed: int
    nodes: tuple[Node, ...]
    superlink: str = ""  # HOST:PORT, at which SuperNodes call; see role flower

    @property
    def known_hosts(self) -> Path:
        """The pinned host keys."""
        return self.folder / "known_hosts"

    @property
    def flower_papers(self) -> Path:
        """The folder of what playbooks/flower.yml makes on this machine."""
        return self.folder / "keys" / "flower"

    @property
    def supernodes(self) -> list[str]:
        """The nodes that playbooks/flower.yml has given a SuperNode, as their owners allow."""
        names = [node.name for node in self.nodes]
        return [name for name in names if (self.flower_papers / f"{name}.pub").exists()]

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
    """Ask Ansible for the inventory at `path`, a file or a folder, with its variables worked out.

    Raises InventoryError when there is none, when it has no host in the group `nodes`, or when two
    of them have one owner.
    """
    if not path.exists():
        raise InventoryError(f"there is no inventory {path}: copy inventory/example and edit it")
    loader = DataLoader()
    try:
        found = InventoryManager(loader=loader, sources=[str(path)])
        hosts = [host for host in found.get_hosts("nodes") if host.name in found.hosts]
        variables = VariableManager(loader=loader, inventory=found)
        answers = [_variables(loader, variables, host) for host in hosts]
    except AnsibleError as error:
        raise InventoryError(f"Ansible cannot use the inventory {path}: {error}") from None
    if not hosts:
        raise InventoryError(
            f"the inventory {path} has no host in its group 'nodes'; a lab gets its nodes from "
            "`ansible-playbook site.yml`"
        )
    common = answers[0]
    researchers = common.get("pysyft_researchers") or [{"email": RESEARCHER, "key": ""}]
    folder = (path if path.is_dir() else path.parent).resolve()
    key = _key(str(researchers[0]["key"]).removesuffix(".pub")) or folder / "keys" / "researcher"
    nodes = tuple(_node(answer) for answer in answers)
    _refuse_one_owner_of_two(nodes)
    return Inventory(
        folder=folder,
        researcher=str(researchers[0]["email"]),
        key=Path(key),
        split=_split(answers),
        data_seed=int(common.get("dataset_seed", 0)),
        nodes=nodes,
        superlink=str(common.get("flower_superlink", "")),
    )


def _variables(loader: Any, variables: Any, host: Any) -> dict[str, Any]:
    """Return those variables of a host that a run needs, without templates."""
    raw = variables.get_vars(host=host)
    templar = Templar(loader=loader, variables=raw)
    answer: dict[str, Any] = {"name": host.name}
    for name in NEEDED:
        if name in raw:
            answer[name] = templar.template(raw[name])
    return answer


def _split(answers: list[dict[str, Any]]) -> str:
    """Return how the embedded names are shared out, `own` where any node has others."""
    if any(answer.get("dataset_source", "embedded") != "embedded" for answer in answers):
        return "own"
    return str(answers[0].get("dataset_split", "language"))


def _node(variables: dict[str, Any]) -> Node:
    name = str(variables["name"])
    return Node(
        name=name,
        host=str(variables.get("ansible_host", name)),
        port=int(variables.get("ansible_port", 22)),
        owner=str(variables.get("pysyft_owner", f"{name}@lab.local")),
        operator=str(variables.get("ansible_user", "")),
        operator_key=_key(variables.get("ansible_ssh_private_key_file")),
        jump=_jump(name, variables),
    )


def _refuse_one_owner_of_two(nodes: tuple[Node, ...]) -> None:
    """PySyft knows a datasite by its owner alone, and takes two of one owner for one."""
    of: dict[str, str] = {}
    for node in nodes:
        if (other := of.setdefault(node.owner, node.name)) != node.name:
            raise InventoryError(
                f"{other} and {node.name} have the same pysyft_owner, {node.owner}: give each node "
                f"one of its own, such as {node.name}@{node.owner.partition('@')[2]}"
            )


def _key(path: object) -> str:
    return str(Path(str(path)).expanduser()) if path else ""


def _jump(name: str, variables: dict[str, Any]) -> str:
    """Return the hosts that Ansible's words for ssh go through; the others are Ansible's alone."""
    words = " ".join(
        str(variables.get(f"ansible_ssh_{one}_args", "")) for one in ("common", "extra")
    )
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("-J", default="")
    parser.add_argument("-o", action="append", default=[])
    asked, _ = parser.parse_known_args(shlex.split(words))
    options = {key.lower(): value for key, value in (_OPTION.split(one, 1) for one in asked.o)}
    if options.get("proxycommand", "none") != "none":
        raise InventoryError(
            f"{name}: its ssh arguments have ProxyCommand, by which only Ansible would reach it: "
            "say it as -o ProxyJump=user@host:port"
        )
    jump = asked.J or options.get("proxyjump", "")
    return "" if jump == "none" else jump
