"""The controller's side: who has which labels, the rounds, the evaluation."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.app.exception import AppExitException
from flwr.serverapp import Grid
from numpy.typing import NDArray

from fedrnn.config import RunConfig
from fedrnn.federation.catalogue import make_strategy, restore, state_of
from fedrnn.federation.census import Census, take_census
from fedrnn.federation.health import FIGURES
from fedrnn.federation.outcome import Outcome
from fedrnn.federation.state import Best, Onward, RunState
from fedrnn.federation.strategies import FederationError, Shapes, to_arrays, to_flat
from fedrnn.federation.watch import WatchedGrid
from fedrnn.learning.checkpoint import ModelConfig
from fedrnn.learning.data import PARTS, Part
from fedrnn.learning.evaluation import BINS, Score
from fedrnn.learning.model import parameters_of, shapes

Event = dict[str, Any]
Observe = Callable[[Event], None]
Keep = Callable[[RunState, Outcome], None]


def federate(
    grid: Grid,
    config: RunConfig,
    observe: Observe = lambda event: None,
    names: Mapping[int, str] | None = None,
    keep: Keep | None = None,
    former: RunState | None = None,
    min_nodes: int | None = None,
) -> Outcome:
    """Train over the nodes of ``grid`` and return what came of it.

    ``observe`` is called with a dictionary of plain values, ``event`` being ``nodes``, ``round`` or
    ``evaluation``; a round of a sample names those that were ``drawn``. ``names`` maps
    node ids to the names used in events, errors and the outcome.
    Ctrl-C ends the rounds and returns what there is, with ``interrupted`` set. ``keep`` is called
    after each round that ``config`` calls a checkpoint; a run with the same config, data and nodes
    that is given such a ``former`` state goes on from it to the same weights, bit for bit. It ends
    where fewer than ``min_nodes`` can take part; without one, all must be able to at the start.

    Raises:
        FederationError: no node answers, labels are spelled in two ways, nothing came back in a
            round, or the data is not that of ``former``; once training has begun, its ``outcome``
            holds what there is.
    """
    # Its tree of rounds, and a warning that we evaluate by ourselves, are not for our users.
    logging.getLogger("flwr").setLevel(logging.ERROR)
    watched = WatchedGrid(grid, names or {}, min_nodes or 1)
    census = take_census(watched, config, min_nodes)
    watched.counts = census.totals
    model = ModelConfig(census.labels, config.cell, config.embedding, config.hidden, config.dropout)
    network = model.build(config.seed)
    counts = {watched.name(node): parts for node, parts in census.counts.items()}
    outcome = Outcome(parameters_of(network), model, counts)
    outcome.logit_shift = census.logit_shift(config.logit_adjustment)
    run = _Run(watched, config, observe, outcome, shapes(network), keep)
    if former:
        former.check(counts)
        run.take_up(former)
    else:
        observe(_nodes_event(outcome))
    try:
        run.train(census, former)
        run.choose()
        outcome.scores = run.evaluate("test", outcome.chosen)
    except KeyboardInterrupt:
        outcome.interrupted = True
    except (FederationError, AppExitException) as problem:  # the latter is Flower's own
        error = FederationError(str(problem))
        error.outcome = outcome
        raise error from problem
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
            "names": {
                label: sum(parts[part].get(label, 0) for part in PARTS) for label in parts["train"]
            },
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
    keep: Keep | None = None
    best: Best | None = None

    def take_up(self, former: RunState) -> None:
        """Take over what a run had reached."""
        outcome, self.best = self.outcome, former.best
        outcome.weights = to_flat(former.arrays, self.shapes)
        outcome.rounds = outcome.chosen = former.round
        outcome.losses, outcome.validation = list(former.losses), list(former.validation)
        for node in self.grid.names:
            self.grid.dropped[node] = former.dropped.get(self.grid.name(node), 0)

    def train(self, census: Census, former: RunState | None = None) -> None:
        """Do the rounds, or those after ``former``."""
        name = self.config.strategy
        strategy = make_strategy(
            self.shapes, census.train_rows, self.config, self._node_config(), self.grid.drop
        )
        arrays = to_arrays(self.outcome.weights, self.shapes)
        onward = strategy
        if former:
            restore(name, strategy, former.strategy)
            arrays, onward = former.arrays, Onward(strategy, former.round)
        done = self.outcome.rounds

        def after_round(number: int, arrays: ArrayRecord) -> None:
            if number > 0:  # Flower calls it before the first round, too
                self._after_round(done + number, arrays)
                if self.keep and self.config.is_checkpoint(done + number):
                    self.keep(self._state(arrays, state_of(name, strategy)), self.outcome)
            self.grid.draw(self.config, done + number + 1)
            self._started = time.perf_counter()

        self._started = time.perf_counter()
        onward.start(
            self.grid,
            arrays,
            num_rounds=self.config.rounds - done,
            timeout=self.config.timeout,
            train_config=self._node_config(),
            evaluate_fn=after_round,
        )

    def _state(self, arrays: ArrayRecord, strategy: dict[str, NDArray[Any]]) -> RunState:
        outcome = self.outcome
        return RunState(
            outcome.rounds,
            self.config.to_dict(),
            {name: array.numpy() for name, array in arrays.items()},
            strategy,
            outcome.counts,
            self.best,
            outcome.losses,
            outcome.validation,
            {self.grid.name(node): count for node, count in self.grid.dropped.items()},
        )

    def choose(self) -> None:
        """Go back to the weights that were best on the validation part."""
        if self.best:
            self.outcome.chosen, self.outcome.weights = self.best.round, self.best.weights

    def evaluate(self, part: Part, round_: int) -> dict[str, Score]:
        """Return by node name the score on its names of ``part``, and tell the observer."""
        config = ConfigRecord({**self._node_config(), "part": part})
        arrays = to_arrays(self.outcome.weights, self.shapes)
        content = RecordDict({"arrays": arrays, "config": config})
        messages = [
            Message(content, message_type="evaluate", dst_node_id=node)
            for node in (self.grid.present() if part == "test" else self.grid.ready())
        ]
        replies = self.grid.send_and_receive(messages, timeout=self.config.timeout)
        size = len(self.outcome.labels)
        scores = {
            self.grid.name(reply.metadata.src_node_id): _score(reply, size)
            for reply in replies
            if reply.has_content()
        }
        total = Score.total(scores.values(), size)
        health = {self.grid.name(r.metadata.src_node_id): _health(r) for r in replies}
        self.observe(
            {
                "event": "evaluation",
                "part": part,
                "round": round_,
                **total.figures(),
                "examples": total.examples,
                "nodes": len(scores),
                "by_node": {
                    name: {**_plain(score), **health[name]} for name, score in scores.items()
                },
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

    def _after_round(self, round_: int, arrays: ArrayRecord) -> None:
        """Take over the round's weights, tell of it, and evaluate where it is time to."""
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
                **({"drawn": self.grid.drawn} if self.config.sample < 1 else {}),
            }
        )
        if round_ % self.config.evaluation_rounds == 0 or round_ == self.config.rounds:
            scores = self.evaluate("validation", round_)
            figures = Score.total(scores.values(), len(self.outcome.labels)).figures()
            accuracy = figures["accuracy"]
            self.outcome.validation.append((round_, accuracy, figures["macro_recall"]))
            found = Best(accuracy, round_, self.outcome.weights, tuple(sorted(scores)))
            self.best = self.best.or_better(found) if self.best else found


def _score(reply: Message, labels: int) -> Score:
    metrics = reply.content.metric_records["metrics"]
    return Score(
        np.array(metrics["confusion"], dtype=np.int64).reshape(labels, labels),
        float(cast(float, metrics["loss-sum"])),
        np.array(metrics["calibration"], dtype=np.float64).reshape(3, BINS),
    )


def _plain(score: Score) -> dict[str, float]:
    figures = score.figures()
    return {"accuracy": figures["accuracy"], "loss": figures["loss"], "examples": score.examples}


def _health(reply: Message) -> dict[str, float]:
    """Return what a node tells of its board, without what is no number."""
    metrics = reply.content.metric_records["metrics"] if reply.has_content() else {}
    told = ((name, metrics.get(name)) for name in FIGURES)
    return {
        name.replace("-", "_"): float(value)
        for name, value in told
        if isinstance(value, int | float) and math.isfinite(value)
    }
