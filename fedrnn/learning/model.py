"""The recurrent network, and its parameters as one vector."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedrnn.learning.text import VOCABULARY

_CELLS: dict[str, Callable[..., nn.RNNBase]] = {
    "rnn": nn.RNN,
    "gru": nn.GRU,
    "lstm": nn.LSTM,
    "bigru": nn.GRU,
}


class CharRNN(nn.Module):
    """Embeddings, one recurrent layer, last state beside max over time, linear layer to labels.

    Each character is read beside its pair with the one before it: what a spelling is known by
    ("sz", "ij", "gh") need not be learnt by the recurrence. ``bigru`` runs a second GRU over each
    name backwards. Padding never changes the output.
    """

    def __init__(
        self,
        labels: int,
        cell: str = "bigru",
        embedding: int = 32,
        hidden: int = 80,
        dropout: float = 0.5,
        seed: int = 0,
    ) -> None:
        """Make a network for ``labels`` classes; the same ``seed`` gives the same parameters.

        A pair's vector has half the size ``embedding`` of a character's. ``dropout`` is that of
        the pooled states; the inputs have 0.4 of it.

        Raises:
            ValueError: ``cell`` is none of rnn, gru, lstm, bigru.
        """
        super().__init__()
        if cell not in _CELLS:
            raise ValueError(f"cell {cell!r} is not known: use one of {', '.join(_CELLS)}")
        both = cell == "bigru"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.embedding = nn.Embedding(VOCABULARY, embedding, padding_idx=0)
            self.pairs = nn.Embedding(VOCABULARY**2, (embedding + 1) // 2, padding_idx=0)
            width = embedding + (embedding + 1) // 2
            self.forwards = _CELLS[cell](width, hidden, batch_first=True)
            self.backwards = nn.GRU(width, hidden, batch_first=True) if cell == "bigru" else None
            self.thinning = nn.Dropout(0.4 * dropout)
            self.dropout = nn.Dropout(dropout)
            self.output = nn.Linear(2 * hidden * (2 if both else 1), labels)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Return logits [n, labels] of ids int64 [n, T] and lengths int64 [n], each 1 to T."""
        steps = int(lengths.max())
        inputs = self.thinning(self.inputs(ids[:, :steps]))
        states, _ = self.forwards(inputs)
        last = (lengths - 1)[:, None, None].expand(-1, 1, states.shape[2])
        pooled = [states.gather(1, last).squeeze(1)]
        if self.backwards is not None:
            turn = _reversal(lengths, steps)
            # Reversed within its own length, a name's padding stays at the end here too. In this
            # reversed order the last state is again the one at length - 1. It is 25% faster than
            # a packed sequence.
            behind, _ = self.backwards(_take(inputs, turn))
            pooled.append(behind.gather(1, last).squeeze(1))
            states = torch.cat([states, behind], 2)
        padding = torch.arange(steps)[None] >= lengths[:, None]
        pooled.append(states.masked_fill(padding[:, :, None], -math.inf).amax(1))
        logits: Tensor = self.output(self.dropout(torch.cat(pooled, 1)))
        return logits

    def inputs(self, ids: Tensor) -> Tensor:
        """Return the vectors [n, T, d] of ids [n, T]: each character's beside its pair's."""
        before = nn.functional.pad(ids, (1, 0))[:, :-1]
        return torch.cat([self.embedding(ids), self.pairs(before * VOCABULARY + ids)], 2)


def _reversal(lengths: Tensor, steps: int) -> Tensor:
    """Return indices [n, steps] that turn each row's first ``lengths`` positions around."""
    position = torch.arange(steps)[None]
    mirrored = lengths[:, None] - 1 - position
    return torch.where(mirrored < 0, position, mirrored)


def _take(values: Tensor, index: Tensor) -> Tensor:
    """Return values [n, T, d] reordered along time by index [n, T]."""
    return values.gather(1, index[:, :, None].expand(-1, -1, values.shape[2]))


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter by name, in the order of the flat vector."""
    return {name: tuple(value.shape) for name, value in model.named_parameters()}


def flatten(values: Iterable[Tensor]) -> NDArray[np.float32]:
    """Return tensors one after another as one float32 vector [P]: a copy."""
    flat = torch.cat([value.detach().reshape(-1) for value in values])
    return np.array(flat.numpy(), dtype=np.float32)


def parameters_of(model: nn.Module) -> NDArray[np.float32]:
    """Return the model's parameters as one float32 vector [P]."""
    return flatten(model.parameters())


def set_parameters(model: nn.Module, flat: NDArray[np.float32]) -> None:
    """Copy the vector [P] into the model's parameters.

    Raises:
        ValueError: the vector has another length than the model.
    """
    expected = sum(value.numel() for value in model.parameters())
    if flat.shape != (expected,):
        raise ValueError(f"the model has {expected} parameters, but {flat.shape} arrived")
    source = torch.from_numpy(np.array(flat, dtype=np.float32))
    start = 0
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(source[start : start + value.numel()].view_as(value))
            start += value.numel()
