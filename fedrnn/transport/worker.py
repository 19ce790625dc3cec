"""The worker: the approved job. It answers Flower messages on a Unix socket for a whole run.

Started by `run.sh` of the job. The gate hands it, over that socket, the input and the output of a
researcher's SSH session. It ends with code 0 on a STOP frame, and with code 1 when nobody has been
attached for a while: a controller that died leaves no worker behind for ever.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
import traceback
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fedrnn.transport import wire

TELLING = ("DataError",)  # their texts name files and remedies, never a row
LOOK_SECONDS = 5.0
HAND_OVER_SECONDS = 10.0

log = logging.getLogger("fedrnn.worker")


@dataclass(eq=False)
class Stream:
    """Somebody who is attached: what he says and what he is told."""

    input: FileIO
    output: FileIO
    turn: threading.Lock = field(default_factory=threading.Lock)

    def send(self, kind: bytes, body: bytes = b"") -> None:
        """Write one frame. Raises OSError, ValueError when it is closed."""
        with self.turn:
            wire.send(self.output, kind, body)

    def close(self) -> None:
        """End it, between two frames: the numbers of the descriptors are soon another stream's."""
        with self.turn:
            self.input.close()
            self.output.close()


class Worker:
    """Serves one ClientApp on one Unix socket.

    Each stream has a thread that reads, so that a greeting or the end never waits for training,
    which is the calling thread's.
    """

    def __init__(self, app: ClientApp, idle_seconds: float = 900.0) -> None:
        self.app, self.idle_seconds = app, idle_seconds
        self.contexts: dict[int, Context] = {}
        self.streams: set[Stream] = set()
        self._changed = threading.Condition()
        self._request: tuple[bytes, Stream] | None = None  # the newest takes the place of others
        self._last = ("", b"")  # asked again after a reconnect, it is not trained again
        self._idle_since = time.monotonic()
        self._stopped = False

    def serve(self, path: Path) -> int:
        """Listen on `path` until told to stop; return the exit code, 1 when nobody came back."""
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(os.fspath(path))
            path.chmod(0o660)
            server.listen()
            threading.Thread(target=self._accept, args=(server,), daemon=True).start()
            try:
                return self._work()
            finally:
                server.shutdown(socket.SHUT_RDWR)

    def _work(self) -> int:
        while request := self._next():
            body, stream = request
            try:
                stream.send(wire.MESSAGE, self._reply(body))
            except (OSError, ValueError) as error:
                log.info("the reply was not taken: %s", error)
        if not self._stopped:
            log.warning("nobody attached for %.0f s: ending", self.idle_seconds)
        return 0 if self._stopped else 1

    def _next(self) -> tuple[bytes, Stream] | None:
        """Wait for a request; None when it is time to end."""
        with self._changed:
            while not (self._request or self._stopped):
                self._changed.wait(min(LOOK_SECONDS, self.idle_seconds / 2))
                alone = not self.streams
                if alone and time.monotonic() - self._idle_since > self.idle_seconds:
                    return None
            request, self._request = self._request, None
            return None if self._stopped else request

    def _accept(self, server: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the end
            while True:
                peer, _ = server.accept()
                threading.Thread(target=self._attach, args=(peer,), daemon=True).start()

    def _attach(self, peer: socket.socket) -> None:
        """Serve the session that the gate hands over; closing `peer` tells the gate of the end."""
        with peer:
            peer.settimeout(HAND_OVER_SECONDS)
            try:
                _, (first, second), *_ = socket.recv_fds(peer, 1, 2)
            except (OSError, ValueError) as error:
                log.info("nothing was handed over: %r", error)
                return
            stream = Stream(FileIO(first, "r"), FileIO(second, "w"))
            self.streams.add(stream)
            try:
                self._listen(stream)
            except (OSError, EOFError, ValueError) as error:
                log.info("detached: %r", error)
            finally:
                self._idle_since = time.monotonic()
                self.streams.discard(stream)
                stream.close()

    def _listen(self, stream: Stream) -> None:
        stream.send(wire.HELLO, wire.GREETING)
        while True:
            kind, body = wire.receive(stream.input)
            with self._changed:
                if kind == wire.STOP:
                    stream.send(wire.STOP)
                    self._stopped = True
                else:
                    self._request = body, stream
                self._changed.notify()
            if kind == wire.STOP:
                return

    def _reply(self, body: bytes) -> bytes:
        message = wire.loads(body)
        identity = message.metadata.message_id
        if self._last[0] != identity:
            self._last = identity, self._handle(message)
        return self._last[1]

    def _handle(self, message: Message) -> bytes:
        run_id, node_id = message.metadata.run_id, message.metadata.dst_node_id
        wire.identify(run_id, node_id)
        if run_id not in self.contexts:
            self.contexts[run_id] = wire.new_context(run_id, node_id)
        try:
            reply = self.app(message, self.contexts[run_id])
        except Exception as error:
            log.exception("the ClientApp failed on %s", message.metadata.message_type)
            reply = wire.app_error(message, discreet(error))
        return wire.dumps(reply)


def discreet(error: BaseException) -> str:
    """Return what may leave the node of an exception: its kind and where it was raised.

    Its text may hold a row. Of those that this project raises for people, with no row in it, the
    text goes along.
    """
    kind = type(error).__name__
    if kind in TELLING and type(error).__module__.startswith("fedrnn."):
        return f"{kind}: {error}"
    frame = traceback.extract_tb(error.__traceback__)[-1:]
    place = "".join(f" in {Path(f.filename).name}, line {f.lineno}" for f in frame)
    return f"{kind}{place}; the owner can read the rest in the job's log"


def serve(app: ClientApp) -> int:
    """Serve a job's app where the environment says; return the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    os.umask(0o007)
    worker = Worker(app, float(os.environ["FEDRNN_IDLE_SECONDS"]))
    return worker.serve(Path(os.environ["FEDRNN_SOCKET"]))
