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

from fedrnn.datasite.layout import FINAL
from fedrnn.datasite.researcher import NodeClient, training_code
from fedrnn.inventory import Inventory, Node
from fedrnn.transport.grid import Loop, NodeGrid
from fedrnn.transport.link import Link, LinkError, SSHAddress, SSHLink

T = TypeVar("T")
Say = Callable[[str], None]

POLL_SECONDS, MOST_POLL_SECONDS = 0.5, 10.0  # each question costs a Pi a login
WORKER_SECONDS = 180.0  # a Pi 3 needs a minute to import torch
END_SECONDS = 20.0
AWAY_SECONDS = 60.0  # how long a node may be away while its owner decides


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
    state: dict[str, Any] = field(default_factory=lambda: {"status": "unknown"})
    seen: float = field(default_factory=time.monotonic)


def ssh_links(inventory: Inventory, nodes: tuple[Node, ...]) -> dict[str, tuple[Link, str]]:
    """Return a link and the data owner by node name."""
    links: dict[str, tuple[Link, str]] = {}
    for node in nodes:
        address = SSHAddress(node.host, node.port, inventory.key, inventory.known_hosts)
        links[node.name] = (SSHLink(node.name, address), node.owner)
    return links


class Cluster:
    """All nodes of a run. Use as a context manager: it ends the jobs and closes the links.

    Raises ClusterError with one line per node that is in the way.
    """

    def __init__(self, links: dict[str, tuple[Link, str]], researcher: str, box: Path) -> None:
        self.loop = Loop()
        self.job = f"train-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"
        self.grid = NodeGrid(self.loop, self.job)
        self.members = [
            Member(number, name, owner, link, NodeClient(link, researcher, owner, box))
            for number, (name, (link, owner)) in enumerate(links.items(), start=1)
        ]
        self._submitted = False

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        if self._submitted:
            self.end()

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

            self._submitted = True
            self._all(submit)
        return self.job

    def gather(self, say: Say) -> NodeGrid:
        """Attach to every worker as its owner lets it start; return the Grid over all.

        Raises ClusterError when an owner denies, a job fails, or a node stays away.
        """
        told: set[str] = set()
        started: float | None = None
        pause = POLL_SECONDS
        while len(self.grid.workers) < len(self.members):
            for member in self.members:
                self._look_at(member, say, told)
            if all(m.state["status"] == "running" for m in self.members):
                started = started or time.monotonic()
                pause = POLL_SECONDS
                self._refuse_late(started)
            time.sleep(pause)
            pause = min(pause * 1.2, MOST_POLL_SECONDS)
        if missing := self.grid.wait(WORKER_SECONDS):
            lines = "\n".join(f"  {self.names[n]}: {why}" for n, why in missing.items())
            raise ClusterError(f"no worker to attach to:\n{lines}")
        return self.grid

    def _look_at(self, member: Member, say: Say, told: set[str]) -> None:
        """Ask one node how its job is; attach, tell the user, or refuse to go on."""
        if member.node_id in self.grid.workers:
            return
        try:
            member.state = self.loop.run(self._status(member))
            member.seen = time.monotonic()
        except LinkError as error:
            if time.monotonic() - member.seen > AWAY_SECONDS:
                raise ClusterError(str(error)) from None
            return
        state = member.state
        if state["status"] in FINAL:
            reason = state.get("reason") or f"return code {state.get('return_code')}"
            errors = f"\n{state['stderr']}" if state.get("stderr") else ""
            raise ClusterError(f"{member.name}: the job is {state['status']}: {reason}{errors}")
        if state.get("worker"):  # attached at once: a worker without a researcher gives up
            self.grid.attach(member.node_id, member.link)
        elif state["status"] == "pending" and member.name not in told:
            told.add(member.name)
            say(_ask_owner(member, self.job))

    def _refuse_late(self, started: float) -> None:
        if time.monotonic() - started > WORKER_SECONDS:
            late = [m.name for m in self.members if m.node_id not in self.grid.workers]
            raise ClusterError(
                f"{', '.join(late)}: no worker after {WORKER_SECONDS:.0f} s. On the node: "
                f"journalctl -u 'fedrnn-job@*{self.job}*'"
            )

    def memory(self) -> dict[str, dict[str, float]]:
        """Return, by node that answers, the peak resident MB of each process of ours there."""
        return {name: state["memory_mb"] for name, state in self._states().items()}

    def end(self) -> dict[str, str]:
        """End the jobs, attached or not, and return by node how each ended."""
        self._submitted = False
        self.grid.close()
        until = time.monotonic() + END_SECONDS
        while True:
            states = self._states()
            busy = [m for m in self.members if _is_busy(states.get(m.name))]
            if not busy or time.monotonic() > until:
                return {m.name: _word(states.get(m.name)) for m in self.members}
            self._cancel([m for m in busy if m.node_id not in self.grid.workers])
            time.sleep(POLL_SECONDS)

    def _cancel(self, members: list[Member]) -> None:
        async def cancel() -> None:
            asked = (m.client.cancel(self.job) for m in members)
            await asyncio.gather(*asked, return_exceptions=True)

        self.loop.run(cancel())

    def _states(self) -> dict[str, dict[str, Any]]:
        """Return the job's state by node, without those that do not answer or do not know it."""

        async def ask() -> list[dict[str, Any] | BaseException]:
            asked = (self._status(m) for m in self.members)
            return await asyncio.gather(*asked, return_exceptions=True)

        answers = self.loop.run(ask())
        pairs = zip(self.members, answers, strict=True)
        return {m.name: state for m, state in pairs if not isinstance(state, BaseException)}

    async def _status(self, member: Member) -> dict[str, Any]:
        return await member.client.status(self.job)

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


def _is_busy(state: dict[str, Any] | None) -> bool:
    return state is not None and state["status"] not in FINAL


def _word(state: dict[str, Any] | None) -> str:
    return "unknown: the node does not answer" if state is None else str(state["status"])


async def _describe(member: Member) -> dict[str, Any]:
    return await member.client.describe()


def _ask_owner(member: Member, job: str) -> str:
    return (
        f"{member.name}: this code is new to its owner, who must decide. On {member.name}:"
        f" `fedrnn-owner show {job}`, then `fedrnn-owner approve {job}` or"
        f" `fedrnn-owner deny {job} --reason …`. From here: ansible {member.name} -a"
        f" 'fedrnn-owner approve {job}'. To stop waiting, press Ctrl-C."
    )
