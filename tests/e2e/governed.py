"""One node of the lab as its researcher, its owner and root see it."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster import INVENTORY, RESEARCHER, WORKERS, Lab

import fedrnn
from fedrnn.datasite.layout import FINAL

NODE = "pi2"
OWNER = f"{NODE}@lab.local"
VAR = "/var/lib/fedrnn"
BOX = f"{VAR}/SyftBox/{OWNER}"


def key(job: str) -> str:
    return f"{RESEARCHER}:{job}"


def unit(job: str) -> str:
    return f"fedrnn-job@{key(job)}.service"


class Governed:
    """`node` is what `fedrnn.connect()` gives a researcher; the owner types on the node."""

    def __init__(self, lab: Lab, node: Any, folder: Path) -> None:
        self.lab, self.node, self.folder = lab, node, folder
        self.sent: list[str] = []

    def root(self, command: str) -> str:
        """What a command prints that root runs on the node; it must succeed."""
        done = self.lab.ssh(NODE, f"sudo sh -c {shlex.quote(command)}")
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    def attempts(self, account: str, commands: dict[str, str]) -> dict[str, tuple[int, str]]:
        """Code and both outputs, by name, of commands that an account of the node runs."""
        words = (f"sudo -u {account} sh -c {shlex.quote(c)} 2>&1; echo \"\1$?\2\""
                 for c in commands.values())  # fmt: skip
        done = self.lab.ssh(NODE, f"cd /; {'; '.join(words)}").stdout.split("\2")
        pairs = (text.partition("\1") for text in done[:-1])
        return {n: (int(code), text) for n, (text, _, code) in zip(commands, pairs, strict=True)}

    def owner(self, command: str) -> str:
        done = self.lab.ssh(NODE, f"sudo fedrnn-owner {command} 2>&1")
        return done.stdout

    def submit(self, code: str | Path, kind: str = "job") -> str:
        """Send a job, one file of Python or a folder, and wait until its owner can decide."""
        name = f"{kind}-{time.time_ns()}"
        if isinstance(code, str):
            path = self.folder / f"{kind}.py"
            path.write_text(code)
            code = path
        self.node.submit_python_job(code, name)
        self.sent.append(name)
        self.wait(name, "pending")
        return name

    def start(self, code: str | Path, kind: str = "job") -> str:
        """Send a job that its owner approves, and wait until it runs or has ended."""
        name = self.submit(code, kind)
        said = self.owner(f"approve {name}")
        assert f"{name}: " in said, said
        self.wait(name, "running", *FINAL)
        return name

    def wait(self, name: str, *statuses: str, seconds: float = 30) -> dict[str, Any]:
        until = time.monotonic() + seconds
        while (state := self.node.status(name))["status"] not in statuses:
            assert time.monotonic() < until, state
            time.sleep(0.2)
        return state

    def end(self, name: str) -> None:
        """Have the node end a job, if it has not."""
        if self.node.status(name)["status"] not in FINAL:
            self.node._loop.run(self.node.client.cancel(name))
            self.wait(name, *FINAL)

    def outputs(self, name: str) -> dict[str, str]:
        """What a job has left, as its sender gets it: text by file name."""
        job = self.node.wait(name, 90)
        return {path.name: path.read_text() for path in job.output_paths}

    def until(self, condition: Callable[[], Any], seconds: float = 20) -> Any:
        """Wait for something on the node to be so."""
        end = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < end, condition
            time.sleep(0.2)
        return found

    def is_gone(self, name: str) -> bool:
        """Tell whether no process, unit, account or folder of a job is left."""
        folders = f"/run/fedrnn/{key(name)}", f"/run/systemd/system/{unit(name)}.d"
        left = (
            f"{WORKERS}; systemctl list-units --all --plain --no-legend '{unit(name)}';"
            f" ls -d '{VAR}/jobs/{key(name)}' '{folders[0]}' '{folders[1]}' 2>/dev/null"
        )
        return self.lab.ssh(NODE, f"sudo sh -c {shlex.quote(left)}").stdout == ""


@contextmanager
def governed(lab: Lab, folder: Path) -> Iterator[Governed]:
    with fedrnn.connect(INVENTORY, folder / "SyftBox") as nodes:
        found = Governed(lab, nodes[NODE], folder)
        yield found
        for name in found.sent:
            found.end(name)
