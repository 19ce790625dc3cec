"""What a run was asked to do: one frozen record, checked when it is made."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

CELLS = ("rnn", "gru", "lstm", "bigru")
STRATEGIES = ("gradient", "fedavg")
DEFAULT_ROUNDS = {"gradient": 600, "fedavg": 30}
"""Rounds after which a strategy has converged on the embedded data."""


def check_split(split: str) -> float | None:
    """Return the concentration of ``dirichlet:A``, None for the other splits.

    ``own`` is no split: it says that the nodes hold data of their own.

    Raises:
        ValueError: ``split`` is none of ``language``, ``iid`` and ``dirichlet:A`` with A > 0.
    """
    if split in ("language", "iid", "own"):
        return None
    kind, _, text = split.partition(":")
    try:
        concentration = float(text)
    except ValueError:
        concentration = math.nan
    if kind != "dirichlet" or not (0 < concentration < math.inf):
        raise ValueError(
            f"split {split!r} is not known: use language, iid, or dirichlet:A with A above 0"
            " (for example dirichlet:0.5)"
        )
    return concentration


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Everything that decides the result of a run, and the deadline of a round.

    ``batch`` is in names per round, summed over the nodes; ``timeout`` in seconds. ``lr`` is the
    peak rate of the server's AdamW; ``local_lr``, ``local_batch`` and ``local_epochs`` belong to
    the strategies that train on the node (fedavg). ``data_seed`` decides which names are test
    names and is the same for every run that one wants to compare; ``seed`` decides the rest.

    Raises:
        ValueError: a value is out of range; the sentence says which, and what is allowed.
    """

    rounds: int = 600
    strategy: str = "gradient"
    seed: int = 0
    data_seed: int = 0
    split: str = "language"
    nodes: tuple[str, ...] = ()
    cell: str = "bigru"
    embedding: int = 32
    hidden: int = 96
    dropout: float = 0.3
    batch: int = 256
    lr: float = 1e-2
    local_epochs: int = 1
    local_batch: int = 64
    local_lr: float = 0.1
    evaluate_every: int = 50
    timeout: float = 60.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "nodes", tuple(self.nodes))
        for name in (
            "rounds", "embedding", "hidden", "batch", "local_epochs", "local_batch",
            "evaluate_every",
        ):  # fmt: skip
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} is {value!r}: it must be a whole number of at least 1")
        for name in ("seed", "data_seed"):
            value = getattr(self, name)
            if not isinstance(value, int) or not 0 <= value < 2**31:
                raise ValueError(f"{name} is {value!r}: it must be a whole number of at least 0")
        for name in ("lr", "local_lr", "timeout"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ValueError(f"{name} is {value!r}: it must be above 0")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout!r}: it must be at least 0 and below 1")
        if self.strategy not in STRATEGIES:
            raise ValueError(
                f"strategy {self.strategy!r} is not known: use {' or '.join(STRATEGIES)}"
            )
        if self.cell not in CELLS:
            raise ValueError(f"cell {self.cell!r} is not known: use one of {', '.join(CELLS)}")
        check_split(self.split)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values: fit for JSON and for a Flower ``ConfigRecord``."""
        return {**dataclasses.asdict(self), "nodes": list(self.nodes)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunConfig:
        """Make a config of ``values``; what is missing keeps its default.

        Raises:
            ValueError: a key is not known, or a value is out of range.
        """
        unknown = sorted(set(values) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise ValueError(f"the run's configuration has unknown keys: {', '.join(unknown)}")
        return cls(**values)
