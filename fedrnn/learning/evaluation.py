"""How good the network is: a confusion matrix, and the figures that follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fedrnn.learning.data import Examples

_CHUNK = 128  # names at once: a Pi has little memory to spare


class Score(NamedTuple):
    """Confusion matrix int64 [C, C] (row: true label) and the summed cross-entropy in nats."""

    confusion: NDArray[np.int64]
    loss_sum: float


def evaluate(model: nn.Module, data: Examples, labels: int) -> Score:
    """Return the score of the model on ``data``; zeros when it is empty."""
    model.eval()
    confusion = np.zeros((labels, labels), dtype=np.int64)
    total = 0.0
    # Sorted by length, a chunk has next to no padding.
    order = np.argsort(data.lengths.numpy(), kind="stable")
    with torch.no_grad():
        for start in range(0, len(order), _CHUNK):
            batch = data.at(order[start : start + _CHUNK])
            logits = model(batch.ids, batch.lengths)
            total += float(nn.functional.cross_entropy(logits, batch.targets, reduction="sum"))
            np.add.at(confusion, (batch.targets.numpy(), logits.argmax(1).numpy()), 1)
    return Score(confusion, total)


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


def worst(labels: Sequence[str], confusion: NDArray[np.int64], n: int) -> list[tuple[str, float]]:
    """Return the ``n`` labels of lowest recall, the worst first."""
    scored = zip(recalls(confusion), labels, strict=True)
    pairs = sorted((float(r), name) for r, name in scored if not np.isnan(r))
    return [(name, recall) for recall, name in pairs[:n]]
