"""A relay in the path to the nodes: it delays what it passes on, or stops within a frame."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml
from cluster import INVENTORY

from fedrnn.transport.grid import Loop

REQUEST = 1000  # bytes: what SSH sends of its own is shorter


class Relay:
    """Listens on a port of its own for one node.

    `delay` is in seconds, of what comes from the node; `cut` is how many bytes still come from it
    after the next request: then the path is dead in both directions, new connections included.
    """

    def __init__(self, port: int, loop: Loop) -> None:
        self.delay, self.cut, self._left = 0.0, 0, sys.maxsize
        self._port = port
        self._server = loop.run(asyncio.start_server(self._pass_on, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]
        self._loop = loop

    @property
    def is_dead(self) -> bool:
        return self._left == 0

    async def _pass_on(self, here: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        there, on = await asyncio.open_connection("127.0.0.1", self._port)
        with contextlib.suppress(OSError):
            await asyncio.gather(self._down(here, on), self._up(there, back))

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            if self.cut and len(data) > REQUEST:
                self._left, self.cut = self.cut, 0
            if not self.is_dead:
                writer.write(data)
        writer.close()

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        clock = asyncio.get_running_loop()
        while data := await reader.read(1 << 12):
            passed = data[: self._left]
            self._left -= len(passed)
            if passed:
                clock.call_later(self.delay, writer.write, passed)
        if not self.is_dead:
            clock.call_later(self.delay, writer.close)


@contextlib.contextmanager
def relayed(folder: Path, node: str) -> Iterator[tuple[Path, Relay]]:
    """Yield an inventory in which a node is reached through a relay, and the relay."""
    loop = Loop()
    inventory = folder / "lab"
    shutil.copytree(INVENTORY, inventory)
    file = inventory / "ports.yml"
    ports = yaml.safe_load(file.read_text())
    host = ports["lab"]["hosts"][node]
    relay = Relay(host["ansible_port"], loop)
    known = inventory / "known_hosts"
    pinned, count = re.subn(
        rf"\[127\.0\.0\.1\]:{host['ansible_port']}\b",
        f"[127.0.0.1]:{relay.port}",
        known.read_text(),
    )
    assert count == 1, pinned
    known.write_text(pinned)
    host["ansible_port"] = relay.port
    file.write_text(yaml.safe_dump(ports))
    yield inventory, relay
    loop.close()
