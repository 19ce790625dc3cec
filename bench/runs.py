"""One run of the learning table: nodes in this process, bytes and CPU seconds counted."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from flwr.app import Message

from fedrnn.config import RunConfig
from fedrnn.federation.server_app import Event, federate
from fedrnn.learning.data import MIN_BATCH, counts, examples
from fedrnn.learning.embedded import names, share, write_shares
from fedrnn.learning.evaluation import accuracy, evaluate, macro_recall
from fedrnn.learning.model import set_parameters
from fedrnn.transport.wire import dumps, encode_all
from tests.unit.inprocess import InProcessGrid
from tests.unit.negated import negate

_HEAD = 9  # bytes of a frame before its body


@dataclass(frozen=True)
class Task:
    """What to run: a way to share the names out, a strategy, and what it is given.

    With ``negated`` the last node sends the negative of what it has learnt, times this.
    """

    split: str
    nodes: int
    strategy: str = "gradient"
    seed: int = 0
    values: Mapping[str, Any] = field(default_factory=dict)
    negated: float = 0.0


@dataclass(frozen=True)
class Point:
    """Where a run was at one evaluation: MB per node, both ways, and CPU seconds until then."""

    round: int
    megabytes: float
    seconds: float
    accuracy: float


@dataclass(frozen=True)
class Result:
    """Accuracy and macro-recall on all test names, and the way there on the validation part, %."""

    task: Task
    accuracy: float
    macro_recall: float
    majority: float
    curve: list[Point]

    @property
    def validation(self) -> float:
        """The best accuracy on the validation part, which chose the weights."""
        return max(point.accuracy for point in self.curve)


class MeteredGrid(InProcessGrid):
    """Counts what training sends, in frames as the wire has them, and keeps no message."""

    bytes = 0

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        sent = list(messages)
        replies = super().send_and_receive(sent, timeout=timeout)
        if sent[0].metadata.message_type.startswith("train"):
            down = sum(len(part) for parts in encode_all(sent) for part in parts)
            up = sum(len(dumps(reply)) for reply in replies)
            self.bytes += down + up + _HEAD * (len(sent) + len(replies))
        self.sent.clear()
        self.replies.clear()
        return replies


class Observer:
    """Notes the curve of a run; the CPU time of evaluations does not count."""

    def __init__(self, grid: MeteredGrid) -> None:
        self.curve: list[Point] = []
        self._grid = grid
        self._seconds = 0.0
        self._since = time.process_time()

    def __call__(self, event: Event) -> None:
        if event["event"] == "round":
            self._seconds += time.process_time() - self._since
        if event["event"] == "evaluation" and event["part"] == "validation":
            moved = self._grid.bytes / len(self._grid.folders) / 1e6
            point = Point(event["round"], moved, self._seconds, 100 * event["accuracy"])
            self.curve.append(point)
        self._since = time.process_time()


def run(task: Task) -> Result:
    """Train once. The seed is that of the weights, of the parts and of the split alike.

    The test names are scored here and not on the nodes, where one with few of them withholds its
    score: so all ways are measured on the same rows.
    """
    torch.set_num_threads(1)
    data_seed = task.seed
    config = RunConfig(
        split=task.split,
        strategy=task.strategy,
        seed=task.seed,
        data_seed=data_seed,
        **task.values,
    )
    with TemporaryDirectory() as folder:
        grid = MeteredGrid(_share(folder, task))
        if task.negated:
            grid.tamper = negate(task.nodes, task.negated)
        observe = Observer(grid)
        outcome = federate(grid, config, observe)
    model = outcome.model.build()
    set_parameters(model, outcome.weights)
    test = examples(names(), outcome.labels, data_seed)["test"]
    confusion = evaluate(model, test, len(outcome.labels)).confusion
    return Result(
        task,
        100 * accuracy(confusion),
        100 * macro_recall(confusion),
        float(100 * confusion.sum(1).max() / confusion.sum()),
        observe.curve,
    )


def _share(folder: str, task: Task) -> list[Path]:
    """Write the shares by the ``seed``-th split that leaves every node enough names to train on."""
    left = task.seed
    for split_seed in range(1000):
        try:
            shares = share(task.split, task.nodes, split_seed)
        except ValueError:  # a node without a name
            continue
        least = min(sum(counts(part, task.seed)["train"].values()) for part in shares)
        if least >= MIN_BATCH:
            if left == 0:
                return write_shares(folder, task.split, task.nodes, split_seed)
            left -= 1
    raise ValueError(f"no split {task.split} over {task.nodes} nodes has enough names for each")
