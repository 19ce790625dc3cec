"""The folder of one kind of board: its inventory, its keys, its logs, and commands over them."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL

from board.image import ROOT
from board.qemu import BoardError

NAME, ACCOUNT = "board", "pi"
VIRTUAL = ["virtual1", "virtual2"]


@dataclass
class Site:
    """The folder of one kind of board: inventory, keys, logs."""

    folder: Path

    @property
    def inventory(self) -> Path:
        """The inventory made for this run: the board and two virtual nodes."""
        return self.folder / "inventory"

    @property
    def key(self) -> Path:
        """The operator's private key, which the first boot lets in."""
        return self.inventory / "keys" / "operator"

    def prepare(self, interface: str) -> None:
        """Make the folder with an operator's key, for a board that does not exist yet.

        `interface` is what the board will call its network.
        """
        self.inventory.mkdir(parents=True, exist_ok=True)
        self.key.parent.mkdir(mode=0o700, exist_ok=True)
        if not self.key.exists():
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "operator", "-f"]
            subprocess.run([*command, str(self.key)], check=True)
        (self.inventory / "known_nodes").unlink(missing_ok=True)  # a new card, a new node
        variables = self.inventory / "group_vars"
        variables.unlink(missing_ok=True)
        variables.symlink_to(ROOT / "inventory" / "lab" / "group_vars")
        self.write_hosts({"card_interface": interface}, [])

    def write_hosts(self, board: dict[str, object], virtual: list[str]) -> None:
        """Write the inventory: the board with its variables, and virtual nodes."""
        nodes = {
            "children": {"lab": {"hosts": {name: {} for name in virtual}}},
            "hosts": {NAME: board},
        }
        lab = {"vars": {"lab_first": 100}}
        (self.inventory / "hosts.json").write_text(json.dumps({"nodes": nodes, "lab": lab}))

    def introduce(self, port: int, host_key: str, virtual: list[str]) -> None:
        """Write the inventory, and pin the board's host key."""
        self.write_hosts({"ansible_host": "127.0.0.1", "ansible_port": port}, virtual)
        pinned = self.inventory / "known_hosts"
        others = pinned.read_text().splitlines() if pinned.exists() else []
        others = [line for line in others if not line.endswith(f" {NAME}")]
        line = f"[127.0.0.1]:{port} {host_key} {NAME}"
        pinned.write_text("\n".join([*others, line]) + "\n")

    def remove(self, virtual: list[str]) -> None:
        """Remove the virtual nodes of this run; those of inventory/lab are others."""
        engine = [sys.executable, str(ROOT / "lab" / "engine.py")]
        asked = subprocess.run(engine, capture_output=True, check=False)
        if asked.returncode:
            return  # no engine, no nodes
        told = json.loads(asked.stdout)
        names = [f"{told['prefix']}-{name}" for name in virtual]
        subprocess.run([*told["podman"], "rm", "--force", "--ignore", *names], stdout=DEVNULL)

    def run(self, name: str, *command: str, **environment: str) -> str:
        """Run a command of this checkout with its output in a log. Raises BoardError."""
        log = self.folder / f"{name}.log"
        with log.open("w") as file:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env={**os.environ, **environment},
                stdin=DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                check=False,
            )
        text = log.read_text(errors="replace")
        if done.returncode:
            last = "\n".join(text.splitlines()[-25:])
            raise BoardError(
                f"`{shlex.join(command)}` failed ({done.returncode}); see {log}:\n{last}"
            )
        return text

    def playbook(self, name: str, *arguments: str) -> None:
        """Run a playbook of ours over the inventory of this run. Raises BoardError."""
        self.run(
            name, "ansible-playbook", "-i", str(self.inventory), *arguments, ANSIBLE_TIMEOUT="60"
        )

    def login(self, port: int) -> list[str]:
        """Return the command that logs in to the board, to be followed by one for its shell."""
        options = [
            *("-oBatchMode=yes", "-oStrictHostKeyChecking=yes", "-oGlobalKnownHostsFile=none"),
            f'-oUserKnownHostsFile="{self.inventory}/known_hosts"',
            *("-oIdentitiesOnly=yes", "-oConnectTimeout=60", f"-i{self.key}", f"-p{port}"),
        ]
        return ["ssh", *options, f"{ACCOUNT}@127.0.0.1"]

    def ssh(self, port: int, command: str, seconds: float = 300) -> str:
        """Run a shell command on the board. Raises BoardError."""
        try:
            done = subprocess.run(
                [*self.login(port), command], capture_output=True, text=True, timeout=seconds
            )
        except subprocess.TimeoutExpired:
            raise BoardError(f"`{command}` on the board took over {seconds:.0f} s") from None
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip())[-2000:]
            raise BoardError(f"`{command}` on the board failed ({done.returncode}): {said}")
        return done.stdout
