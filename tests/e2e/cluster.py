"""The lab under test: a copy of this clone, with nodes made by the playbooks that a user types."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

CLONE = Path(__file__).resolve().parents[2]
LABS = CLONE / ".cache" / "labs"
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
ROOT = (
    LABS / WORKER
)  # conftest.py makes it; the clone itself, its nodes and its runs are the user's
INVENTORY = ROOT / "inventory" / "lab"
LOGS = CLONE / ".cache" / "test-logs"
RESEARCHER = "controller@lab.local"
WORKERS = "pgrep -a -G fedrnn-wire"  # a job has an account of its own, without a name here


class Run:
    """A finished playbook: `rc`, `text` (all it printed) and what its recap counted per host."""

    def __init__(self, rc: int, text: str) -> None:
        self.rc, self.text = rc, text

    @property
    def changed(self) -> dict[str, int]:
        return {
            host: int(count)
            for host, count in re.findall(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)", self.text, re.M)
        }

    def tail(self) -> str:
        return "\n".join(self.text.splitlines()[-60:])


def ansible_playbook(
    *arguments: str, cwd: Path = ROOT, env: dict[str, str] | None = None, timeout: int = 900
) -> Run:
    """Runs ansible-playbook in `cwd`; its output streams to a file of .cache/test-logs."""
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{time.strftime('%H%M%S')}-{WORKER}-{Path(arguments[-1]).stem}.log"
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", **(env or {})}
    with log.open("w") as output:
        done = subprocess.run(
            [Path(sys.executable).with_name("ansible-playbook"), *arguments],
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=False,
        )
    return Run(done.returncode, log.read_text())


def must(run: Run) -> Run:
    """The run, if it succeeded; else the test fails with the end of its output."""
    if run.rc != 0:
        pytest.fail(run.tail(), pytrace=False)
    return run


def flat(text: str) -> str:
    """Undo line breaks of Ansible's output, so that a sentence can be searched for."""
    return re.sub(r"\s+", " ", text)


class Lab:
    """The lab of a clone, seen from outside: podman and plain ssh."""

    def __init__(self, root: Path = ROOT) -> None:
        self.root = root
        found = subprocess.run(
            [sys.executable, root / "lab" / "engine.py"], capture_output=True, text=True, check=True
        )
        self.engine = json.loads(found.stdout)

    def podman(self, *arguments: str) -> str:
        """What podman prints, called as the playbooks call it."""
        command = [*self.engine["podman"], *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def container(self, node: str) -> str:
        return f"{self.engine['prefix']}-{node}"

    def port(self, node: str) -> int:
        ports = yaml.safe_load((self.root / "inventory/lab/ports.yml").read_text())
        return ports["lab"]["hosts"][node]["ansible_port"]

    def ssh(self, node: str, command: str) -> subprocess.CompletedProcess[str]:
        """Runs `command` on `node` as the operator, over a connection of its own."""
        inventory = self.root / "inventory" / "lab"
        options = [
            f'-oUserKnownHostsFile="{inventory}/known_hosts"',
            *("-oBatchMode=yes", "-oStrictHostKeyChecking=yes", "-oGlobalKnownHostsFile=none"),
            *("-oIdentitiesOnly=yes", "-oConnectTimeout=10", f"-i{inventory}/keys/operator"),
            # sshd closes its port for a moment while it reads its settings anew.
            "-oConnectionAttempts=3",
            f"-p{self.port(node)}",
        ]
        return subprocess.run(
            ["ssh", *options, "pi@127.0.0.1", command],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


# A connection that an earlier test left open would not look at the host key or the node again.
NEW_CONNECTIONS = ("-e", "ansible_control_path=none")
# Trains until it is ended, and says so from round 20 on.
ENDLESS = ("--rounds", "4000", "--set", "evaluate_every=20")


def start_run(*words: str) -> subprocess.Popen[str]:
    """`fedrnn.run` of this clone, as it goes on."""
    return subprocess.Popen(
        [sys.executable, "-m", "fedrnn.run", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def read_until(process: subprocess.Popen[str], text: str, times: int = 1) -> str:
    """What a process prints until a text has come so often."""
    seen = ""
    while seen.count(text) < times:
        line = process.stdout.readline()
        assert line, seen
        seen += line
    return seen


def job_in(printed: str) -> str:
    """The name of the training job that a run has told."""
    return next(word for word in printed.split() if word.startswith("train-"))
