"""Training on a node: one gradient, or epochs of plain SGD.

``torch.optim`` is not used: importing what it needs costs a node 70 to 90 MB.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedrnn.learning.data import Batches, Examples, hashed
from fedrnn.learning.model import flatten


def seed_dropout(*numbers: int) -> None:
    """Seed torch from ``numbers``, so that dropout is the same whenever they are."""
    torch.manual_seed(hashed(*numbers))


def gradient(
    model: nn.Module, ids: Tensor, lengths: Tensor, targets: Tensor
) -> tuple[NDArray[np.float32], float]:
    """Return the gradient [P] of the mean cross-entropy of a batch, and that loss in nats."""
    model.train()
    for value in model.parameters():
        value.grad = None
    loss = nn.functional.cross_entropy(model(ids, lengths), targets)
    loss.backward()  # type: ignore[no-untyped-call]  # as torch ships it
    parts = [v.grad if v.grad is not None else torch.zeros_like(v) for v in model.parameters()]
    return flatten(parts), float(loss.detach())


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
) -> float:
    """Take ``steps`` steps of SGD with momentum from batch ``first`` on; return the mean loss.

    The model is changed in place. Each step's gradient is clipped to the norm ``clip``.
    """
    velocity = [torch.zeros_like(value) for value in model.parameters()]
    losses = []
    for number in range(first, first + steps):
        batch = data.at(batches.at(number))
        flat, loss = gradient(model, *batch)
        scale = min(1.0, clip / (float(np.sqrt(np.square(flat, dtype=np.float64).sum())) + 1e-12))
        with torch.no_grad():
            for value, moved in zip(model.parameters(), velocity, strict=True):
                assert value.grad is not None
                moved.mul_(momentum).add_(value.grad, alpha=scale)
                value.sub_(moved, alpha=lr)
        losses.append(loss)
    return float(np.mean(losses))
