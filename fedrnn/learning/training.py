"""Training on a node: one gradient, or epochs of plain SGD.

``torch.optim`` is not used: importing what it needs costs a node 70 to 90 MB.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedrnn.learning.data import Batches, Examples, hashed
from fedrnn.learning.model import flatten

_CHUNK = 96  # names at once, about: their states are memory, of which a Pi has little


def seed_dropout(*numbers: int) -> None:
    """Seed torch from ``numbers``, so that dropout is the same whenever they are."""
    torch.manual_seed(hashed(*numbers))


def gradient(
    model: nn.Module,
    ids: Tensor,
    lengths: Tensor,
    targets: Tensor,
    shift: Tensor | None = None,
) -> tuple[NDArray[np.float32], float]:
    """Return the gradient [P] of the mean cross-entropy of a batch, and that loss in nats.

    ``shift`` [C] is added to the logits of each name: logit adjustment, where it is the labels'
    log frequencies times a weight (Menon et al. 2020, arXiv:2007.07314). A large batch is worked
    off in chunks of similar length, for less padding and memory: the sum is the same.
    """
    model.train()
    for value in model.parameters():
        value.grad = None
    total = 0.0
    chunks = max(1, round(len(lengths) / _CHUNK))
    for rows in torch.tensor_split(lengths.argsort(stable=True), chunks):
        logits = model(ids[rows], lengths[rows])
        shifted = logits if shift is None else logits + shift
        loss = nn.functional.cross_entropy(shifted, targets[rows], reduction="sum") / len(targets)
        loss.backward()  # type: ignore[no-untyped-call]  # as torch ships it
        total += float(loss.detach())
    parts = [v.grad if v.grad is not None else torch.zeros_like(v) for v in model.parameters()]
    return flatten(parts), total


def local_sgd(
    model: nn.Module,
    data: Examples,
    batches: Batches,
    *,
    first: int,
    steps: int,
    lr: float,
    momentum: float = 0.9,
    clip: float = 1.0,
    proximal_mu: float = 0.0,
    shift: Tensor | None = None,
) -> float:
    """Take ``steps`` steps of SGD with momentum from batch ``first`` on; return the mean loss.

    The model is changed in place. Each step's gradient is clipped to the norm ``clip``.
    ``proximal_mu`` is FedProx's weight of half the squared distance to the weights at the start
    (Li et al. 2018, arXiv:1812.06127); the loss returned is without it. ``shift`` as in
    ``gradient``.
    """
    weights = list(model.parameters())
    velocity = [torch.zeros_like(value) for value in weights]
    origin = [value.detach().clone() for value in weights]
    losses = []
    for number in range(first, first + steps):
        batch = data.at(batches.at(number))
        _, loss = gradient(model, *batch, shift)
        with torch.no_grad():
            slopes = [value.grad for value in weights if value.grad is not None]
            for slope, value, start in zip(slopes, weights, origin, strict=True):
                slope.add_(value - start, alpha=proximal_mu)
            squares = sum(float(slope.double().square().sum()) for slope in slopes)
            scale = min(1.0, clip / (math.sqrt(squares) + 1e-12))
            for slope, value, moved in zip(slopes, weights, velocity, strict=True):
                moved.mul_(momentum).add_(slope, alpha=scale)
                value.sub_(moved, alpha=lr)
        losses.append(loss)
    return float(np.mean(losses))
