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
from fedrnn.federation.catalogue import make_strategy
from fedrnn.federation.census import Census, take_census
from fedrnn.federation.strategies import FederationError, Shapes, to_arrays, to_flat
from fedrnn.federation.watch import WatchedGrid
from fedrnn.learning.checkpoint import ModelConfig, save
from fedrnn.learning.data import PARTS, Part
from fedrnn.learning.evaluation import BINS, Score
from fedrnn.learning.model import parameters_of, shapes

Event = dict[str, Any]
Observe = Callable[[Event], None]

app = ServerApp()


@dataclass
class Outcome:
    """What a run has reached. It is filled round by round, so that an interrupted run keeps it.

    ``weights`` [P] are those after round ``chosen``: of a finished run, the evaluated round that
    was best on the validation part, before that the last of ``rounds`` rounds. ``losses`` is one
    training loss per round in nats (NaN where no node reported one), ``validation`` (round,
    accuracy, macro-recall) each. ``scores`` on the test part are by node name, none when the run
    was interrupted. ``counts`` are names by node name, part and label; ``rss_mb`` is the peak of
    the worker process and ``dropped`` counts the updates that were not finite, by node name.
    """

    weights: NDArray[np.float32]
    model: ModelConfig
    counts: dict[str, Mapping[Part, Mapping[str, int]]]
    rounds: int = 0
    chosen: int = 0
    losses: list[float] = field(default_factory=list)
    validation: list[tuple[int, float, float]] = field(default_factory=list)
    scores: dict[str, Score] = field(default_factory=dict)
    logit_shift: list[float] = field(default_factory=list)
    rss_mb: dict[str, float] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    interrupted: bool = False

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels in the order of the network's outputs."""
        return self.model.labels

    @property
    def rows(self) -> dict[str, int]:
        """The number of training names by node name."""
        return {name: sum(parts["train"].values()) for name, parts in self.counts.items()}

    @property
    def score(self) -> Score | None:
        """The score of all nodes on the test part; None when the run was interrupted."""
        return Score.total(self.scores.values(), len(self.labels)) if self.scores else None

    @property
    def confusion(self) -> NDArray[np.int64] | None:
        """The confusion matrix int64 [C, C] on the test part; None when interrupted."""
        return self.score.confusion if self.score else None

    @property
    def accuracy(self) -> float | None:
        """Accuracy on the test part, a fraction; None when the run was interrupted."""
        return self.score.figures()["accuracy"] if self.score else None

    @property
    def macro_recall(self) -> float | None:
        """Mean recall over the labels of the test part, a fraction; None when interrupted."""
        return self.score.figures()["macro_recall"] if self.score else None


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
    counts = {watched.name(node): parts for node, parts in census.counts.items()}
    outcome = Outcome(parameters_of(network), model, counts)
    outcome.logit_shift = census.logit_shift(config.logit_adjustment)
    observe(_nodes_event(outcome))
    run = _Run(watched, config, observe, outcome, shapes(network))
    try:
        run.train(census)
        run.choose()
        outcome.scores = run.evaluate("test", outcome.chosen)
    except KeyboardInterrupt:
        outcome.interrupted = True
    except FederationError as error:
        error.outcome = outcome
        raise
    finally:
        outcome.rss_mb = {watched.name(node): mb for node, mb in watched.rss_mb.items()}
        outcome.dropped = {watched.name(node): n for node, n in watched.dropped.items()}
    return outcome


def _nodes_event(outcome: Outcome) -> Event:
    nodes = {
        name: {
            "rows": sum(sum(labels.values()) for labels in parts.values()),
            **{part: sum(parts[part].values()) for part in PARTS},
            "labels": sorted(parts["train"]),
        }
        for name, parts in outcome.counts.items()
    }
    return {"event": "nodes", "labels": list(outcome.labels), "nodes": nodes}


@dataclass
class _Run:
    """One run over known nodes: it keeps the outcome up to date and tells the observer."""

    grid: WatchedGrid
    config: RunConfig
    observe: Observe
    outcome: Outcome
    shapes: Shapes
    best: tuple[float, int, NDArray[np.float32]] | None = None

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

    def choose(self) -> None:
        """Go back to the weights that were best on the validation part."""
        if self.best:
            _, self.outcome.chosen, self.outcome.weights = self.best

    def evaluate(self, part: Part, round_: int) -> dict[str, Score]:
        """Return by node name the score on its names of ``part``, and tell the observer."""
        config = ConfigRecord({**self._node_config(), "part": part})
        arrays = to_arrays(self.outcome.weights, self.shapes)
        content = RecordDict({"arrays": arrays, "config": config})
        messages = [
            Message(content, message_type="evaluate", dst_node_id=node)
            for node in sorted(self.grid.get_node_ids())
        ]
        replies = self.grid.send_and_receive(messages, timeout=self.config.timeout)
        size = len(self.outcome.labels)
        scores = {
            self.grid.name(reply.metadata.src_node_id): _score(reply, size)
            for reply in replies
            if reply.has_content()
        }
        total = Score.total(scores.values(), size)
        self.observe(
            {
                "event": "evaluation",
                "part": part,
                "round": round_,
                **total.figures(),
                "examples": total.examples,
                "nodes": len(scores),
            }
        )
        return scores

    def _node_config(self) -> ConfigRecord:
        config, model = self.config, self.outcome.model
        adjusted = any(self.outcome.logit_shift)
        return ConfigRecord(
            {
                **({"logit-shift": self.outcome.logit_shift} if adjusted else {}),
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
        self.outcome.rounds = self.outcome.chosen = round_
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
        every = self.config.evaluate_every or max(1, self.config.rounds // 12)
        if round_ % every == 0 or round_ == self.config.rounds:
            scores = self.evaluate("validation", round_)
            figures = Score.total(scores.values(), len(self.outcome.labels)).figures()
            accuracy = figures["accuracy"]
            self.outcome.validation.append((round_, accuracy, figures["macro_recall"]))
            if self.best is None or accuracy >= self.best[0]:
                self.best = (accuracy, round_, self.outcome.weights)
        self._started = time.perf_counter()
        return None


def _score(reply: Message, labels: int) -> Score:
    metrics = reply.content.metric_records["metrics"]
    return Score(
        np.array(metrics["confusion"], dtype=np.int64).reshape(labels, labels),
        float(cast(float, metrics["loss-sum"])),
        np.array(metrics["calibration"], dtype=np.float64).reshape(3, BINS),
    )


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run under ``flwr run``: the run's configuration is a ``RunConfig``, ``out`` the folder."""
    values = dict(context.run_config)
    out = str(values.pop("out", "model"))
    outcome = federate(grid, RunConfig.from_dict(values))
    save(out, outcome.weights, outcome.model)
