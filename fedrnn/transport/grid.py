"""A Flower Grid whose nodes are long-lived workers behind links: SSH to a Pi, or a local gate."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import asyncssh
from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from fedrnn.transport import wire
from fedrnn.transport.link import Link, LinkError

log = logging.getLogger("fedrnn.grid")
T = TypeVar("T")

RETRY_SECONDS, MOST_RETRY_SECONDS = 0.2, 5.0
AWAY_SECONDS = 20.0  # a node that is away longer misses the round
HELLO_SECONDS = 60.0
BUSY_SECONDS = 60.0  # a worker that is silent longer is asked again, over a new stream


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


@dataclass
class Traffic:
    """What one node was sent and has sent, in bytes, how fast, and how often reached anew."""

    down: int = 0
    up: int = 0
    reconnects: int = -1
    seconds: float = 0.0  # from its last message to the reply


class WorkerLink:
    """The stream to one node's worker: kept open, opened anew, each request answered once.

    `owes` is the request that was given up and that the worker, as far as one knows, still works
    on. What comes back late, twice or for nobody is dropped, and `remark` tells of it.
    """

    def __init__(self, link: Link, job: str) -> None:
        self.link, self.job = link, job
        self.traffic = Traffic()
        self.error = self.owes = self.remark = ""
        self._gave_up = 0.0
        self._up = asyncio.Event()
        self._writer: wire.Writer | None = None
        self._waiting: dict[str, asyncio.Future[Message]] = {}
        self._stopped = asyncio.Event()
        self._task = asyncio.ensure_future(self._keep_open())

    @property
    def is_up(self) -> bool:
        """Tell whether a worker has greeted and is still there."""
        return self._up.is_set()

    @property
    def is_busy(self) -> bool:
        """Tell whether the worker may still work on a request that was given up."""
        return bool(self.owes) and time.monotonic() - self._gave_up < BUSY_SECONDS

    async def wait_up(self, seconds: float) -> bool:
        """Wait for the worker's greeting."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._up.wait(), seconds)
        return self.is_up

    async def request(self, identity: str, parts: tuple[bytes, ...]) -> Message:
        """Send a request until its reply comes.

        Raises LinkError when the node stays away, or what it sends is no frame of ours.
        """
        self.remark = ""
        started = time.perf_counter()
        if self.owes and not self.is_busy and self._writer is not None:
            self._writer.close()
        while True:
            if not (self.is_up or await self.wait_up(AWAY_SECONDS)):
                raise LinkError(f"{self.link.name}: away for {AWAY_SECONDS:.0f} s: {self.error}")
            reply: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
            self._waiting[identity] = reply
            try:
                if self._writer is None:
                    raise ConnectionError("closed")
                self.traffic.down += wire.write_frame(self._writer, wire.MESSAGE, *parts)
                await self._writer.drain()
                answer = await reply
                self.traffic.seconds = time.perf_counter() - started
                return answer
            except asyncio.CancelledError:
                self.owes, self._gave_up = identity, time.monotonic()
                raise
            except (ConnectionError, OSError) as error:
                log.info("%s: sending again: %s", self.link.name, error)
                await asyncio.sleep(RETRY_SECONDS)
            finally:
                self._waiting.pop(identity, None)

    async def stop(self, seconds: float = 10.0) -> None:
        """Tell the worker to end, wait for its word, and close the stream."""
        if self._writer is not None and self.is_up:
            with contextlib.suppress(TimeoutError, ConnectionError, OSError):
                wire.write_frame(self._writer, wire.STOP)
                await asyncio.wait_for(self._stopped.wait(), seconds)
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _keep_open(self) -> None:
        pause = RETRY_SECONDS
        while not self._stopped.is_set():
            try:
                await self._serve_stream()
            except (LinkError, asyncssh.Error, OSError, TimeoutError) as error:
                self.error = str(error) or type(error).__name__
                self._give_up(ConnectionError(self.error))
            except ValueError as error:  # to ask it again would bring the same
                self.error = str(error)
                self._give_up(LinkError(f"{self.link.name}: its answer was dropped: {error}"))
            # A worker that is gone for good must not keep its node busy with logins.
            pause = RETRY_SECONDS if self.is_up else min(2 * pause, MOST_RETRY_SECONDS)
            self._up.clear()
            self._writer = None
            await asyncio.sleep(pause)

    def _give_up(self, error: Exception) -> None:
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(error)

    async def _serve_stream(self) -> None:
        stream = await self.link.open(f"attach {self.job}")
        try:
            kind, body = await asyncio.wait_for(wire.read_frame(stream.reader), HELLO_SECONDS)
            if (kind, body) != (wire.HELLO, wire.GREETING):
                raise ValueError(f"the worker greets with {body!r}, expected {wire.GREETING!r}")
            self._writer = stream.writer
            self.owes = ""
            self.traffic.reconnects += 1
            self._up.set()
            while True:
                kind, body = await wire.read_frame(stream.reader)
                if kind == wire.STOP:
                    self._stopped.set()
                    return
                self.traffic.up += len(body)
                message = wire.loads(body)
                identity = message.metadata.reply_to_message_id
                waiting = self._waiting.get(identity)
                if waiting and not waiting.done():
                    waiting.set_result(message)
                else:
                    self.remark = "what came was the answer to another message"
                if identity == self.owes:
                    self.owes = ""
        except asyncio.IncompleteReadError:
            raise ConnectionError(f"the stream ended: {await stream.complaint()}") from None
        finally:
            stream.writer.close()


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
    """

    def __init__(self, loop: Loop, job: str, run_id: int = 1) -> None:
        self._loop, self._job, self._run = loop, job, wire.new_run(run_id)
        wire.identify(run_id, node_id=1)
        self._sent: dict[str, Sent] = {}
        self.workers: dict[int, WorkerLink] = {}

    def attach(self, node_id: int, link: Link) -> None:
        """Open the stream to a node's worker and keep it open from now on."""

        async def build() -> WorkerLink:
            return WorkerLink(link, self._job)

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
        return {n: w.error for n, w in self.workers.items() if not w.is_up}

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
        """Return the nodes whose workers are there, in order."""
        return [node for node, worker in sorted(self.workers.items()) if worker.is_up]

    def busy(self) -> set[int]:
        """Return the nodes whose workers still work on a message that was given up."""
        return {node for node, worker in self.workers.items() if worker.is_busy}

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

    def close(self) -> None:
        """Tell every worker to end; the jobs are then done."""

        async def stop() -> None:
            await asyncio.gather(*(worker.stop() for worker in self.workers.values()))

        self._loop.run(stop())
