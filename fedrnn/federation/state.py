"""A run after a round, as a checkpoint keeps it, and a strategy that goes on from there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from numpy.typing import NDArray

from fedrnn.federation.strategies import FederationError
from fedrnn.learning.data import Part

Arrays = dict[str, NDArray[Any]]
Counts = Mapping[str, Mapping[Part, Mapping[str, int]]]


@dataclass(frozen=True)
class Best:
    """The evaluated round that was best on the validation names of ``nodes``: its weights [P].

    What other nodes say of another round is no measure for it: with those whose names are hard to
    tell apart gone for a while, any round would look better than all later ones.
    """

    accuracy: float
    round: int
    weights: NDArray[np.float32]
    nodes: tuple[str, ...]

    def or_better(self, other: Best) -> Best:
        """Return the later round ``other`` unless it is worse."""
        worse = other.nodes == self.nodes and other.accuracy < self.accuracy
        return self if worse else other


@dataclass(frozen=True)
class RunState:
    """All that decides the rounds after round ``round``, and what the figures at the end need.

    Of what is random nothing must be kept: batches and dropout follow from the seed and the number
    of the round. Nodes keep nothing either: before a checkpoint they send what rounding took.
    ``weights`` are by parameter name in the strategy's own type, ``strategy`` is its state,
    ``best`` the evaluated round that was best on the validation part, and the rest as in
    ``Outcome``.
    """

    round: int
    config: Mapping[str, Any]
    weights: Arrays
    strategy: Arrays
    counts: Counts
    best: Best | None
    losses: list[float]
    validation: list[tuple[int, float, float]]
    dropped: dict[str, int]

    def pack(self) -> tuple[Arrays, dict[str, Any]]:
        """Return the arrays by name, and the rest as values that JSON knows."""
        arrays = {f"weights/{name}": value for name, value in self.weights.items()}
        arrays |= {f"strategy/{name}": value for name, value in self.strategy.items()}
        values = {
            "round": self.round,
            "config": dict(self.config),
            "parameters": list(self.weights),  # safetensors sorts, strategies go by the order
            "counts": self.counts,
            "best": None,
            "losses": self.losses,
            "validation": self.validation,
            "dropped": self.dropped,
        }
        if self.best:
            arrays["best"] = self.best.weights
            values["best"] = [self.best.accuracy, self.best.round, list(self.best.nodes)]
        return arrays, values

    @classmethod
    def unpack(cls, arrays: Arrays, values: Mapping[str, Any]) -> RunState:
        """Undo ``pack``. Raises KeyError, TypeError or ValueError for what is none."""
        best = values["best"]
        return cls(
            round=values["round"],
            config=values["config"],
            weights={name: arrays[f"weights/{name}"] for name in values["parameters"]},
            strategy=_below("strategy/", arrays),
            counts=values["counts"],
            best=Best(best[0], best[1], arrays["best"], tuple(best[2])) if best else None,
            losses=values["losses"],
            validation=[(number, a, r) for number, a, r in values["validation"]],
            dropped=values["dropped"],
        )

    @property
    def arrays(self) -> ArrayRecord:
        """The weights as a strategy takes them."""
        return ArrayRecord({name: Array(value) for name, value in self.weights.items()})

    def check(self, counts: Counts) -> None:
        """Refuse other data than the run began with; raises FederationError, which names it."""
        lines = []
        for node in sorted(self.counts.keys() | counts.keys()):
            before, now = self.counts.get(node), counts.get(node)
            if before is None:
                lines.append(f"  {node} did not take part before")
            elif now is None:
                lines.append(f"  {node} took part before, and is not here now")
            elif before != now:
                lines.append(f"  {node} had {_told(before)}, and has {_told(now)} now")
        if lines:
            raise FederationError(
                f"the run cannot be taken up after round {self.round}, since the data is not what "
                "it began with:\n" + "\n".join(lines) + "\nput it back, or start a new run"
            )


def _below(prefix: str, arrays: Arrays) -> Arrays:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def _told(parts: Mapping[Part, Mapping[str, int]]) -> str:
    totals = ", ".join(f"{sum(labels.values())} {part}" for part, labels in parts.items())
    return f"{totals} names of {', '.join(sorted(parts['train']))}"


class Onward(Strategy):
    """A strategy that has ``done`` rounds behind it: Flower's ``start`` counts from one again."""

    def __init__(self, strategy: Strategy, done: int) -> None:
        """Wrap ``strategy``, whose state is that after ``done`` rounds."""
        self._strategy, self._done = strategy, done

    def summary(self) -> None:
        """Pass on."""
        self._strategy.summary()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Pass on with the true number."""
        return self._strategy.configure_train(server_round + self._done, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Pass on with the true number."""
        return self._strategy.aggregate_train(server_round + self._done, replies)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Pass on with the true number."""
        return self._strategy.configure_evaluate(server_round + self._done, arrays, config, grid)

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Pass on with the true number."""
        return self._strategy.aggregate_evaluate(server_round + self._done, replies)
