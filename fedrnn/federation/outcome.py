"""What a run has reached: weights, scores, counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fedrnn.learning.checkpoint import ModelConfig
from fedrnn.learning.data import Part
from fedrnn.learning.evaluation import Score


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
