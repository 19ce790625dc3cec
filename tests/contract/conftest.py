"""Workers with tiny ClientApps on real Unix sockets, and a Grid over them."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from flwr.app import Message
from flwr.clientapp import ClientApp

from fedrnn.transport.grid import Loop, NodeGrid
from fedrnn.transport.link import Stream
from fedrnn.transport.worker import Worker


def echo_app(delay: float = 0.0) -> ClientApp:
    """Answers every query with what it was sent; `calls` counts them."""
    app = ClientApp()
    app.calls = 0

    @app.query()
    def query(message: Message, context) -> Message:
        app.calls += 1
        if delay:
            threading.Event().wait(delay)
        return Message(message.content, reply_to=message)

    @app.query("fails")
    def fails(message: Message, context) -> Message:
        raise RuntimeError("this node cannot")

    return app


class SocketLink:
    """A link whose `attach` is the worker's socket itself; `cut` drops the open stream."""

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path, self.writers = name, path, []

    async def open(self, command: str):
        reader, writer = await asyncio.open_unix_connection(self.path, limit=1 << 20)
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
        self.servers = Loop()
        self.workers, self.tasks, links = [], [], {}
        for number, app in enumerate(apps, start=1):
            path = folder / f"{number}.sock"
            worker = self.servers.run(self._serve(app, path))
            self.workers.append(worker)
            links[number] = SocketLink(f"pi{number}", path)
        self.links = links
        self.grid = NodeGrid(self.loop, "job-1")
        for number, link in links.items():
            self.grid.attach(number, link)

    async def _serve(self, app: ClientApp, path: Path) -> Worker:
        worker = Worker(app)
        self.tasks.append(asyncio.ensure_future(worker.serve(path)))
        while not path.exists():
            await asyncio.sleep(0.01)
        return worker

    def close(self) -> None:
        self.grid.close()
        self.loop.close()
        self.servers.close()


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
