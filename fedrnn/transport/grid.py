"""A Flower Grid whose nodes are long-lived workers behind links: SSH to a Pi, or a local gate."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from fedrnn.transport import wire
from fedrnn.transport.attachment import Attachment, Find, Say, Traffic
from fedrnn.transport.link import Link

T = TypeVar("T")


class Loop:
    """An event loop in a thread of its own, for Flower's strategies, which are synchronous."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Run a coroutine there and return its result here."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout)

    def close(self) -> None:
        """Stop the thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5)


async def _wait(tasks: list[asyncio.Task[Message]], seconds: float | None) -> None:
    """Wait for all tasks, but no longer than `seconds` in which this process was awake.

    A controller that was suspended finds the replies where they wait for it.
    """
    while seconds is None or seconds > 0:
        step = None if seconds is None else min(seconds, 1.0)
        if not (await asyncio.wait(tasks, timeout=step))[1]:
            return
        seconds = None if seconds is None or step is None else seconds - step


@dataclass
class Sent:
    """A message under way, when it was sent and when its reply came."""

    message: Message
    reply: asyncio.Task[Message]
    at: float = field(default_factory=time.perf_counter)


class NodeGrid(Grid):
    """Flower's Grid over workers; node ids are those given to `attach`.

    A node that does not answer in time, or fails, gets an error reply that names it and says how.
    `say` is told, in a line each, of nodes that are lost and found.
    """

    def __init__(self, loop: Loop, job: str, run_id: int = 1, say: Say = lambda text: None) -> None:
        self._loop, self._job, self._say = loop, job, say
        self._run = wire.new_run(run_id)
        wire.identify(run_id, node_id=1)
        self._sent: dict[str, Sent] = {}
        self.workers: dict[int, Attachment] = {}

    def attach(self, node_id: int, link: Link, job: str = "", find: Find | None = None) -> None:
        """Open the stream to a node's worker and keep it open from now on; see `Attachment`."""

        async def build() -> Attachment:
            return Attachment(link, job or self._job, self._say, find)

        self.workers[node_id] = self._loop.run(build())

    def detach(self, node_id: int) -> None:
        """Let a node go, where it was attached: its worker is told to end."""
        if worker := self.workers.pop(node_id, None):
            self._loop.run(worker.stop())

    def set_run(self, run: wire.Run) -> None:
        """Take over a run made by Flower."""
        self._run = run
        wire.identify(run.run_id, node_id=1)

    @property
    def run(self) -> wire.Run:
        """The run that messages belong to."""
        return self._run

    def wait(self, seconds: float) -> dict[int, str]:
        """Wait for all workers' greetings; return the nodes that gave none, and why."""

        async def all_up() -> None:
            await asyncio.gather(*(w.wait_up(seconds) for w in self.workers.values()))

        self._loop.run(all_up())
        return self.away()

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Make a message to one node."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return the nodes whose workers are there or were a moment ago, in order."""
        return [node for node, worker in sorted(self.workers.items()) if worker.is_expected]

    def busy(self) -> set[int]:
        """Return the nodes whose workers still work on a message that was given up."""
        return {node for node, worker in self.workers.items() if worker.is_busy}

    def away(self) -> dict[int, str]:
        """Return the nodes whose workers are not there, and why as far as one knows."""
        return {node: worker.error for node, worker in self.workers.items() if not worker.is_up}

    def nonsense(self) -> dict[int, int]:
        """Return by node how much it has sent that nobody can have asked for."""
        return {node: worker.dropped for node, worker in self.workers.items()}

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages without waiting; return their ids."""
        return self._loop.run(self._push(list(messages)))

    async def _push(self, messages: list[Message]) -> list[str]:
        identities = [wire.give_id(message) for message in messages]
        encoded = wire.encode_all(messages)
        for message, identity, parts in zip(messages, identities, encoded, strict=True):
            worker = self.workers[message.metadata.dst_node_id]
            task = asyncio.ensure_future(worker.request(identity, parts))
            self._sent[identity] = Sent(message, task)
        return identities

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies that have come, in the order of `message_ids`."""
        return [
            self._take(i) for i in message_ids if i in self._sent and self._sent[i].reply.done()
        ]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send messages and return their replies in the order of the messages.

        A node without a reply in `timeout` seconds gets an error reply in its place.
        """
        batch = list(messages)
        if not batch:
            return []
        identities = self._loop.run(self._exchange(batch, timeout))
        return [self._take(identity) for identity in identities]

    async def _exchange(self, messages: list[Message], timeout: float | None) -> list[str]:
        identities = await self._push(messages)
        await _wait([self._sent[i].reply for i in identities], timeout)
        late = [self._sent[i].reply for i in identities if not self._sent[i].reply.done()]
        for task in late:
            task.cancel(f"no reply in {timeout} s")
        if late:
            await asyncio.wait(late)
        return identities

    def _take(self, identity: str) -> Message:
        sent = self._sent.pop(identity)
        worker = self.workers[sent.message.metadata.dst_node_id]
        name = worker.link.name
        if sent.reply.cancelled():
            remark = f": {worker.remark}" if worker.remark else ""
            return wire.no_reply(sent.message, f"{name}: no reply in time{remark}")
        if error := sent.reply.exception():
            return wire.no_reply(sent.message, str(error))
        reply = sent.reply.result()
        if reply.metadata.src_node_id != sent.message.metadata.dst_node_id:
            return wire.no_reply(sent.message, f"{name}: it answers in the name of another node")
        return reply

    def traffic(self) -> dict[str, Traffic]:
        """Return what each node was sent and has sent."""
        return {worker.link.name: worker.traffic for worker in self.workers.values()}

    def close(self) -> set[int]:
        """Tell every worker to end; return the nodes whose workers have given their word."""

        async def stop() -> list[bool]:
            return await asyncio.gather(*(worker.stop() for worker in self.workers.values()))

        return {node for node, ended in zip(self.workers, self._loop.run(stop()), strict=True)
                if ended}  # fmt: skip
