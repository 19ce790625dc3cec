"""`python -m fedrnn.nodes`: the cluster at a glance, over one SSH session per node at once."""

from __future__ import annotations

import argparse
import asyncio
import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import asyncssh
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedrnn.inventory import DEFAULT, Inventory, InventoryError, Node, read_inventory
from fedrnn.pins import Pins
from fedrnn.reporting.glance import PROBE, Row, glance, unreachable
from fedrnn.reporting.tables import fit

SECONDS = 15.0  # a Pi that answers later than that is not healthy
NARROW = 110  # columns below which a table would be a column of letters
MOST_TOLD = 1 << 20  # characters of an answer
EXAMPLE = """\
example: python -m fedrnn.nodes --inventory inventory/home --watch
exit code: 0 all are healthy, 1 not all are, 2 asked wrongly, 130 Ctrl-C before a look
"""


async def connect(inventory: Inventory, node: Node, **more: Any) -> asyncssh.SSHClientConnection:
    """Open a connection to a node as its operator. Raises asyncssh.Error, OSError, ValueError."""
    if node.operator_key:
        more["client_keys"] = [node.operator_key]
        more["ignore_encrypted"] = True  # its agent may have it
    return await asyncssh.connect(
        node.host, node.port, username=node.operator or (),
        known_hosts=str(inventory.known_hosts), tunnel=node.jump or (), **more,
    )  # fmt: skip


async def ask(inventory: Inventory, node: Node) -> Row:
    """Return the row of one node, whatever becomes of it."""
    if not inventory.known_hosts.is_file():
        return unreachable(node.name, f"its host key is not pinned: no {inventory.known_hosts}")
    pins = Pins(inventory)
    question = f"ASKED_AT={int(time.time())}\nTHOROUGH=no\nSITES=''\n{PROBE}"
    try:
        async with (
            asyncio.timeout(SECONDS),
            await connect(inventory, node, connect_timeout=SECONDS) as connection,
        ):
            done = await connection.run(f"sh -c {shlex.quote(question)}", errors="replace")
    except TimeoutError:
        return unreachable(node.name, f"it does not answer within {SECONDS:.0f} s")
    except asyncssh.HostKeyNotVerifiable as error:
        wrong = await pins.of_key(node.name)
        return unreachable(node.name, f"it {wrong}" if wrong else str(error))
    except (OSError, ValueError, asyncssh.Error) as error:  # ValueError: a damaged key or pin
        return unreachable(node.name, str(error) or type(error).__name__)
    row = glance(node.name, str(done.stdout)[:MOST_TOLD])
    shown = row.get("identity")
    if shown is not None and (wrong := pins.of_identity(node.name, shown)):
        row["problems"].insert(0, f"it {wrong}")
    return row


async def ask_all(inventory: Inventory, nodes: tuple[Node, ...]) -> list[Row]:
    """Return the rows of all nodes, asked at once."""
    return list(await asyncio.gather(*(ask(inventory, node) for node in nodes)))


def is_healthy(row: Row) -> bool:
    """Tell whether nothing is wrong with a node, as far as it tells."""
    return not row["problems"]


HEADS = (
    "node", "board and system", "up", "temp.", "throttled", "memory free", "swap used",
    "disk free", "card", "Python, torch, PySyft", "datasite", "last job",
)  # fmt: skip


def table(rows: list[Row], encoding: str) -> Table:
    """Return a row per node."""
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for head in HEADS:
        shown.add_column(head, overflow="fold")
    for row in rows:
        name = fit(row["node"], encoding)
        name.stylize("green" if is_healthy(row) else "red")
        cells = ([fit(line, encoding) for line in cell] for cell in _cells(row))
        shown.add_row(name, *map(Text("\n").join, cells))
    return shown


def _cells(row: Row) -> list[list[str]]:
    """Return the lines of each cell behind the node's name."""
    if not row["reachable"]:
        return [["does not answer"]]
    memory, swap, disk, job = row["memory_mb"], row["swap_mb"], row["disk"], row["last_job"]
    errors = row["card_errors"]
    return [
        [row[name] for name in ("model", "os", "kernel") if row[name]] or ["-"],
        [_age(row["uptime_seconds"])],
        ["-" if row["celsius"] is None else f"{row['celsius']:.0f} °C"],
        [row["throttled"] or "-"],
        [_of(memory["free"], memory["total"]) if memory else "-"],
        [_of(swap["used"], swap["total"]) if swap else "-"],
        [f"{disk['free_mb'] / 1024:.1f} of {disk['total_mb'] / 1024:.1f} GB" if disk else "-"],
        ["-" if errors is None else f"{errors} errors" if errors else "ok"],
        [row[name] or "-" for name in ("python", "torch", "pysyft")],
        [row["datasite"] or "-"],
        [f"{job['job']}: {job['status']}" if job else "-"],
    ]


def _of(part: int | None, whole: int) -> str:
    return f"{'?' if part is None else f'{part:,}'} of {whole:,} MB"


def _age(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    for name, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} s"


def _beside() -> Table:
    """Return a table of two columns: what is folded in the second begins no line of its own."""
    shown = Table.grid(padding=(0, 1, 0, 0))
    shown.add_column(overflow="fold")
    shown.add_column(overflow="fold")
    return shown


def show(console: Console, rows: list[Row]) -> None:
    """Print the table, and below it what is wrong; in a narrow terminal a list."""
    encoding = console.encoding
    if console.width < NARROW:
        for row in rows:
            console.print(fit(row["node"], encoding))
            listed = _beside()
            for head, cell in zip(HEADS[1:], _cells(row), strict=False):
                listed.add_row(f"  {head}:", fit(", ".join(cell), encoding))
            console.print(listed)
    else:
        console.print(table(rows, encoding))
    told = _beside()
    for row in rows:
        for colour, lines in (("red", row["problems"]), ("yellow", row["notices"])):
            for line in lines:
                told.add_row(fit(f"{row['node']}:", encoding), fit(line, encoding), style=colour)
    console.print(told)
    well = sum(map(is_healthy, rows))
    console.print(f"{well} of {len(rows)} nodes are healthy")


def main(arguments: list[str] | None = None) -> int:
    """Print the nodes; return 0 if all are healthy, 1 if not, 2 asked wrongly, 130 Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m fedrnn.nodes",
        description="The cluster at a glance: every node, asked over SSH as its operator.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--inventory", type=Path, default=DEFAULT, help="the nodes (default: inventory/lab)"
    )
    parser.add_argument("--nodes", default="", help="ask these only: pi1,pi2")
    parser.add_argument(
        "--json", action="store_true", help="one JSON document; one a line with --watch"
    )
    parser.add_argument(
        "--watch", type=float, nargs="?", const=5.0, metavar="SECONDS",
        help="ask again every so many seconds (5) until Ctrl-C",
    )  # fmt: skip
    asked = parser.parse_args(arguments)
    try:
        inventory = read_inventory(asked.inventory)
        nodes = inventory.choose([name for name in asked.nodes.split(",") if name])
    except InventoryError as error:
        print(error, file=sys.stderr)
        return 2
    console = Console(highlight=False)
    rows: list[Row] = []
    try:
        while True:
            rows = asyncio.run(ask_all(inventory, nodes))
            if asked.watch is not None and console.is_terminal and not asked.json:
                console.clear()
            if asked.json:
                told = {"healthy": all(map(is_healthy, rows)), "nodes": rows}
                print(json.dumps(told, indent=1 if asked.watch is None else None), flush=True)
            else:
                show(console, rows)
            if asked.watch is None:
                break
            time.sleep(max(0.5, asked.watch))
    except KeyboardInterrupt:
        print(file=sys.stderr)
        if not rows:
            return 130
    return 0 if all(map(is_healthy, rows)) else 1


if __name__ == "__main__":
    sys.exit(main())
