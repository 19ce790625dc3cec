"""The server's optimiser: AdamW on one numpy vector, and its rate over a run. Controller only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def schedule(step: int, steps: int, warm_up: float = 0.1) -> float:
    """Return the factor of the learning rate at ``step`` of 0 to ``steps`` - 1.

    It rises linearly to 1 over ``warm_up`` of the run and falls along a cosine towards 0.
    """
    warm = max(1.0, warm_up * steps)
    if step < warm:
        return min(1.0, (step + 1) / warm)
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))


class AdamW:
    """AdamW (Loshchilov and Hutter 2017, arXiv:1711.05101) on one numpy vector [P].

    The gradient is clipped to the norm 1 first: after averaging, since clipping on the nodes would
    weigh them by what they happen to hold.
    """

    beta1 = 0.9
    beta2 = 0.999
    epsilon = 1e-8
    decay = 0.1
    clip = 1.0

    def __init__(self, size: int) -> None:
        self._mean = np.zeros(size, dtype=np.float32)
        self._square = np.zeros(size, dtype=np.float32)
        self._steps = 0

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the moments [P] and the number of steps [1]."""
        return {
            "mean": self._mean,
            "square": self._square,
            "steps": np.array([self._steps], dtype=np.int64),
        }

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what ``state`` has returned."""
        self._mean, self._square = state["mean"], state["square"]
        self._steps = int(state["steps"][0])

    def step(
        self, weights: NDArray[np.float32], gradient: NDArray[np.float32], lr: float
    ) -> NDArray[np.float32]:
        """Return the weights after one step at the rate ``lr``."""
        # Not np.linalg.norm: BLAS may sum in another order on another number of cores.
        norm = math.sqrt(float(np.square(gradient, dtype=np.float64).sum()))
        clipped = gradient * np.float32(min(1.0, self.clip / (norm + 1e-12)))
        self._steps += 1
        self._mean = self._mean * np.float32(self.beta1) + clipped * np.float32(1 - self.beta1)
        self._square = self._square * np.float32(self.beta2) + np.square(clipped) * np.float32(
            1 - self.beta2
        )
        mean = self._mean / np.float32(1 - self.beta1**self._steps)
        square = self._square / np.float32(1 - self.beta2**self._steps)
        kept = weights * np.float32(1 - lr * self.decay)
        change: NDArray[np.float32] = mean / (np.sqrt(square) + np.float32(self.epsilon))
        return kept - np.float32(lr) * change
