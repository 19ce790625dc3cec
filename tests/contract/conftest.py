"""Workers with tiny ClientApps on real Unix sockets, and a Grid over them."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from pathlib import Path

import pytest
from flwr.clientapp import ClientApp

from fedrnn.transport.grid import Loop, NodeGrid
from fedrnn.transport.link import Stream
from fedrnn.transport.worker import Worker


class SocketLink:
    """A link whose `attach` hands a socket to the worker, as the gate does; `cut` drops it."""

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path, self.writers = name, path, []

    async def open(self, command: str):
        here, there = socket.socketpair()
        with socket.socket(socket.AF_UNIX) as worker, there:
            worker.connect(os.fspath(self.path))
            socket.send_fds(worker, [b"\0"], [there.fileno(), there.fileno()])
        reader, writer = await asyncio.open_connection(sock=here, limit=1 << 20)
        self.writers.append(writer)
        return Stream(reader, writer, reader)

    async def call(self, command: str, data: bytes = b"") -> bytes:
        raise NotImplementedError

    async def close(self) -> None:
        for writer in self.writers:
            writer.close()

    def cut(self, loop: Loop) -> None:
        async def abort():
            self.writers[-1].transport.abort()

        loop.run(abort())


class Federation:
    """Some workers in a thread each, and a Grid over them."""

    def __init__(self, folder: Path, apps: list[ClientApp]) -> None:
        self.loop = Loop()
        self.workers, links = [], {}
        for number, app in enumerate(apps, start=1):
            path = folder / f"{number}.sock"
            serve = threading.Thread(target=Worker(app).serve, args=(path,), daemon=True)
            serve.start()
            self.workers.append(serve)
            while not path.exists():
                time.sleep(0.01)
            links[number] = SocketLink(f"pi{number}", path)
        self.links = links
        self.grid = NodeGrid(self.loop, "job-1")
        for number, link in links.items():
            self.grid.attach(number, link)

    def close(self) -> None:
        self.grid.close()
        self.loop.close()


@pytest.fixture
def federation(tmp_path_factory):
    made = []

    def make(*apps: ClientApp) -> Federation:
        made.append(Federation(tmp_path_factory.mktemp("f"), list(apps)))
        assert made[-1].grid.wait(5) == {}
        return made[-1]

    yield make
    for one in made:
        one.close()
