"""A round without compute on the nodes of the lab: our Grid, gate and worker, and bare SSH."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import asyncssh
import numpy as np
from flwr.app import Array, ArrayRecord, Message, RecordDict

from bench.lab import ansible
from fedrnn.cluster import ssh_links
from fedrnn.datasite.job_code import training_code
from fedrnn.datasite.researcher import NodeClient
from fedrnn.federation.codec import pack, quantise
from fedrnn.inventory import Inventory
from fedrnn.learning.checkpoint import ModelConfig
from fedrnn.learning.embedded import names
from fedrnn.learning.model import parameters_of, shapes
from fedrnn.nodes import connect
from fedrnn.transport.grid import Loop, NodeGrid

ECHO = """
import sys
size, inp, out = int(sys.argv[1]), sys.stdin.buffer, sys.stdout.buffer
while data := inp.read(size):
    out.write(data)
    out.flush()
"""


def payload() -> RecordDict:
    """Return what a round of our model sends to a node: packed values and a scale per tensor."""
    model = ModelConfig(tuple(names())).build(0)
    sizes = [int(np.prod(shape)) for shape in shapes(model).values()]
    change = quantise(parameters_of(model), sizes)
    arrays = ArrayRecord({"delta": Array(pack(change.values)), "scales": Array(change.scales)})
    return RecordDict({"arrays": arrays})


def large() -> RecordDict:
    """Return 20 MB of numbers that do not compress."""
    values = np.random.default_rng(0).random(5_000_000, dtype=np.float32)
    return RecordDict({"arrays": ArrayRecord({"weights": Array(values)})})


def timed(rounds: int, *sides: Callable[[], None]) -> list[list[float]]:
    """Return the milliseconds of each round of each side, taken in turn: noise meets all alike."""
    for _ in range(max(2, rounds // 15)):
        for one_round in sides:
            one_round()
    taken: list[list[float]] = [[] for _ in sides]
    for _ in range(rounds):
        for one_round, milliseconds in zip(sides, taken, strict=True):
            started = time.perf_counter()
            one_round()
            milliseconds.append(1e3 * (time.perf_counter() - started))
    return taken


class Ours:
    """The echo job on every node, approved by the operator, behind a Grid."""

    def __init__(self, inventory: Inventory, loop: Loop) -> None:
        self.links = {n: link for n, (link, _) in ssh_links(inventory, inventory.nodes).items()}
        self.job = f"echo-{time.time_ns()}"
        self.content, self._loop = payload(), loop
        with tempfile.TemporaryDirectory() as folder:
            code = training_code(Path(folder) / "code")
            shutil.copyfile(Path(__file__).parent / "echo_job" / "main.py", code / "main.py")
            for node in inventory.nodes:
                client = NodeClient(
                    self.links[node.name], inventory.researcher, node.owner, Path(folder) / "box"
                )
                loop.run(client.submit(code, self.job, "main.py"))
                self._wait(loop, client, "pending")
                approve = f"fedrnn-owner approve {self.job}"
                ansible("ansible", "-i", str(inventory.folder), node.name, "-a", approve)
                self._wait(loop, client, "running")
        self.grid = NodeGrid(loop, self.job)
        for number, link in enumerate(self.links.values(), start=1):
            self.grid.attach(number, link)
        if missing := self.grid.wait(120):
            sys.exit(f"no worker: {missing}")

    def _wait(self, loop: Loop, client: NodeClient, status: str) -> None:
        until = time.monotonic() + 60
        while loop.run(client.status(self.job))["status"] != status:
            if time.monotonic() > until:
                sys.exit(f"{client.owner}: the echo job is not {status}")
            time.sleep(0.2)

    def round(self) -> None:
        """Send the content to every node and take back as much."""
        nodes = self.grid.get_node_ids()
        messages = [Message(self.content, node, "train.gradient") for node in nodes]
        replies = list(self.grid.send_and_receive(messages, timeout=60))
        if any(reply.has_error() for reply in replies):
            sys.exit(str([reply.error.reason for reply in replies if reply.has_error()]))

    def close(self) -> None:
        """End the job and the connections: sshd holds memory for each."""
        self.grid.close()

        async def close() -> None:
            await asyncio.gather(*(link.close() for link in self.links.values()))

        self._loop.run(close())

    def size(self) -> int:
        """Return the bytes of a round to one node."""
        before = self.grid.workers[1].traffic.down
        self.round()
        return self.grid.workers[1].traffic.down - before


class Bare:
    """An asyncssh session per node, as the operator, whose far end echoes."""

    def __init__(self, inventory: Inventory, loop: Loop, size: int) -> None:
        self.loop, self.data = loop, bytes(size)
        self.sessions = loop.run(self._connect(inventory, size))

    async def _connect(self, inventory: Inventory, size: int) -> list[asyncssh.SSHClientProcess]:
        sessions = []
        for node in inventory.nodes:
            connection = await connect(
                inventory, node, compression_algs=None, encryption_algs=["aes128-gcm@openssh.com"]
            )
            command = f"python3 -c '{ECHO}' {size}"
            sessions.append(
                await connection.create_process(
                    command, encoding=None, window=4 << 20, max_pktsize=1 << 18
                )
            )
        return sessions

    def round(self) -> None:
        """Send the bytes to every node and read them back."""

        async def one(session: asyncssh.SSHClientProcess) -> None:
            session.stdin.write(self.data)
            await session.stdin.drain()
            await session.stdout.readexactly(len(self.data))

        async def all_nodes() -> None:
            await asyncio.gather(*(one(session) for session in self.sessions))

        self.loop.run(all_nodes())

    def close(self) -> None:
        """End the sessions."""
        for session in self.sessions:
            session.channel.get_connection().abort()
