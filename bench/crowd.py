"""Many echo workers in one process, on Unix sockets: what the controller pays for each of them.

`python -m bench.crowd NUMBER FOLDER` is that process; `Crowd` is the controller's side.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedrnn.transport.grid import Loop, NodeGrid
from fedrnn.transport.link import Stream
from fedrnn.transport.worker import Worker

app = ClientApp()
ONE_AT_A_TIME = threading.Lock()  # Flower knows one node per process


@app.train("gradient")
def echo(message: Message, context: Context) -> Message:
    """Return the arrays, as many bytes up as down."""
    records = {"arrays": message.content["arrays"], "metrics": MetricRecord({"stale": 0})}
    return Message(RecordDict(records), reply_to=message)


class EchoWorker(Worker):
    """A worker beside others in its process."""

    def _handle(self, message: Message) -> bytes:
        with ONE_AT_A_TIME:
            return super()._handle(message)


class SocketLink:
    """What the gate does for a researcher: hand a session to the worker behind a socket."""

    def __init__(self, path: Path) -> None:
        self.name, self.path = path.name, path

    async def call(self, command: str, data: bytes = b"") -> bytes:
        """Nothing is governed here."""
        raise NotImplementedError(command)

    async def open(self, command: str) -> Stream:
        """Attach to the worker."""
        ours, theirs = socket.socketpair()
        self._gate = socket.socket(socket.AF_UNIX)
        self._gate.connect(str(self.path))
        socket.send_fds(self._gate, [b"!"], [theirs.fileno(), theirs.fileno()])
        theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours, limit=1 << 20)
        return Stream(reader, writer, asyncio.StreamReader())

    async def close(self) -> None:
        """End the session."""
        self._gate.close()


class Crowd:
    """So many workers behind a Grid."""

    def __init__(self, number: int, loop: Loop, folder: Path) -> None:
        command = [sys.executable, "-m", "bench.crowd", str(number), str(folder)]
        self.process = subprocess.Popen(command)
        paths = [folder / f"worker{node}" for node in range(1, number + 1)]
        while not all(path.exists() for path in paths):
            time.sleep(0.1)
        self.number, self.cpu = number, 0.0
        self.grid = NodeGrid(loop, "echo")
        for node, path in enumerate(paths, start=1):
            self.grid.attach(node, SocketLink(path))
        if missing := self.grid.wait(60):
            sys.exit(f"no worker: {missing}")
        values = np.random.default_rng(0).random(125_000, dtype=np.float32)
        self.content = RecordDict({"arrays": ArrayRecord({"weights": Array(values)})})

    def round(self) -> None:
        """Send 0.5 MB to every worker and take back as much; count this process' CPU seconds."""
        messages = [Message(self.content, n, "train.gradient") for n in self.grid.get_node_ids()]
        began = time.process_time()
        replies = list(self.grid.send_and_receive(messages, timeout=60))
        self.cpu += time.process_time() - began
        if len(replies) != self.number or any(reply.has_error() for reply in replies):
            sys.exit("a worker did not answer")

    def close(self) -> None:
        """End the workers."""
        self.grid.close()
        self.process.wait(30)


def main() -> None:
    """Serve until every worker is told to stop."""
    folder = Path(sys.argv[2])
    threads = [
        threading.Thread(target=EchoWorker(app).serve, args=(folder / f"worker{number}",))
        for number in range(1, int(sys.argv[1]) + 1)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
