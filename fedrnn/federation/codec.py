"""A vector as int8 with one scale per tensor, error feedback, and Huffman's code for the wire.

What rounding takes away from one message is added to the next (Seide et al. 2014, "1-bit
stochastic gradient descent"; Karimireddy et al. 2019, arXiv:1901.09847), so that the sum of all
messages is exact up to the last residual. Most steps are small, so that a code by frequency
(RFC 1951, without its search for repetitions) takes four to five bits for each.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_LARGEST = 31
"""Steps that a tensor's largest value is worth: 127 cost two bits a value more, for no gain."""


class Quantised(NamedTuple):
    """Values int8 [P] and scales float32 [tensors]: value times its tensor's scale."""

    values: NDArray[np.int8]
    scales: NDArray[np.float32]


def quantise(vector: NDArray[np.float32], sizes: Sequence[int]) -> Quantised:
    """Return float32 ``vector`` [P] as int8; ``sizes`` are its tensors' lengths, P in sum.

    Raises:
        ValueError: ``sizes`` do not fit, or a value is not finite.
    """
    if sum(sizes) != len(vector):
        raise ValueError(f"tensors of {sum(sizes)} values in all, but the vector has {len(vector)}")
    if not np.isfinite(vector).all():
        raise ValueError("the vector has values that are not finite: the training has diverged")
    starts = np.cumsum([0, *sizes[:-1]])
    largest = np.maximum.reduceat(np.abs(vector), starts)
    scales = np.where(largest > 0, largest / np.float32(_LARGEST), np.float32(1)).astype(np.float32)
    # A subnormal maximum would give scale 0; it counts as nothing and stays in the residual.
    scales[scales < np.finfo(np.float32).tiny] = 1
    steps = np.rint(vector / np.repeat(scales, sizes))
    return Quantised(np.clip(steps, -_LARGEST, _LARGEST).astype(np.int8), scales)


def dequantise(message: Quantised, sizes: Sequence[int]) -> NDArray[np.float32]:
    """Return the float32 vector [P] that ``message`` stands for; the same on every machine.

    Raises:
        ValueError: the message's lengths do not fit ``sizes``, or a scale is not finite.
    """
    if message.values.shape != (sum(sizes),) or message.scales.shape != (len(sizes),):
        raise ValueError(
            f"a message of {message.values.shape} values and {message.scales.shape} scales does"
            f" not fit a model of {sum(sizes)} values in {len(sizes)} tensors"
        )
    if not np.isfinite(message.scales).all():
        raise ValueError("a scale is not finite: the training has diverged")
    return message.values.astype(np.float32) * np.repeat(message.scales, sizes)


def compress(
    vector: NDArray[np.float32], residual: NDArray[np.float32], sizes: Sequence[int]
) -> tuple[Quantised, NDArray[np.float32]]:
    """Return ``vector`` plus what earlier messages still owe, quantised, and what is owed then."""
    wanted = vector + residual
    message = quantise(wanted, sizes)
    return message, wanted - dequantise(message, sizes)


def pack(values: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Return ``values`` [P] as the bytes of a zlib stream (RFC 1950), Huffman's code alone."""
    coder = zlib.compressobj(1, zlib.DEFLATED, 15, 9, zlib.Z_HUFFMAN_ONLY)
    return np.frombuffer(coder.compress(values.tobytes()) + coder.flush(), dtype=np.uint8)


def unpack(packed: NDArray[np.uint8], size: int) -> NDArray[np.int8]:
    """Undo ``pack`` for ``size`` values: however much a hostile stream would unfold to.

    Raises:
        ValueError: it is no such stream, or one of another number of values.
    """
    coder = zlib.decompressobj()
    try:
        raw = coder.decompress(packed.tobytes(), size + 1)
    except zlib.error as error:
        raise ValueError(f"a message cannot be unpacked: {error}") from None
    if len(raw) != size or not coder.eof:
        raise ValueError(f"a message does not hold the {size} values of the model")
    return np.frombuffer(raw, dtype=np.int8)
