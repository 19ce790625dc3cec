"""A rival without a recurrent network: logistic regression on character n-grams. Controller only.

It needs all names in one place, and is what one would try first if they were.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fedrnn.learning.model import flatten, parameters_of, set_parameters
from fedrnn.learning.optimiser import AdamW, schedule

LONGEST = 4
STRENGTHS = (3e-6, 1e-5, 3e-5)
"""Weights of the squared parameters in the loss, of which the validation part chooses."""
_STEPS = 100
_RATE = 0.5


def grams(name: str) -> list[str]:
    """Return the distinct 1- to 4-grams of a name between two marks, in order."""
    marked = f"<{name}>"
    starts = range(len(marked))
    found = (
        marked[i : i + n] for n in range(1, LONGEST + 1) for i in starts[: len(marked) - n + 1]
    )
    return sorted(set(found) - {"<", ">"})


class NGrams(nn.Module):
    """A sum of one row of weights per known n-gram, scaled by the root of their number."""

    def __init__(self, names: Sequence[str], labels: int) -> None:
        """Know the n-grams of ``names``."""
        super().__init__()
        known = sorted({gram for name in names for gram in grams(name)})
        self._number = {gram: number for number, gram in enumerate(known)}
        self.weights = nn.EmbeddingBag(max(1, len(known)), labels, mode="sum")
        self.bias = nn.Parameter(torch.zeros(labels))
        nn.init.zeros_(self.weights.weight)

    def features(self, names: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
        """Return ids, where each name's begin, and their weights."""
        rows = [[self._number[g] for g in grams(name) if g in self._number] for name in names]
        ends = torch.tensor([len(row) for row in rows]).cumsum(0)
        scales = [1 / math.sqrt(len(row)) for row in rows for _ in row]
        ids = torch.tensor([number for row in rows for number in row], dtype=torch.int64)
        starts = torch.cat([torch.zeros(1, dtype=torch.int64), ends[:-1]])
        return ids, starts, torch.tensor(scales)

    def forward(self, ids: Tensor, starts: Tensor, scales: Tensor) -> Tensor:
        """Return logits [n, labels] of ``features``."""
        logits: Tensor = self.weights(ids, starts, per_sample_weights=scales) + self.bias
        return logits


def fit(names: Sequence[str], targets: Tensor, labels: int, strength: float) -> NGrams:
    """Return the regression of targets int64 [n] on names that has the least regularised loss."""
    model = NGrams(names, labels)
    features = model.features(names)
    weights = parameters_of(model)
    # Not torch.optim: what it imports cannot be imported beside Ansible.
    optimiser = AdamW(len(weights))
    optimiser.decay, optimiser.clip = 0.0, math.inf
    for step in range(_STEPS):
        loss = nn.functional.cross_entropy(model(*features), targets)
        loss = loss + strength * model.weights.weight.square().sum()
        slope = flatten(torch.autograd.grad(loss, list(model.parameters())))
        weights = optimiser.step(weights, slope, _RATE * schedule(step, _STEPS))
        set_parameters(model, weights)
    return model
