"""What this controller has pinned of the nodes of an inventory, and which node answers instead."""

from __future__ import annotations

import shlex
import sys

from fedrnn.checkout import ROOT
from fedrnn.inventory import Inventory

sys.path += [str(ROOT / "roles" / role / "files") for role in ("preflight", "identity")]
import identity
import known_nodes
from findings import KINDS


class Pins:
    """The identities and the host keys of an inventory's nodes; the roles' files judge them."""

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self._nodes = {node.name: node for node in inventory.nodes}
        self._folder = shlex.quote(str(inventory.folder))

    def of_identity(self, name: str, shown: str | None) -> str | None:
        """Say what is wrong with the identity that a node shows, and what helps.

        "" is none; None is that of a node whose gate is older than identities.
        """
        try:
            pins = known_nodes.read(self.inventory.folder / "known_nodes")
        except known_nodes.PinError as error:
            return f"cannot be told from other nodes: {error}"
        if shown is None:
            older = (
                f"has an older gate: `ansible-playbook -i {self._folder} site.yml` brings this one"
            )
            return older if name in pins else None
        for kind, details in identity.mistaken(name, shown, pins, self._nodes):
            if KINDS[kind].stops:
                return self._words(name, kind, details)
        return None

    async def of_key(self, name: str) -> str | None:
        """Say which other node shows its host key at the address of this one, and what helps."""
        addresses = {node.name: (node.host, node.port) for node in self.inventory.nodes}
        jump, known_hosts = self._nodes[name].jump, self.inventory.known_hosts
        if other := await identity.key_holder(name, addresses, known_hosts, jump):
            return self._words(name, "exchanged", {"other": other, "what": "host key"})
        return None

    def _words(self, name: str, kind: str, details: dict[str, object]) -> str:
        about = {"node": name, "inventory": self._folder, **details}
        return f"{KINDS[kind].says}. {KINDS[kind].remedy}".format_map(about)
