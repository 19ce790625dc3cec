"""What a run is to do, made of what was asked: its settings, its nodes, the run that it goes on."""

from __future__ import annotations

import argparse
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from fedrnn.cluster import ssh_links
from fedrnn.compare import OWN_DATA, Names
from fedrnn.config import DEFAULT_ROUNDS, RunConfig, parse_settings
from fedrnn.datasite.job_code import allow_list
from fedrnn.former import Former
from fedrnn.former import read as read_former
from fedrnn.inventory import DEFAULT, RESEARCHER, Inventory, read_inventory
from fedrnn.learning.embedded import share, write_names
from fedrnn.local import local_site
from fedrnn.transport.link import Link, LocalLink

SUPERNODE = 5
"""So many times longer may a SuperNode take: it starts a process for each message, which imports
torch, a minute on a Pi 3."""

Links = dict[str, tuple[Link, str]]


@dataclass
class Plan:
    """A run before it begins: what was asked, and the nodes that are to do it.

    ``links`` are those of the engine ``ssh``.
    """

    config: RunConfig
    names: list[str]
    min_nodes: int | None
    asked: dict[str, Any]  # what --resume must know beside the config
    engine: str = "ssh"
    links: Links = field(default_factory=dict)
    inventory: Inventory | None = None
    researcher: str = RESEARCHER
    held: dict[str, Names] = field(default_factory=dict)  # by nodes that are simulated
    shares: dict[str, Names] | None = None  # with --compare: what every node holds
    former: Former | None = None  # with --resume

    def __post_init__(self) -> None:
        if self.min_nodes is not None and not 1 <= self.min_nodes <= len(self.names):
            raise ValueError(
                f"--min-nodes is {self.min_nodes}: it must be from 1 to {len(self.names)}, the "
                "number of nodes"
            )


def make_plan(asked: argparse.Namespace, stack: ExitStack) -> Plan:
    """Look the nodes up, or make local ones that end with `stack`.

    Raises InventoryError or ValueError with a sentence on what was asked wrongly.
    """
    former = read_former(asked.resume) if asked.resume else None
    config = former.config if former else _config(asked)
    if former:
        for name in ("local", "compare", "engine"):
            setattr(asked, name, former.asked[name])
        asked.min_nodes = asked.min_nodes or former.asked["min_nodes"]
        asked.inventory = asked.inventory or Path(former.asked["inventory"])
    told = {
        "local": asked.local,
        "compare": asked.compare,
        "engine": asked.engine,
        "min_nodes": asked.min_nodes,
        # The config has what an engine makes of it.
        "timeout": former.asked.get("timeout") if former else config.timeout,
        "inventory": str((asked.inventory or DEFAULT).absolute()),
    }
    plan = partial(Plan, min_nodes=asked.min_nodes, asked=told, engine=asked.engine, former=former)
    if asked.local is not None:
        names = [f"node{number}" for number in range(1, asked.local + 1)]
        held = embedded_shares(names, config)
        shares = held if asked.compare else None
        if asked.engine == "simulation":
            if not former:  # so many nodes take turns on a processor, and each is given its time
                turns = max(1.0, len(names) / (os.cpu_count() or 1))
                config = replace(config, timeout=config.timeout * turns)
            return plan(config, names, held=held, shares=shares)
        links = stack.enter_context(local_links(held, config))
        return plan(config, names, links=links, shares=shares)
    inventory = read_inventory(asked.inventory or DEFAULT)
    where = inventory.superlink
    if asked.engine == "superlink" and not re.fullmatch("[A-Za-z0-9.-]+:[0-9]+", where):
        raise ValueError(
            "--engine superlink needs flower_superlink in the inventory, HOST:PORT of this machine "
            f"as the nodes reach it, and has '{where}': roles/flower/README.md"
        )
    if former:
        former.check_inventory(inventory)
        nodes = inventory.choose(former.nodes)
    else:
        chosen = [name for name in asked.nodes.split(",") if name]
        if asked.engine == "superlink" and not chosen:
            chosen = inventory.supernodes
        nodes = inventory.choose(chosen)
        config = replace(
            config,
            split=inventory.split,
            data_seed=inventory.data_seed,
            nodes=tuple(node.name for node in nodes),
            timeout=config.timeout * (SUPERNODE if asked.engine == "superlink" else 1),
        )
    shares = None
    if asked.compare:
        shares = embedded_shares([node.name for node in inventory.nodes], config)
    links = ssh_links(inventory, nodes)
    return plan(
        config,
        list(links),
        links=links,
        researcher=inventory.researcher,
        inventory=inventory,
        shares=shares,
    )


def _config(asked: argparse.Namespace) -> RunConfig:
    rounds = DEFAULT_ROUNDS[asked.strategy] if asked.rounds is None else asked.rounds
    return RunConfig(
        rounds=rounds,
        strategy=asked.strategy,
        seed=asked.seed,
        cell=asked.model,
        hidden=asked.hidden,
        embedding=asked.embedding,
        split=asked.split or "language",
        **parse_settings(asked.strategy, asked.set),
    )


def embedded_shares(names: list[str], config: RunConfig) -> dict[str, Names]:
    """Return the embedded names of every node; raises ValueError where nodes have their own."""
    if config.split == "own":
        raise ValueError(OWN_DATA)
    parts = share(config.split, len(names), config.data_seed)
    return dict(zip(names, parts, strict=True))


@contextmanager
def local_links(held: dict[str, Names], config: RunConfig) -> Iterator[Links]:
    """Make a datasite of this account for each node, with the names that it holds."""
    approved = allow_list(["training"])
    with ExitStack() as stack:
        data = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        links: Links = {}
        for name, share in held.items():
            write_names(data / name, share)
            owner = f"{name}@lab.local"
            site = local_site(owner, RESEARCHER, data / name, approved, config.data_seed)
            root = stack.enter_context(site)
            links[name] = (LocalLink(name, root, RESEARCHER), owner)
        yield links
