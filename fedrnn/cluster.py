"""The nodes of one run: reached, asked, given the job, and brought together in a Grid."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Coroutine, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from fedrnn.datasite.answers import AnswerError
from fedrnn.datasite.job_code import training_code, training_manifest
from fedrnn.datasite.layout import FINAL
from fedrnn.datasite.policy import fingerprint
from fedrnn.datasite.researcher import NodeClient
from fedrnn.inventory import Inventory, Node
from fedrnn.member import Member, Say, ended, first_name, held, idle, late
from fedrnn.printable import printable
from fedrnn.transport.grid import Loop, NodeGrid
from fedrnn.transport.link import Link, LinkError, SSHAddress, SSHLink

T = TypeVar("T")

TRAINING = "train-"  # what the names of training jobs begin with; the rest is their age
POLL_SECONDS, MOST_POLL_SECONDS = 0.5, 10.0  # each question costs a Pi a login
TAKEN_SECONDS = 30.0  # a datasite takes a job up within one, a busy Pi's within ten
WORKER_SECONDS = 180.0  # a Pi 3 needs a minute to import torch
TELL_SECONDS = 5.0  # who waits longer is told for whom
END_SECONDS = 60.0  # a busy Pi takes as long to record it; no longer is waited than that takes
AWAY_SECONDS = 60.0  # how long a node may be away while its owner decides


class ClusterError(RuntimeError):
    """The run cannot begin; the text names every node concerned and what to do."""


def ssh_links(inventory: Inventory, nodes: tuple[Node, ...]) -> dict[str, tuple[Link, str]]:
    """Return a link and the data owner by node name."""
    from fedrnn.pins import Pins  # only now: --local needs nothing of the roles

    links: dict[str, tuple[Link, str]] = {}
    pins = Pins(inventory)
    for node in nodes:
        address = SSHAddress(
            node.host, node.port, inventory.key, inventory.known_hosts, jump=node.jump
        )
        links[node.name] = (SSHLink(node.name, address, pins), node.owner)
    return links


class Cluster:
    """All nodes of a run. Use as a context manager: it ends the jobs and closes the links.

    A node that is in the way raises ClusterError, with one line per node; with `min_nodes`, only
    where fewer than that many others are left, and the run goes on without it.
    """

    def __init__(
        self,
        links: dict[str, tuple[Link, str]],
        researcher: str,
        box: Path,
        say: Say,
        min_nodes: int | None = None,
    ) -> None:
        self.loop = Loop()
        self.job = f"{TRAINING}{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"
        self.files = training_manifest()
        self.sha256 = fingerprint(self.files)
        self.grid = NodeGrid(self.loop, self.job, say=say)
        self.members = [
            Member(number, name, owner, link, NodeClient(link, researcher, owner, box), self.job)
            for number, (name, (link, owner)) in enumerate(links.items(), start=1)
        ]
        self._links = [link for link, _ in links.values()]
        self._say, self._min_nodes, self._submitted = say, min_nodes, False
        self._folder = TemporaryDirectory()  # the code of the job, as long as a node may need it
        self._code = Path(self._folder.name)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        if self._submitted:
            self.end()

        async def close() -> None:
            await asyncio.gather(*(link.close() for link in self._links), return_exceptions=True)

        self.loop.run(close())
        self.loop.close()
        self._folder.cleanup()

    @property
    def names(self) -> dict[int, str]:
        """Node id to name."""
        return {m.node_id: m.name for m in self.members}

    def end_former(self, jobs: Sequence[str]) -> None:
        """End what a run that was broken off has left on the nodes, where they know of it.

        Raises ClusterError for nodes on which it has not ended in time.
        """

        async def end(member: Member) -> str:
            left = ""
            for job in jobs:
                with contextlib.suppress(LinkError, AnswerError):  # described next, and told there
                    holder = (await member.client.describe())["running"]
                    # A node that had lost the job was sent it anew.
                    again = holder and first_name(holder["job"]) == job
                    last = holder["job"] if again else job
                    left = left if await _end(member, last) else last
            return left

        self._leave_out({m.name: f"{m.name}: the job {left} of the run before does not end"
                         for m, left in self._all(end) if left})  # fmt: skip

    def describe(self, left_behind: Collection[str] = ()) -> None:
        """Ask every node what data it has; refuse data of different schemas, and held nodes.

        A node held by a job of `left_behind`, whose run has ended without it, is freed first.
        """
        for member, answer in self._all(_describe):
            member.described = answer
        schemas = {m.described["schema"] for m in self.members}
        if len(schemas) > 1:
            table = "\n".join(
                f"  {m.name}: {printable(m.described['schema'])}" for m in self.members
            )
            raise ClusterError(f"the nodes' data sets differ in their schema:\n{table}")
        problems = {}
        for member in self.members:
            if holder := member.described["running"]:
                problems[member.name] = held(member, holder)
                if first_name(holder["job"]) in left_behind:
                    self._say(f"{member.name}: still has the job {holder['job']} of a run that "
                              "has ended: ending it")  # fmt: skip
                    try:
                        if self.loop.run(_end(member, holder["job"])):
                            del problems[member.name]
                    except (LinkError, AnswerError) as error:
                        problems[member.name] = str(error)
        self._leave_out(problems)

    def submit(self) -> str:
        """Send the training code of this checkout to every node as a PySyft job."""
        training_code(self._code)
        self._submitted = True
        self._all(self._submit)
        return self.job

    async def _submit(self, member: Member) -> None:
        await member.submit(self._code)

    def gather(self) -> NodeGrid:
        """Attach to every worker as its owner lets it start; return the Grid over all.

        Waits for owners to decide, with `min_nodes` only for as many of them.
        """
        started: float | None = None
        pause = POLL_SECONDS
        while waiting := [m for m in self.members if m.node_id not in self.grid.workers]:
            self._leave_out({m.name: why for m in waiting if (why := self._look_at(m))})
            waiting = [m for m in self.members if m.node_id not in self.grid.workers]
            undecided = [m for m in waiting if m.state["status"] == "pending"]
            if self._min_nodes and undecided == waiting and len(self.grid.workers):
                self._leave_out_undecided(undecided)
            if all(m.state["status"] == "running" for m in self.members):
                started = started or time.monotonic()
                pause = POLL_SECONDS
                if time.monotonic() - started > WORKER_SECONDS:
                    self._leave_out({m.name: late(m, WORKER_SECONDS) for m in waiting})
            time.sleep(pause)
            pause = min(pause * 1.2, MOST_POLL_SECONDS)
        missing = self.grid.wait(WORKER_SECONDS)
        self._leave_out(
            {
                m.name: f"{m.name}: no worker to attach to: {missing[m.node_id]}"
                for m in self.members
                if m.node_id in missing
            }
        )
        return self.grid

    def _look_at(self, member: Member) -> str | None:
        """Ask one node how its job is: attach, or tell the user; return what is in the way."""
        before = member.state["status"]
        try:
            member.state = self.loop.run(member.status())
            if member.may_run_again:
                self.loop.run(member.submit_again(self._code, self._say))
                return None
            member.seen = time.monotonic()
        except LinkError as error:
            return str(error) if time.monotonic() - member.seen > AWAY_SECONDS else None
        except AnswerError as error:
            return f"{member.name}: {error}"
        state = member.state
        if state["status"] == "sent" and time.monotonic() - member.sent > TAKEN_SECONDS:
            if self._min_nodes:
                return idle(member)
            if not member.is_told:
                member.is_told = True
                self._say(idle(member))
        if state["status"] in FINAL:
            return ended(member)
        if state["sha256"] not in (None, self.sha256):
            return f"{member.name}: it says that the job is other code than was sent to it"
        holder = state["held_by"]
        if holder and not (holder["job"].startswith(TRAINING) and holder["job"] > self.job):
            return held(member, holder)  # of two runs that met, the younger one gives way
        if state["status"] != before:
            member.tell(self._say)
        if state["worker"]:  # attached at once: a worker without a researcher gives up
            find = partial(member.find_job, self._code, self._say)
            self.grid.attach(member.node_id, member.link, member.job, find)
        return None

    def _leave_out_undecided(self, members: list[Member]) -> None:
        if len(self.members) - len(members) >= (self._min_nodes or 0):
            self._leave_out({m.name: f"{m.name}: its owner has not decided" for m in members})

    def _leave_out(self, problems: dict[str, str]) -> None:
        """Go on without these nodes, by name and with the reason. Raises ClusterError."""
        if not problems:
            return
        left = [m for m in self.members if m.name not in problems]
        gone = [m for m in self.members if m.name in problems]
        if self._min_nodes is None or len(left) < self._min_nodes:
            lines = list(problems.values())
            if self._min_nodes is not None:
                lines.append(f"{len(left)} nodes would be left, --min-nodes is {self._min_nodes}")
            raise ClusterError("\n".join(lines))
        if self._submitted:
            self._cancel(gone)
        for member in gone:
            self.grid.detach(member.node_id)
            self._say(f"going on without {problems[member.name]}")
        self.members = left

    def states(self) -> dict[str, str]:
        """Return by node how its job is now."""
        states = self._states()
        return {m.name: _word(states.get(m.name)) for m in self.members}

    def memory(self) -> dict[str, dict[str, float]]:
        """Return, by node that answers, the peak resident MB of each process of ours there."""
        return {name: state["memory_mb"] for name, state in self._states().items()}

    def end(self) -> dict[str, str]:
        """End the jobs, attached or not, and return by node how each ended."""
        self._submitted = False
        ended = self.grid.close()
        since, told = time.monotonic(), False
        while True:
            states = self._states()
            busy = [m for m in self.members if _is_busy(states.get(m.name))]
            waited = time.monotonic() - since
            if waited > TELL_SECONDS:  # who has not taken the job up by then finds it cancelled
                busy = [m for m in busy if states[m.name]["status"] != "sent"]
            if not busy or waited > END_SECONDS:
                return {m.name: _word(states.get(m.name)) for m in self.members}
            if waited > TELL_SECONDS and not told:
                told = True
                who = ", ".join(m.name for m in busy)
                self._say(f"waiting for {who} to record that the job has ended, at most "
                          f"{END_SECONDS:.0f} s")  # fmt: skip
            self._cancel([m for m in busy if m.node_id not in ended])
            time.sleep(POLL_SECONDS)

    def _cancel(self, members: list[Member]) -> None:
        async def cancel() -> None:
            asked = (m.client.cancel(m.job) for m in members)
            await asyncio.gather(*asked, return_exceptions=True)

        self.loop.run(cancel())

    def _states(self) -> dict[str, dict[str, Any]]:
        """Return the job's state by node, without those that do not answer or do not know it."""

        async def ask() -> list[dict[str, Any] | BaseException]:
            asked = (m.status() for m in self.members)
            return await asyncio.gather(*asked, return_exceptions=True)

        answers = self.loop.run(ask())
        pairs = zip(self.members, answers, strict=True)
        return {m.name: state for m, state in pairs if not isinstance(state, BaseException)}

    def _all(self, ask: Callable[[Member], Coroutine[Any, Any, T]]) -> list[tuple[Member, T]]:
        """Ask all nodes at once; return those that answer with what they say."""

        async def gather() -> list[T | BaseException]:
            return await asyncio.gather(*(ask(m) for m in self.members), return_exceptions=True)

        answers: list[tuple[Member, T]] = []
        problems: dict[str, str] = {}
        for member, answer in zip(self.members, self.loop.run(gather()), strict=True):
            if isinstance(answer, LinkError):
                problems[member.name] = str(answer)
            elif isinstance(answer, AnswerError):
                problems[member.name] = f"{member.name}: {answer}"
            elif isinstance(answer, BaseException):
                raise answer
            else:
                answers.append((member, answer))
        self._leave_out(problems)
        return answers


def _is_busy(state: dict[str, Any] | None) -> bool:
    return state is not None and state["status"] not in FINAL


def _word(state: dict[str, Any] | None) -> str:
    return "unknown: the node does not answer" if state is None else str(state["status"])


async def _end(member: Member, job: str) -> bool:
    """Cancel a job and wait; tell whether it has ended. Raises LinkError, AnswerError."""
    until = time.monotonic() + END_SECONDS
    await member.client.cancel(job)
    while (await member.client.status(job))["status"] not in FINAL:
        if time.monotonic() > until:
            return False
        await asyncio.sleep(POLL_SECONDS)
    return True


async def _describe(member: Member) -> dict[str, Any]:
    return await member.client.describe()
