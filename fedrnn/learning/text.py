"""From any text to the network's alphabet."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import numpy as np
from anyascii import anyascii
from numpy.typing import NDArray

ALPHABET = "abcdefghijklmnopqrstuvwxyz'- "
VOCABULARY = len(ALPHABET) + 1
"""Number of ids: 0 is padding, ``ALPHABET[i]`` is ``i + 1``."""
MAX_LENGTH = 20

_IDS = {character: number for number, character in enumerate(ALPHABET, 1)}
_OUTSIDE = re.compile(r"[^a-z' -]")


def romanise(text: str) -> str:
    """Return ``text`` in ``ALPHABET``, of any length; empty when no letter is left.

    Every script is romanised by anyascii. Symbols and control characters (an emoji, a lone
    surrogate) are dropped first, since anyascii would spell them out as English words.
    """
    # A slice first, so that a text of a gigabyte costs no more than a name.
    spaced = " ".join(text[: 50 * MAX_LENGTH].split())
    letters = "".join(c for c in spaced if unicodedata.category(c)[0] not in "SC")
    ascii_letters = _OUTSIDE.sub("", anyascii(letters).lower())
    return " ".join(ascii_letters.split()).strip(" '-")


def normalise(text: str) -> str:
    """Return ``text`` romanised and cut to ``MAX_LENGTH`` characters: what the network sees."""
    return romanise(text)[:MAX_LENGTH].rstrip(" '-")


def encode(names: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return ids [n, T], padded with 0 at the end, and lengths [n], with T the longest of them.

    Names are normalised. One that has no letter becomes a single padding id of length 1, so that
    every row has a last state.
    """
    rows = [[_IDS[character] for character in normalise(name)] or [0] for name in names]
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    ids = np.zeros((len(rows), int(lengths.max(initial=1))), dtype=np.int64)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = row
    return ids, lengths
