"""The controller's side: who has which labels, the rounds, the evaluation."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid, ServerApp
from numpy.typing import NDArray

from fedrnn.config import RunConfig
from fedrnn.federation.census import Census, take_census
from fedrnn.federation.strategies import FederationError, Shapes, make_strategy, to_arrays, to_flat
from fedrnn.federation.watch import WatchedGrid
from fedrnn.learning.checkpoint import ModelConfig, save
from fedrnn.learning.data import PARTS, Part
from fedrnn.learning.evaluation import accuracy, macro_recall
from fedrnn.learning.model import parameters_of, shapes

Event = dict[str, Any]
Observe = Callable[[Event], None]

app = ServerApp()


@dataclass
class Outcome:
    """What a run has reached. It is filled round by round, so that an interrupted run keeps it.

    ``weights`` [P] are those after ``rounds`` rounds, ``losses`` one training loss per round in
    nats (NaN where no node reported one), ``validation`` (round, accuracy, macro-recall) each;
    ``confusion`` int64 [C, C] on the test part is None when the run was interrupted. ``rows``
    counts training names, ``rss_mb`` is the peak of the worker process, both by node name.
    """

    weights: NDArray[np.float32]
    model: ModelConfig
    rows: dict[str, int]
    rounds: int = 0
    losses: list[float] = field(default_factory=list)
    validation: list[tuple[int, float, float]] = field(default_factory=list)
    confusion: NDArray[np.int64] | None = None
    rss_mb: dict[str, float] = field(default_factory=dict)
    interrupted: bool = False

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels in the order of the network's outputs."""
        return self.model.labels

    @property
    def accuracy(self) -> float | None:
        """Accuracy on the test part, a fraction; None when the run was interrupted."""
        return None if self.confusion is None else accuracy(self.confusion)

    @property
    def macro_recall(self) -> float | None:
        """Mean recall over the labels of the test part, a fraction; None when interrupted."""
        return None if self.confusion is None else macro_recall(self.confusion)


def federate(
    grid: Grid,
    config: RunConfig,
    observe: Observe = lambda event: None,
    names: Mapping[int, str] | None = None,
) -> Outcome:
    """Train over the nodes of ``grid`` and return what came of it.

    ``observe`` is called with a dictionary of plain values, ``event`` being ``nodes``, ``round`` or
    ``evaluation``. ``names`` maps node ids to the names used in events, errors and the outcome.
    Ctrl-C ends the rounds and returns what there is, with ``interrupted`` set.

    Raises:
        FederationError: no node answers, labels are spelled in two ways, or nothing came back in a
            round; once training has begun, its ``outcome`` holds what there is.
    """
    # Its tree of rounds, and a warning that we evaluate by ourselves, are not for our users.
    logging.getLogger("flwr").setLevel(logging.ERROR)
    watched = WatchedGrid(grid, names or {})
    census = take_census(watched, config)
    model = ModelConfig(census.labels, config.cell, config.embedding, config.hidden, config.dropout)
    network = model.build(config.seed)
    rows = {watched.name(node): n for node, n in census.train_rows.items()}
    outcome = Outcome(parameters_of(network), model, rows)
    observe(_nodes_event(watched, census))
    run = _Run(watched, config, observe, outcome, shapes(network), sum(rows.values()))
    try:
        run.train(census)
        outcome.confusion = run.evaluate("test", config.rounds)
    except KeyboardInterrupt:
        outcome.interrupted = True
    except FederationError as error:
        error.outcome = outcome
        raise
    finally:
        outcome.rss_mb = {watched.name(node): mb for node, mb in watched.rss_mb.items()}
    return outcome


def _nodes_event(grid: WatchedGrid, census: Census) -> Event:
    nodes = {
        grid.name(node): {
            "rows": sum(sum(labels.values()) for labels in parts.values()),
            **{part: sum(parts[part].values()) for part in PARTS},
            "labels": sorted(parts["train"]),
        }
        for node, parts in census.counts.items()
    }
    return {"event": "nodes", "labels": list(census.labels), "nodes": nodes}


@dataclass
class _Run:
    """One run over known nodes: it keeps the outcome up to date and tells the observer."""

    grid: WatchedGrid
    config: RunConfig
    observe: Observe
    outcome: Outcome
    shapes: Shapes
    rows: int

    def train(self, census: Census) -> None:
        strategy = make_strategy(self.shapes, census.train_rows, self.config, self._node_config())
        self._started = time.perf_counter()
        strategy.start(
            self.grid,
            to_arrays(self.outcome.weights, self.shapes),
            num_rounds=self.config.rounds,
            timeout=self.config.timeout,
            train_config=self._node_config(),
            evaluate_fn=self._after_round,
        )

    def evaluate(self, part: Part, round_: int) -> NDArray[np.int64]:
        """Return the nodes' summed confusion matrix of ``part``, and tell the observer."""
        config = ConfigRecord({**self._node_config(), "part": part})
        arrays = to_arrays(self.outcome.weights, self.shapes)
        content = RecordDict({"arrays": arrays, "config": config})
        messages = [
            Message(content, message_type="evaluate", dst_node_id=node)
            for node in sorted(self.grid.get_node_ids())
        ]
        replies = self.grid.send_and_receive(messages, timeout=self.config.timeout)
        size = len(self.outcome.labels)
        confusion = np.zeros((size, size), dtype=np.int64)
        loss = 0.0
        for reply in replies:
            if reply.has_content():
                metrics = reply.content.metric_records["metrics"]
                confusion += np.array(metrics["confusion"], dtype=np.int64).reshape(size, size)
                loss += float(cast(float, metrics["loss-sum"]))
        examples = int(confusion.sum())
        self.observe(
            {
                "event": "evaluation",
                "part": part,
                "round": round_,
                "accuracy": accuracy(confusion),
                "macro_recall": macro_recall(confusion),
                "loss": loss / max(1, examples),
                "examples": examples,
                "nodes": sum(reply.has_content() for reply in replies),
            }
        )
        return confusion

    def _node_config(self) -> ConfigRecord:
        config, model = self.config, self.outcome.model
        return ConfigRecord(
            {
                "labels": list(model.labels),
                "cell": model.cell,
                "embedding": model.embedding,
                "hidden": model.hidden,
                "dropout": model.dropout,
                "seed": config.seed,
                "data-seed": config.data_seed,
                "local-epochs": config.local_epochs,
                "local-batch": config.local_batch,
                "local-lr": config.local_lr,
            }
        )

    def _after_round(self, round_: int, arrays: ArrayRecord) -> MetricRecord | None:
        """Keep the round's weights; Flower calls it with 0 before the first round."""
        if round_ == 0:
            return None
        now = time.perf_counter()
        self.outcome.weights = to_flat(arrays, self.shapes)
        self.outcome.rounds = round_
        loss = self.grid.train_loss()
        self.outcome.losses.append(loss)
        self.observe(
            {
                "event": "round",
                "round": round_,
                "rounds": self.config.rounds,
                "loss": loss,
                "seconds": now - self._started,
                "nodes": self.grid.last_train(),
                "errors": self.grid.train_errors(),
            }
        )
        if round_ % self.config.evaluate_every == 0 or round_ == self.config.rounds:
            confusion = self.evaluate("validation", round_)
            figures = (round_, accuracy(confusion), macro_recall(confusion))
            self.outcome.validation.append(figures)
        self._started = time.perf_counter()
        return None


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run under ``flwr run``: the run's configuration is a ``RunConfig``, ``out`` the folder."""
    values = dict(context.run_config)
    out = str(values.pop("out", "model"))
    outcome = federate(grid, RunConfig.from_dict(values))
    save(out, outcome.weights, outcome.model)
