"""What governance costs a node: our datasite against stock `syft` with its sync engine.

`python -m bench.governance` needs the lab (`ansible-playbook site.yml`) and takes five to six
minutes. Both sides do the same jobs, one after another, over the same share of the names, each
approved without a human: a hundred that count rows, and the training job up to its socket. Ours
runs on the inventory's last node through its real sshd, sandbox and all; the rival on this machine
without a network, and only thirty jobs, for it takes longer for each (`bench/stock_syft.py` lists
what else is in its favour). For as long as it takes, that node approves the counting job; its
sender's oldest ended jobs make room.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncssh
from rich.console import Console

from bench.figures import publish, row
from bench.lab import ansible
from bench.stock_syft import StockSyft
from fedrnn.cluster import ssh_links
from fedrnn.datasite.answers import unpack
from fedrnn.datasite.job_code import training_code
from fedrnn.datasite.layout import FINAL
from fedrnn.datasite.researcher import NodeClient
from fedrnn.inventory import DEFAULT, Inventory, Node, read_inventory
from fedrnn.learning.embedded import write_shares
from fedrnn.nodes import connect
from fedrnn.transport.grid import Loop

JOBS = 100
RIVAL_JOBS = 30  # a hundred would take it twenty minutes
AROUND = 5  # jobs whose median stands for the first and for the hundredth
WAIT_SECONDS = 180  # for one step of a job, before giving up
STARTS = 3  # training jobs, and imports of torch
RESULTS = Path(__file__).parent / "results" / "governance.json"
COUNT = Path(__file__).parent / "count_job"
VENV_PYTHON = "/opt/fedrnn/venv/bin/python"
IMPORT = "import time; t = time.perf_counter(); import torch; print(time.perf_counter() - t)"
WATCH = (Path(__file__).parent / "passes.py").read_text()  # for the node, as root


class Watch:
    """The passes of a node's datasite, followed by the operator while jobs come and go."""

    def __init__(self, inventory: Inventory, node: Node, loop: Loop) -> None:
        self._loop = loop
        self._process = loop.run(self._start(inventory, node))

    @staticmethod
    async def _start(inventory: Inventory, node: Node) -> asyncssh.SSHClientProcess[str]:
        connection = await connect(inventory, node)
        return await connection.create_process(f"sudo python3 -c {shlex.quote(WATCH)}")

    def end(self) -> dict[str, Any]:
        """Return `idle_mb` of now, and MB, seconds and CPU seconds of every pass."""

        async def told() -> str:
            self._process.stdin.write_eof()
            return str(await self._process.stdout.read())

        return dict(json.loads(self._loop.run(asyncio.wait_for(told(), 30))))


class Ours:
    """One node, as a researcher uses it."""

    def __init__(self, inventory: Inventory, node: Node, loop: Loop, box: Path) -> None:
        self._loop, self.node, self._box = loop, node, box
        self._link = ssh_links(inventory, (node,))[node.name][0]
        self._client = NodeClient(self._link, inventory.researcher, node.owner, box)

    def job(self, name: str, code: Path) -> float:
        """Return the seconds from submission to result."""
        started = time.perf_counter()
        self._loop.run(self._client.submit(code, name, "main.py"))
        state = self._wait(name, lambda state: state["status"] in FINAL)
        packed = self._loop.run(self._link.call(f"results {name}"))
        unpack(packed, self._box, self.node.owner, self._client.researcher, name)
        seconds = time.perf_counter() - started
        if not list(self._box.rglob(f"{name}/outputs/counts.json")):
            sys.exit(f"{self.node.name}: no result of {name}: {state}")
        return seconds

    def socket(self, name: str, code: Path) -> float:
        """Return the seconds from submission to the socket of a worker; end it."""
        started = time.perf_counter()
        self._loop.run(self._client.submit(code, name, "main.py"))
        try:
            self._wait(name, lambda state: state["worker"])
            seconds = time.perf_counter() - started
        finally:  # a worker that nobody speaks to would hold the node for minutes
            self._loop.run(self._client.cancel(name))
        self._wait(name, lambda state: state["status"] in FINAL)
        return seconds

    def _wait(self, name: str, good: Any) -> dict[str, Any]:
        until = time.monotonic() + WAIT_SECONDS
        while not good(state := self._loop.run(self._client.status(name))):
            if time.monotonic() > until or state["status"] in FINAL:
                sys.exit(f"{self.node.name}: {name} is not where it should be by now: {state}")
            time.sleep(0.05)
        return state

    def close(self) -> None:
        """Leave the node."""
        self._loop.run(self._link.close())


@contextlib.contextmanager
def approved(node: Node, *jobs: str) -> Iterator[None]:
    """Put jobs on the node's allow-list, and afterwards what the inventory says."""
    playbook = ("playbooks/cluster.yml", "--limit", node.name, "--tags", "pysyft_configure")
    ansible("ansible-playbook", *playbook, "-e", json.dumps({"pysyft_approved_jobs": jobs}))
    try:
        yield
    finally:
        ansible("ansible-playbook", *playbook)


def import_here() -> float:
    """Return the seconds that this Python takes to import torch."""
    command = [sys.executable, "-c", IMPORT]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def import_there(node: Node) -> float:
    """Return the seconds that the node's Python takes to import torch."""
    command = shlex.join([VENV_PYTHON, "-P", "-c", IMPORT])
    return float(ansible("ansible", node.name, "-b", "-a", command).split()[-1])


def memory(pid: int, field: str) -> float:
    """Return `VmRSS` or `VmHWM` of a process in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition(field + ":")[2].split()[0]) / 1024


def growth(seconds: list[float]) -> float:
    """Return how many times the first jobs the last ones take."""
    return statistics.median(seconds[-AROUND:]) / statistics.median(seconds[:AROUND])


def figures(
    resident: tuple[float, float],
    passes: list[dict[str, float]],
    seconds: list[float],
    sockets: list[float],
    imports: list[float],
) -> dict[str, float]:
    """Return the figures of one side: `resident` is MB when idle and at most, the rest seconds."""
    idle, peak = resident
    return {
        "resident when idle": idle,
        "resident while it works": peak,
        "seconds of a pass": statistics.median(took["seconds"] for took in passes),
        "CPU seconds of a pass": statistics.median(took["cpu"] for took in passes),
        "hundredth job against the first": growth(seconds),
        "submission to socket, without import of torch":
            statistics.median(sockets) - statistics.median(imports),
    }  # fmt: skip


def measure_ours(console: Console, jobs: int, training: Path) -> dict[str, float]:
    """Do the jobs on the last node."""
    inventory, loop = read_inventory(DEFAULT), Loop()
    node, stamp = inventory.nodes[-1], time.time_ns()
    console.print(f"ours: {node.name} gets the counting job on its allow-list")
    with tempfile.TemporaryDirectory() as box, approved(node, "training", str(COUNT)):
        ours, watch = Ours(inventory, node, loop, Path(box)), Watch(inventory, node, loop)
        seconds = []
        for number in range(jobs):
            seconds.append(ours.job(f"count-{stamp}-{number}", COUNT))
            tell(console, "ours", number, seconds)
        console.print(f"ours: {STARTS} training jobs up to the socket")
        sockets = [ours.socket(f"start-{stamp}-{n}", training) for n in range(STARTS)]
        imports = [import_there(node) for _ in range(STARTS)]
        ours.close()
        time.sleep(2)
        watched = watch.end()
    passes = watched["passes"]
    console.print(
        f"ours: {len(passes)} passes, the longest {max(p['seconds'] for p in passes):.2f} s"
    )
    resident = watched["idle_mb"], max(p["mb"] for p in passes)
    return figures(resident, passes, seconds, sockets, imports)


def measure_rival(console: Console, jobs: int, training: Path) -> dict[str, float]:
    """Do the same on this machine with stock syft, fewer jobs, which is in its favour."""
    with tempfile.TemporaryDirectory() as folder:
        data = write_shares(Path(folder) / "data", "language", 3, 0)[-1]
        box = Path(folder) / "syft"
        box.mkdir()
        with StockSyft(box, Path(data)) as rival:
            sockets = [rival.socket(f"start-{n}", training) for n in range(STARTS)]
            seconds, passes = [], []
            for number in range(jobs):
                took, of_pass = rival.job(f"count-{number}", COUNT)
                seconds.append(took)
                passes.append(of_pass)
                tell(console, "stock syft", number, seconds)
            time.sleep(2)
            resident = memory(rival.pid, "VmRSS"), memory(rival.pid, "VmHWM")
        imports = [import_here() for _ in range(STARTS)]
    return figures(resident, passes, seconds, sockets, imports)


def tell(console: Console, who: str, number: int, seconds: list[float]) -> None:
    """Say how far it is, now and then."""
    if number == 0 or number % 10 == 9:
        console.print(f"{who}: job {number + 1}, submission to result: {seconds[-1]:.2f} s")


UNITS = {  # unit, floor, aim
    "resident when idle": ("MB", 0, 0),
    "resident while it works": ("MB", 60, 45),
    "seconds of a pass": ("s", 1.0, 0.5),
    "CPU seconds of a pass": ("s", 1.0, 0.5),
    "hundredth job against the first": ("times", 1.5, 1.1),
    "submission to socket, without import of torch": ("s", 2.0, 1.5),
}


def main() -> int:
    """Measure, print the table and write the results."""
    parser = argparse.ArgumentParser(prog="python -m bench.governance", description=__doc__)
    parser.add_argument("--jobs", type=int, default=JOBS, help=f"counting jobs (default {JOBS})")
    jobs, console = parser.parse_args().jobs, Console()
    # Whoever ends it early gets the allow-list back, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended early"))
    with tempfile.TemporaryDirectory() as folder:
        training = training_code(Path(folder) / "training")
        ours = measure_ours(console, jobs, training)
        rival = measure_rival(console, min(jobs, RIVAL_JOBS), training)
    rows = [
        row(figure, unit, ours[figure], rival[figure], floor, aim, of="stock syft")
        for figure, (unit, floor, aim) in UNITS.items()
    ]
    publish(rows, RESULTS if jobs == JOBS else None)
    console.print(
        "ours on a node through sshd, to our disadvantage; stock syft on this machine, with the "
        f"drive in memory, and its job {RIVAL_JOBS} for the hundredth"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
