"""A run on the lab to which something happens."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from cluster import ROOT, Lab

RUNS = ROOT / "runs"
START_SECONDS = 300
ROUNDS = 300  # fewer teach so little that each one missed shows in the end
SMALL = ("--rounds", str(ROUNDS), "--hidden", "24", "--set", "batch=512")
NEAR = 0.01  # one point of accuracy
EASIER = {2: 0.02, 1: 0.10}
"""By how many nodes are left, what they gain on their own names at the least: the languages of the
others are no answers any more. It was 5 and 14 points in runs of which nothing was wrong."""
WORKER = "$(pgrep -G fedrnn-wire | head -n 1)"  # in a command of root's, on a node


class Disturbed:
    """`said` is what the run has printed, line by line.

    It trains a small network on small batches: what happens to it is not a matter of size.
    """

    def __init__(self, *words: str) -> None:
        before = set(RUNS.glob("2*"))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fedrnn.run", *(() if "--resume" in words else SMALL), *words],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.folder = RUNS
        if "--resume" not in words:
            try:
                self.folder = self._new_folder(before)
            except BaseException:  # a test that is given up leaves no run behind
                self.process.send_signal(signal.SIGINT)
                raise

    def _read(self) -> None:
        assert self.process.stdout
        self._lines.extend(iter(self.process.stdout.readline, ""))

    def _new_folder(self, before: set[Path]) -> Path:
        until = time.monotonic() + START_SECONDS
        while not (new := set(RUNS.glob("2*")) - before):
            assert self.process.poll() is None and time.monotonic() < until, self.said
            time.sleep(0.1)
        return new.pop()

    @property
    def said(self) -> str:
        return "".join(self._lines)

    def events(self, kind: str) -> list[dict]:
        with contextlib.suppress(OSError):
            lines = (self.folder / "metrics.jsonl").read_text().splitlines(keepends=True)
            events = [json.loads(line) for line in lines if line.endswith("\n")]
            return [event for event in events if event["event"] == kind]
        return []

    def rounds(self) -> list[dict]:
        return self.events("round")

    def until_round(self, number: int, seconds: float = 120) -> None:
        until = time.monotonic() + seconds
        while len(self.rounds()) < number:
            assert self.process.poll() is None and time.monotonic() < until, self.said
            time.sleep(0.05)

    def end(self, seconds: float = 400) -> int:
        """Wait for the end; return the exit code."""
        code = self.process.wait(seconds)
        self._reader.join(5)
        return code

    def until_said(self, text: str, seconds: float = 120) -> None:
        until = time.monotonic() + seconds
        while text not in self.said:
            assert self.process.poll() is None and time.monotonic() < until, self.said
            time.sleep(0.05)

    def accuracy(self, *nodes: str) -> float:
        """The accuracy of the model on names of some nodes, by default of all.

        Where others are lost, their names are, too: see EASIER. Of validation and test names
        together: two runs that differ in anything at all differ by most of a point on the test
        names alone.
        """
        chosen = self.summary()["model_of_round"]
        seen = [event for event in self.events("evaluation") if event["round"] == chosen]
        parts = {event["part"]: event["by_node"] for event in seen}
        told = [part[node] for part in parts.values() for node in nodes or part]
        right = sum(node["accuracy"] * node["examples"] for node in told)
        return right / sum(node["examples"] for node in told)

    def summary(self) -> dict:
        return json.loads((self.folder / "summary.json").read_text())

    def job(self) -> str:
        return json.loads((self.folder / "manifest.json").read_text())["job"]

    def without(self, node: str) -> list[int]:
        """The rounds in which a node did not take part."""
        return [event["round"] for event in self.rounds() if node not in event["nodes"]]

    def longest(self) -> float:
        """The seconds of the longest round."""
        return max(event["seconds"] for event in self.rounds())


def inside(lab: Lab, node: str, *command: str) -> str:
    """What a command prints in the network of a node, run from outside."""
    pid = lab.podman("inspect", "-f", "{{.State.Pid}}", lab.container(node)).strip()
    words = ["nsenter", "-t", pid, "-n", *command]
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout


def root(lab: Lab, node: str, command: str) -> str:
    """What a command prints that root runs on a node, without SSH: it may be what is broken."""
    return lab.podman("exec", lab.container(node), "sh", "-c", command)


@contextlib.contextmanager
def slow_rounds(lab: Lab, node: str, seconds: float) -> Iterator[None]:
    """Brake a node's worker, as boards are slower: what takes a while costs few rounds.

    It runs for so short a time between its pauses that it gets through a round, or hardly two.
    """
    turn = f"kill -STOP {WORKER}; sleep {seconds - 0.1:.1f}; kill -CONT {WORKER}; sleep 0.03"
    brake = f"rm -f /tmp/enough; until [ -e /tmp/enough ]; do {turn}; done"
    braked = threading.Thread(target=root, args=(lab, node, brake))
    braked.start()
    try:
        yield
    finally:
        root(lab, node, "touch /tmp/enough")
        braked.join()
