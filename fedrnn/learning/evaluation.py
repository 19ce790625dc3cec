"""How good the network is: counts that nodes can add up, and the figures that follow from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fedrnn.learning.data import Examples

BINS = 15
"""Bins of confidence, equally wide (Guo et al. 2017, arXiv:1706.04599)."""
_CHUNK = 128  # names at once: a Pi has little memory to spare


@dataclass(frozen=True)
class Score:
    """What is known of a model's answers; the scores of several nodes add up to that of all.

    ``confusion`` int64 [C, C] has a row per true label; ``loss_sum`` is the cross-entropy in nats;
    ``calibration`` float64 [3, BINS] has per bin of confidence the number of names, the sum of
    their confidences, and how many of them were answered right.
    """

    confusion: NDArray[np.int64]
    loss_sum: float
    calibration: NDArray[np.float64]

    @classmethod
    def nothing(cls, labels: int) -> Score:
        """Return the score of no name."""
        return cls(np.zeros((labels, labels), dtype=np.int64), 0.0, np.zeros((3, BINS)))

    @classmethod
    def total(cls, scores: Iterable[Score], labels: int) -> Score:
        """Return the sum of scores over ``labels`` labels."""
        return sum(scores, cls.nothing(labels))

    def __add__(self, other: Score) -> Score:
        return Score(
            self.confusion + other.confusion,
            self.loss_sum + other.loss_sum,
            self.calibration + other.calibration,
        )

    @property
    def examples(self) -> int:
        """The number of names."""
        return int(self.confusion.sum())

    def figures(self) -> dict[str, float]:
        """Return accuracy, macro_recall, macro_f1, calibration_error (fractions) and loss."""
        return {
            "accuracy": accuracy(self.confusion),
            "macro_recall": macro_recall(self.confusion),
            "macro_f1": macro_f1(self.confusion),
            "calibration_error": calibration_error(self.calibration),
            "loss": self.loss_sum / max(1, self.examples),
        }


def evaluate(model: nn.Module, data: Examples, labels: int) -> Score:
    """Return the score of the model on ``data``; zeros when it is empty."""
    model.eval()
    result = Score.nothing(labels)
    # Sorted by length, a chunk has next to no padding.
    order = np.argsort(data.lengths.numpy(), kind="stable")
    with torch.no_grad():
        for start in range(0, len(order), _CHUNK):
            batch = data.at(order[start : start + _CHUNK])
            result += scored(model(batch.ids, batch.lengths), batch.targets)
    return result


def scored(logits: torch.Tensor, targets: torch.Tensor) -> Score:
    """Return the score of logits [n, C] for targets int64 [n]."""
    result = Score.nothing(logits.shape[1])
    confidences, answers = (tensor.numpy() for tensor in logits.softmax(1).max(1))
    truths = targets.numpy()
    np.add.at(result.confusion, (truths, answers), 1)
    bins = np.minimum((np.nan_to_num(confidences) * BINS).astype(np.int64), BINS - 1)
    for row, values in enumerate((np.ones(len(bins)), confidences, answers == truths)):
        np.add.at(result.calibration[row], bins, values)
    loss = float(nn.functional.cross_entropy(logits, targets, reduction="sum"))
    return Score(result.confusion, loss, result.calibration)


def recalls(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return each label's recall [C], NaN where the label has no example."""
    support = confusion.sum(1)
    with np.errstate(invalid="ignore"):
        return np.where(support > 0, confusion.diagonal() / np.maximum(support, 1), np.nan)


def accuracy(confusion: NDArray[np.int64]) -> float:
    """Return the fraction of examples on the diagonal, 0 when there are none."""
    return float(confusion.trace() / max(1, confusion.sum()))


def macro_recall(confusion: NDArray[np.int64]) -> float:
    """Return the mean recall of the labels that have examples, 0 when there are none."""
    known = recalls(confusion)
    known = known[~np.isnan(known)]
    return float(known.mean()) if len(known) else 0.0


def macro_f1(confusion: NDArray[np.int64]) -> float:
    """Return the mean F1 of the labels that have examples, 0 when there are none.

    F1 is twice the right answers over the examples and the answers of a label taken together.
    """
    support, answers = confusion.sum(1), confusion.sum(0)
    known = support > 0
    if not known.any():
        return 0.0
    return float((2 * confusion.diagonal()[known] / (support + answers)[known]).mean())


def calibration_error(calibration: NDArray[np.float64]) -> float:
    """Return the expected calibration error of bins [3, BINS] as in ``Score``, 0 for no names.

    It is the mean over names of how far their bin's confidence is from its accuracy.
    """
    names, confidence, right = calibration
    return float(np.abs(confidence - right).sum() / max(1.0, names.sum()))


def worst(labels: Sequence[str], confusion: NDArray[np.int64], n: int) -> list[tuple[str, float]]:
    """Return the ``n`` labels of lowest recall, the worst first."""
    ranked = zip(recalls(confusion), labels, strict=True)
    pairs = sorted((float(r), name) for r, name in ranked if not np.isnan(r))
    return [(name, recall) for recall, name in pairs[:n]]
