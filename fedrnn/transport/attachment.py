"""The stream to one node's worker: opened anew when it breaks, each request answered once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import asyncssh
from flwr.app import Message

from fedrnn.printable import printable
from fedrnn.transport import wire
from fedrnn.transport.link import Link, LinkError

log = logging.getLogger("fedrnn.attachment")
Find = Callable[[], Awaitable[str]]
Say = Callable[[str], None]

RETRY_SECONDS, MOST_RETRY_SECONDS = 0.2, 1.0
AWAY_SECONDS = 20.0  # how long a node is waited for: one that is away longer misses the round
HELLO_SECONDS = 60.0
# A reply is about as large as its request, or has counts by two labels. What is larger is not
# looked at: a megabyte made for it takes protobuf two seconds, and fifty times its memory.
REPLY_TIMES, REPLY_BYTES = 4, 1 << 18
MAX_STRAYS = 3  # of one request: a reply that comes twice is no flood
BUSY_SECONDS = 60.0  # a worker that is silent longer is asked again, over a new stream


class JobEndedError(LinkError):
    """A node's job has ended: it takes no part any more. The text names the node and says how."""


@dataclass
class Traffic:
    """What one node was sent and has sent, in bytes, how fast, and how often reached anew."""

    down: int = 0
    up: int = 0
    reconnects: int = -1
    seconds: float = 0.0  # from its last message to the reply


class Attachment:
    """The stream to one node's worker; `say` is told when it breaks and when it is there again.

    Where the node refuses it, `find` is asked for the job to attach to from now on; it raises
    LinkError while there is none, and JobEndedError when there will be none. `owes` is the request
    that was given up and that the worker, as far as one knows, still works on. What comes back
    late, twice or for nobody is dropped, and `remark` tells of it; `dropped` counts what nobody can
    have asked for.
    """

    def __init__(self, link: Link, job: str, say: Say, find: Find | None = None) -> None:
        self.link, self.job, self._say, self._find = link, job, say, find
        self.traffic = Traffic()
        self.error = self.owes = self.remark = ""
        self._gave_up = self._lost = 0.0
        self._missed = self._stopping = False
        self.dropped = self._strays = self._largest = 0
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
    def is_expected(self) -> bool:
        """Tell whether it is worth asking: a worker is there, or was lost a moment ago.

        A stream that breaks between two rounds is waited for as one that breaks within a round is.
        """
        if self.is_up or self._missed or self._task.done():
            return self.is_up
        return bool(self._lost) and time.monotonic() - self._lost < AWAY_SECONDS

    @property
    def is_busy(self) -> bool:
        """Tell whether the worker may still work on a request that was given up."""
        return bool(self.owes) and time.monotonic() - self._gave_up < BUSY_SECONDS

    async def wait_up(self, seconds: float) -> bool:
        """Wait for the worker's greeting, or for the news that its job has ended."""
        greeting = asyncio.ensure_future(self._up.wait())
        first = asyncio.FIRST_COMPLETED
        await asyncio.wait([greeting, self._task], timeout=seconds, return_when=first)
        greeting.cancel()
        return self.is_up

    async def request(self, identity: str, parts: tuple[bytes, ...]) -> Message:
        """Send a request until its reply comes.

        Raises LinkError when the node stays away, or what it sends is no frame of ours.
        """
        self.remark = ""
        self._strays = 0
        self._largest = REPLY_TIMES * sum(map(len, parts)) + REPLY_BYTES
        started = time.perf_counter()
        if self.owes and not self.is_busy and self._writer is not None:
            self._writer.close()
        while True:
            self._missed = not self.is_up
            if not (self.is_up or await self.wait_up(AWAY_SECONDS)):
                if self._task.done():
                    raise JobEndedError(self.error)
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
                if not reply.done() or reply.cancelled():  # it may have come in this very moment
                    self.owes, self._gave_up = identity, time.monotonic()
                raise
            except (OSError, asyncssh.Error) as error:
                log.info("%s: sending again: %s", self.link.name, error)
                await asyncio.sleep(RETRY_SECONDS)
            finally:
                self._waiting.pop(identity, None)

    async def stop(self, seconds: float = 10.0) -> bool:
        """Tell the worker to end, close the stream, and return whether it has given its word."""
        self._stopping = True
        if self._writer is not None and self.is_up:
            with contextlib.suppress(TimeoutError, ConnectionError, OSError):
                wire.write_frame(self._writer, wire.STOP)
                await asyncio.wait_for(self._stopped.wait(), seconds)
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        return self._stopped.is_set()

    async def _keep_open(self) -> None:
        pause, refused = RETRY_SECONDS, False
        while not self._stopped.is_set():
            try:
                if refused and self._find:
                    self.job = await self._find()
                await self._serve_stream()
            except JobEndedError as error:
                self.error = str(error)
                self._say(self.error)
                self._give_up(error)
                return
            except (LinkError, asyncssh.Error, OSError, TimeoutError) as error:
                self.error = printable(error) or type(error).__name__
                self._give_up(ConnectionError(self.error))
                if self.is_up and not self._stopped.is_set():
                    self._lost = time.monotonic()
                    self._say(f"{self.link.name}: its worker is out of reach: {self.error}")
            except ValueError as error:  # to ask it again would bring the same
                self.error = printable(error)
                self.dropped += 1
                self._give_up(LinkError(f"{self.link.name}: its answer was dropped: {error}"))
            # A worker that does not come must not keep its node busy with logins.
            refused = not self.is_up
            pause = min(2 * pause, MOST_RETRY_SECONDS) if refused else RETRY_SECONDS
            self._up.clear()
            self._writer = None
            await asyncio.sleep(pause)

    def _give_up(self, error: Exception) -> None:
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(error)

    def _drop(self) -> None:
        """Note that something has come for which nobody waits. Raises ValueError for a flood."""
        self.remark = "what came was the answer to another message"
        self._strays += 1
        if self._strays > MAX_STRAYS:
            raise ValueError("it sends what nobody has asked for")
        self.dropped += 1

    async def _serve_stream(self) -> None:
        stream = await self.link.open(f"attach {self.job}")
        try:
            greeting = wire.read_frame(stream.reader, lambda: len(wire.GREETING))
            kind, body = await asyncio.wait_for(greeting, HELLO_SECONDS)
            if (kind, body) != (wire.HELLO, wire.GREETING):
                raise ValueError(f"the worker greets with {body!r}, expected {wire.GREETING!r}")
            self._writer = stream.writer
            self.owes, self._missed = "", False
            self.traffic.reconnects += 1
            self._up.set()
            if self._lost:
                after, self._lost = time.monotonic() - self._lost, 0.0
                self._say(f"{self.link.name}: its worker is there again, after {after:.1f} s")
            while True:
                kind, body = await wire.read_frame(stream.reader, lambda: self._largest)
                if kind == wire.STOP:
                    if not self._stopping:
                        raise ValueError("it ends without being told to")
                    self._stopped.set()
                    return
                self.traffic.up += len(body)
                if not (self._waiting or self.owes):
                    self._drop()
                    continue
                message = wire.loads(body)
                identity = message.metadata.reply_to_message_id
                waiting = self._waiting.get(identity)
                if waiting and not waiting.done():
                    waiting.set_result(message)
                elif identity != self.owes and not (waiting and waiting.cancelled()):
                    self._drop()
                if identity == self.owes:
                    self.owes = ""
        except asyncio.IncompleteReadError:
            raise ConnectionError(f"the stream ended: {await stream.complaint()}") from None
        finally:
            stream.writer.close()
