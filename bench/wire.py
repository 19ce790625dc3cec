"""What the wire costs: rounds without compute, and the memory and time of a training around it.

`python -m bench.wire` needs the lab (`ansible-playbook site.yml`); five minutes. Ours goes
through an approved PySyft job on the lab's nodes. The rivals have no governance; where both sides
are timed, they take turns:

echo round, 20 MB model   an asyncssh session per node whose far end echoes the same bytes
flower round              Flower's own SuperLink and SuperNodes, see bench/stock_flower.py
same exchange             torch's gloo all-reduce of the same numbers between the same nodes
100 echo workers          three of them, in one process without SSH, 0.5 MB each way
resident                  a process on a node that has imported torch and nothing else
600 rounds                the workers' own compute time in the same run, of `run` from start to end
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from rich.console import Console

from bench.crowd import Crowd
from bench.echo import Bare, Ours, large, timed
from bench.figures import Row, publish, row
from bench.stock_flower import round_seconds
from fedrnn.checkout import LATEST, ROOT
from fedrnn.inventory import DEFAULT, Inventory, Node, read_inventory
from fedrnn.learning.checkpoint import ModelConfig
from fedrnn.learning.embedded import names
from fedrnn.learning.model import parameters_of
from fedrnn.nodes import connect
from fedrnn.reporting.record import Record, read
from fedrnn.transport.grid import Loop

RESULTS = Path(__file__).parent / "results" / "wire.json"
ROUNDS = 600
VENV_PYTHON = "/opt/fedrnn/venv/bin/python"
TORCH = "import torch, resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000)"
INTERFACE = "$(ip -o -4 addr show scope global | awk '{print $2; exit}')"


async def ask(inventory: Inventory, node: Node, command: str, text: str = "") -> str:
    """Run a command on a node as its operator and return what it says."""
    async with await connect(inventory, node) as connection:
        done = await connection.run(command, input=text, check=True)
        return str(done.stdout)


def echoes(inventory: Inventory, loop: Loop) -> list[Row]:
    """Measure a round of our model and one of 20 MB, beside bare SSH."""
    rows = []
    ours = Ours(inventory, loop)
    for figure, content, rounds, floor, aim in (
        ("echo round", ours.content, 300, 2.5, 1.5),
        ("20 MB model", large(), 15, 2.0, 1.3),
    ):
        ours.content = content
        bare = Bare(inventory, loop, ours.size())
        mine, theirs = (statistics.median(ms) for ms in timed(rounds, ours.round, bare.round))
        rows.append(row(figure, "ms", mine, theirs, floor, aim, of="bare asyncssh"))
        bare.close()
    ours.close()
    return rows


def flower(ours: float) -> Row:
    """Measure the same round where Flower itself carries it."""
    theirs = 1e3 * round_seconds()
    of = "Flower's SuperLink and SuperNodes"
    return row("flower round", "ms", ours, theirs, 300, 1000, times=True, of=of)


def exchange(inventory: Inventory, loop: Loop, ours: float) -> Row:
    """Measure gloo's all-reduce of as many numbers as our model has."""
    numbers = len(parameters_of(ModelConfig(tuple(names())).build()))
    program = (Path(__file__).parent / "allreduce.py").read_text()
    nodes = inventory.nodes
    command = f"{len(nodes)} {nodes[0].name} {INTERFACE} {numbers} 300"

    async def all_nodes() -> list[str]:
        return await asyncio.gather(*(
            ask(inventory, node, f"{VENV_PYTHON} - {rank} {command}", program)
            for rank, node in enumerate(nodes)
        ))  # fmt: skip

    told = float(loop.run(all_nodes(), 120)[0])
    return row("same exchange", "ms", ours, told, None, 3.0, of="torch DDP's gloo all-reduce")


def crowds(loop: Loop) -> list[Row]:
    """Measure how a round grows with the workers, and the controller's CPU for each."""
    taken, cpu = {}, {}
    for number in (3, 10, 30, 100):
        with tempfile.TemporaryDirectory() as folder:
            crowd = Crowd(number, loop, Path(folder))
            crowd.round()
            crowd.cpu, rounds = 0.0, 30
            (milliseconds,) = timed(rounds, crowd.round)
            crowd.close()
        taken[number] = statistics.median(milliseconds)
        cpu[number] = 1e3 * crowd.cpu / (rounds + max(2, rounds // 15)) / number
        print(f"{number} workers: {taken[number]:.1f} ms, {cpu[number]:.2f} ms of CPU a worker")
    return [
        row("100 echo workers", "ms", taken[100], taken[3], 25, 10, of="three echo workers"),
        row("controller CPU a node and round", "ms", cpu[100], cpu[3], 1.2, 0.5,
            of="with three echo workers; floor and aim in ms"),
    ]  # fmt: skip


async def training() -> tuple[Record, float]:
    """Run a training of the default strategy over the lab; return what it has left, and seconds."""
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "fedrnn.run", "--rounds", str(ROUNDS), cwd=ROOT,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, errors = await process.communicate()
    if process.returncode:
        sys.exit(errors.decode())
    seconds = time.monotonic() - began
    return read(LATEST), seconds


def whole(inventory: Inventory, loop: Loop) -> list[Row]:
    """Measure memory on a node and the wall time of a training against its workers' compute."""
    run, seconds = loop.run(training())
    most = max(sum(node["rss_mb_max"].values()) for node in run.summary["nodes"].values())
    alone = float(loop.run(ask(inventory, inventory.nodes[0], f"{VENV_PYTHON} -c '{TORCH}'")))
    compute = sum(
        max(node["compute_seconds"] for node in event["nodes"].values()) for event in run.rounds
    )
    return [
        row("resident", "MB", most, alone, 310, 285, of="torch alone; floor and aim in MB"),
        row(f"{ROUNDS} rounds", "s", seconds, compute, 2.5, 1.3,
            of="the compute of each round's slowest worker"),
    ]  # fmt: skip


def main() -> int:
    """Measure, print the table and write the results."""
    torch.set_num_threads(1)
    inventory, loop = read_inventory(DEFAULT), Loop()
    rows = echoes(inventory, loop)
    rows.append(flower(rows[0]["ours"]))
    rows.append(exchange(inventory, loop, rows[0]["ours"]))
    rows += crowds(loop)
    rows += whole(inventory, loop)
    publish(rows, RESULTS)
    Console().print("medians; three nodes on this machine, with the controller on the same cores")
    return 0


if __name__ == "__main__":
    sys.exit(main())
