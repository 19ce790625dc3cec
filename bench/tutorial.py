"""Names per second in training on one core: ours, the classic tutorial's loop, a matmul's bound.

The tutorial ("NLP from scratch: classifying names with a character-level RNN" of PyTorch's site)
trains on one name at a time, one one-hot character at a time, and steps by hand. That loop is
written anew here, to be timed; it is given the very names that we train on.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fedrnn.config import RunConfig
from fedrnn.learning.checkpoint import ModelConfig
from fedrnn.learning.data import Batches, Examples, examples
from fedrnn.learning.embedded import names
from fedrnn.learning.model import CharRNN, parameters_of, set_parameters
from fedrnn.learning.optimiser import AdamW
from fedrnn.learning.text import ALPHABET
from fedrnn.learning.training import gradient

_HIDDEN = 128
_RATE = 0.005  # the tutorial's
_REPEATS = 7
_MATMUL = 1024  # rows and columns: large enough for the core's best


class Speed(NamedTuple):
    """Names per second, medians of runs that took turns.

    ``like`` is our loop on a network of the tutorial's kind and size (128 plain recurrent units),
    ``tutorial`` its own loop on its own; ``default`` is our loop on our default network, ``bound``
    what that would do if a core's best matrix product were all there is.
    """

    like: float
    tutorial: float
    default: float
    bound: float


class TutorialRNN(nn.Module):
    """The tutorial's cell: two linear layers on a character beside the hidden state."""

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.i2h = nn.Linear(len(ALPHABET) + _HIDDEN, _HIDDEN)
        self.i2o = nn.Linear(len(ALPHABET) + _HIDDEN, labels)
        self.softmax = nn.LogSoftmax(dim=1)

    def forward(self, character: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return log probabilities [1, labels] and the next hidden state [1, 128]."""
        combined = torch.cat((character, hidden), 1)
        return self.softmax(self.i2o(combined)), self.i2h(combined)


def one_hot(name: str) -> Tensor:
    """Return a name as [characters, 1, letters], as the tutorial does for each name anew."""
    result = torch.zeros(len(name), 1, len(ALPHABET))
    for position, character in enumerate(name):
        result[position][0][ALPHABET.index(character)] = 1
    return result


def tutorial_step(model: TutorialRNN, name: str, target: Tensor) -> float:
    """Train on one name and return the loss."""
    line = one_hot(name)
    hidden = torch.zeros(1, _HIDDEN)
    model.zero_grad()
    for position in range(line.size()[0]):
        output, hidden = model(line[position], hidden)
    loss = nn.functional.nll_loss(output, target)
    loss.backward()
    for value in model.parameters():
        if value.grad is not None:
            value.data.add_(value.grad.data, alpha=-_RATE)
    return loss.item()


def speeds() -> Speed:
    """Measure all three in turn, in CPU seconds of one thread."""
    torch.set_num_threads(1)
    table = names()
    labels = tuple(sorted(table))
    pairs = [(name, label) for label in labels for name in table[label]]
    data = examples(table, labels, 0)["train"]
    config = RunConfig()
    model = ModelConfig(labels).build()
    plain = ModelConfig(labels, cell="rnn", hidden=_HIDDEN).build()
    tutorial = TutorialRNN(len(labels))
    batches = Batches(data.lengths, config.batch, 0)
    chosen = random.Random(0)

    def like() -> float:
        return _rounds(plain, data, batches, config.lr)

    def ours() -> float:
        return _rounds(model, data, batches, config.lr)

    def theirs() -> float:
        sample = chosen.sample(pairs, 300)
        for name, label in sample:
            tutorial_step(tutorial, name, torch.tensor([labels.index(label)]))
        return len(sample)

    def bound() -> float:
        square = torch.rand(_MATMUL, _MATMUL)
        for _ in range(10):
            square @ square
        return 10 * 2 * _MATMUL**3 / flops_per_name(model, data)

    works = (like, theirs, ours, bound)
    # The first time warms up.
    measured = [[_rate(work) for work in works] for _ in range(_REPEATS + 1)][1:]
    return Speed(*(statistics.median(column) for column in zip(*measured, strict=True)))


def flops_per_name(model: CharRNN, data: Examples) -> float:
    """Return what the matrix products of training cost for a mean name, padding not counted.

    A product forward costs two operations per weight, and as much again for each of the two
    gradients backward.
    """
    recurrent = sum(value.numel() for name, value in model.named_parameters() if "weight_" in name)
    return 6 * (float(data.lengths.double().mean()) * recurrent + model.output.weight.numel())


def _rate(work: Callable[[], float]) -> float:
    """Return the names per CPU second of ``work``, which returns how many it did."""
    started = time.process_time()
    done = work()
    return done / (time.process_time() - started)


def _rounds(model: CharRNN, data: Examples, batches: Batches, lr: float) -> int:
    """Train for eight rounds as a run with one node does; return the number of names."""
    weights = parameters_of(model)
    optimiser = AdamW(len(weights))
    done = 0
    for round_ in range(1, 9):
        set_parameters(model, weights)
        index = batches.at(round_)
        slope, _ = gradient(model, *data.at(index))
        weights = optimiser.step(weights, slope, lr)
        done += len(index)
    return done


if __name__ == "__main__":
    print(speeds())
