"""The lab's nodes as their operator reaches them: Ansible's programs, and plain SSH."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import asyncssh

from fedrnn.inventory import CHECKOUT, Inventory, Node


def ansible(program: str, *arguments: str) -> str:
    """Run one of Ansible's programs and return what it says; what fails ends the bench."""
    command = [Path(sys.executable).parent / program, *arguments]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{program} {arguments[0]} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


async def connect(inventory: Inventory, node: Node, **more: Any) -> asyncssh.SSHClientConnection:
    """Open a connection to a node as its operator. Raises asyncssh.Error, OSError."""
    return await asyncssh.connect(
        node.host, node.port, username="pi", config=None,
        client_keys=[str(inventory.folder / "keys" / "operator")],
        known_hosts=str(inventory.known_hosts), **more,
    )  # fmt: skip
