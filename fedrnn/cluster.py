"""The nodes of one run: reached, asked, given the job, and brought together in a Grid."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from fedrnn.datasite.researcher import NodeClient, training_code
from fedrnn.inventory import Inventory, Node
from fedrnn.transport.grid import Loop, NodeGrid
from fedrnn.transport.link import Link, LinkError, SSHAddress, SSHLink

T = TypeVar("T")
Say = Callable[[str], None]

POLL_SECONDS = 0.5
WORKER_SECONDS = 180.0  # a Pi 3 needs a minute to import torch


class ClusterError(RuntimeError):
    """The run cannot begin; the text names every node concerned and what to do."""


@dataclass
class Member:
    """One node in a run: `node_id` in Flower's messages, its gate, its PySyft client."""

    node_id: int
    name: str
    owner: str
    link: Link
    client: NodeClient
    described: dict[str, Any] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)


def ssh_links(inventory: Inventory, nodes: tuple[Node, ...]) -> dict[str, tuple[Link, str]]:
    """Return a link and the data owner by node name."""
    links: dict[str, tuple[Link, str]] = {}
    for node in nodes:
        address = SSHAddress(node.host, node.port, inventory.key, inventory.known_hosts)
        links[node.name] = (SSHLink(node.name, address), node.owner)
    return links


class Cluster:
    """All nodes of a run. Use as a context manager: it ends the jobs and closes the links.

    Raises ClusterError and LinkError with one line per node that is in the way.
    """

    def __init__(self, links: dict[str, tuple[Link, str]], researcher: str, box: Path) -> None:
        self.loop = Loop()
        self.job = f"train-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"
        self.members = [
            Member(number, name, owner, link, NodeClient(link, researcher, owner, box))
            for number, (name, (link, owner)) in enumerate(links.items(), start=1)
        ]
        self.grid: NodeGrid | None = None

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        if self.grid:
            self.grid.close()

        async def close() -> None:
            await asyncio.gather(*(m.link.close() for m in self.members), return_exceptions=True)

        self.loop.run(close())
        self.loop.close()

    @property
    def names(self) -> dict[int, str]:
        """Node id to name."""
        return {m.node_id: m.name for m in self.members}

    def describe(self) -> None:
        """Ask every node what data it has; refuse data of different schemas."""
        for member, answer in zip(self.members, self._all(_describe), strict=True):
            member.described = answer
        schemas = {m.described["schema"] for m in self.members}
        if len(schemas) > 1:
            table = "\n".join(f"  {m.name}: {m.described['schema']}" for m in self.members)
            raise ClusterError(f"the nodes' data sets differ in their schema:\n{table}")

    def submit(self) -> str:
        """Send the training code of this checkout to every node as a PySyft job."""
        with TemporaryDirectory() as folder:
            code = training_code(Path(folder))

            async def submit(member: Member) -> None:
                await member.client.submit(code, self.job, "main.py")

            self._all(submit)
        return self.job

    def wait_for_approval(self, say: Say) -> None:
        """Wait until every owner has approved and every worker is there.

        Raises ClusterError when an owner denies or a job fails before it can be reached.
        """
        told: set[str] = set()
        deadline = 0.0
        while not all(m.state.get("worker") for m in self.members):
            for member, state in zip(self.members, self._all(self._status), strict=True):
                member.state = state
            self._refuse_ended()
            for member in self.members:
                if member.state["status"] == "pending" and member.name not in told:
                    told.add(member.name)
                    say(_ask_owner(member, self.job))
            if all(m.state["status"] == "running" for m in self.members):
                deadline = deadline or time.monotonic() + WORKER_SECONDS
                if time.monotonic() > deadline:
                    late = [m.name for m in self.members if not m.state["worker"]]
                    raise ClusterError(f"{', '.join(late)}: no worker after {WORKER_SECONDS:.0f} s")
            time.sleep(POLL_SECONDS)

    def connect(self) -> NodeGrid:
        """Attach to every worker and return the Grid over them."""
        self.grid = NodeGrid(self.loop, {m.node_id: m.link for m in self.members}, self.job)
        if missing := self.grid.wait(WORKER_SECONDS):
            lines = "\n".join(f"  {self.names[n]}: {why}" for n, why in missing.items())
            raise ClusterError(f"no worker to attach to:\n{lines}")
        return self.grid

    def memory(self) -> dict[str, dict[str, float]]:
        """Return, by node, the peak resident MB of each process of ours there."""
        states = self._all(self._status)
        return {m.name: s["memory_mb"] for m, s in zip(self.members, states, strict=True)}

    def end(self) -> dict[str, dict[str, Any]]:
        """End the jobs and return the state that each datasite has recorded."""
        if self.grid:
            self.grid.close()
            self.grid = None
        until = time.monotonic() + 20
        while time.monotonic() < until:
            states = self._all(self._status)
            if all(s["status"] != "running" for s in states):
                break
            time.sleep(POLL_SECONDS)
        return {m.name: s for m, s in zip(self.members, states, strict=True)}

    async def _status(self, member: Member) -> dict[str, Any]:
        return await member.client.status(self.job)

    def _refuse_ended(self) -> None:
        for member in self.members:
            state = member.state
            if state["status"] in ("rejected", "failed", "done"):
                reason = state.get("reason") or f"return code {state.get('return_code')}"
                errors = f"\n{state['stderr']}" if state.get("stderr") else ""
                raise ClusterError(f"{member.name}: the job is {state['status']}: {reason}{errors}")

    def _all(self, ask: Callable[[Member], Coroutine[Any, Any, T]]) -> list[T]:
        """Ask all nodes at once; all that fail are named together."""

        async def gather() -> list[T | BaseException]:
            return await asyncio.gather(*(ask(m) for m in self.members), return_exceptions=True)

        answers: list[T] = []
        problems = []
        for answer in self.loop.run(gather()):
            if isinstance(answer, LinkError):
                problems.append(str(answer))
            elif isinstance(answer, BaseException):
                raise answer
            else:
                answers.append(answer)
        if problems:
            raise ClusterError("\n".join(problems))
        return answers


async def _describe(member: Member) -> dict[str, Any]:
    return await member.client.describe()


def _ask_owner(member: Member, job: str) -> str:
    return (
        f"{member.name}: this code is new to its owner, who must decide. On {member.name}:"
        f" `fedrnn-owner show {job}`, then `fedrnn-owner approve {job}` or"
        f" `fedrnn-owner deny {job} --reason …`. From here: ansible {member.name} -a"
        f" 'fedrnn-owner approve {job}'. To stop waiting, press Ctrl-C."
    )
