"""The worker: the approved job. It answers Flower messages on a Unix socket for a whole run.

Started by `run.sh` of the job. It ends with code 0 on a STOP frame, and with code 1 when nobody has
been attached for a while: a controller that died leaves no worker behind for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import time
import traceback
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from flwr.app import Context
from flwr.clientapp import ClientApp

from fedrnn.transport import wire

TELLING = ("DataError",)  # their texts name files and remedies, never a row
KEPT_REPLIES = 2  # a request that is sent again after a reconnect is not trained again

log = logging.getLogger("fedrnn.worker")


class Worker:
    """Serves one ClientApp on one Unix socket."""

    def __init__(self, app: ClientApp, idle_seconds: float = 900.0) -> None:
        self.app, self.idle_seconds = app, idle_seconds
        self.contexts: dict[int, Context] = {}
        self.replies: dict[str, Future[bytes]] = {}
        self.thread = ThreadPoolExecutor(1)  # one training at a time; the socket stays responsive
        self.attached: set[asyncio.StreamWriter] = set()
        self.idle_since = time.monotonic()
        self.stop = asyncio.Event()

    async def serve(self, path: Path) -> int:
        """Listen on `path` until told to stop; return the exit code, 1 when nobody came back."""
        path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._serve_one, path, limit=1 << 20)
        path.chmod(0o660)
        async with server:
            while not self.stop.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.stop.wait(), min(5, self.idle_seconds / 2))
                if not self.attached and time.monotonic() - self.idle_since > self.idle_seconds:
                    log.warning("nobody attached for %.0f s: ending", self.idle_seconds)
                    break
            for writer in self.attached:
                writer.close()
        self.thread.shutdown(cancel_futures=True)
        return 0 if self.stop.is_set() else 1

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.attached.add(writer)
        answers: set[asyncio.Task[None]] = set()
        try:
            wire.write_frame(writer, wire.HELLO, wire.GREETING)
            while True:
                kind, body = await wire.read_frame(reader)
                if kind == wire.STOP:
                    wire.write_frame(writer, wire.STOP)
                    await writer.drain()
                    self.stop.set()
                    return
                answers.add(task := asyncio.ensure_future(self._answer(body, writer)))
                task.add_done_callback(answers.discard)
        except (asyncio.IncompleteReadError, ConnectionError, ValueError) as error:
            log.info("detached: %r", error)
        finally:
            for task in answers:
                task.cancel()
            self.attached.discard(writer)
            self.idle_since = time.monotonic()
            writer.close()

    async def _answer(self, body: bytes, writer: asyncio.StreamWriter) -> None:
        reply = self._reply(body)
        data = await asyncio.shield(asyncio.wrap_future(reply))
        wire.write_frame(writer, wire.MESSAGE, data)
        await writer.drain()

    def _reply(self, body: bytes) -> Future[bytes]:
        """Train for a request once; a newer request supersedes those that have not started."""
        identity = wire.message_id(body)
        if identity not in self.replies:
            for waiting in self.replies.values():
                waiting.cancel()
            while len(self.replies) >= KEPT_REPLIES:
                self.replies.pop(next(iter(self.replies)))
            self.replies[identity] = self.thread.submit(self._handle, body)
        return self.replies[identity]

    def _handle(self, body: bytes) -> bytes:
        message = wire.loads(body)
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


def main() -> int:
    """Serve the training app of this job where the environment says."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    from fedrnn.federation.client_app import app

    os.umask(0o007)
    worker = Worker(app, float(os.environ["FEDRNN_IDLE_SECONDS"]))
    return asyncio.run(worker.serve(Path(os.environ["FEDRNN_SOCKET"])))


if __name__ == "__main__":
    sys.exit(main())
