"""The trained model as a page can use it: weights, alphabet, and how scripts are romanised."""

from __future__ import annotations

import base64
import re
from typing import Any

import numpy as np
from anyascii import anyascii

from fedrnn.learning.text import ALPHABET, MAX_LENGTH
from fedrnn.reporting.record import Record

SCRIPTS = (
    (0x00A0, 0x06FF),  # Latin, Greek, Cyrillic, Armenian, Hebrew, Arabic
    (0x0900, 0x097F),  # Devanagari
    (0x10A0, 0x10FF),  # Georgian
    (0x1C80, 0x1CBF),  # Georgian capitals
    (0x1E00, 0x206F),  # Latin and Greek with marks, punctuation
    (0x3040, 0x30FF),  # Japanese syllables
    (0xFF00, 0xFF5E),  # Latin as wide as those
)
"""The code points that the page can read. All of Unicode would be half a megabyte."""


def page_model(record: Record) -> dict[str, Any] | None:
    """Return what classify.js asks for, plain values; None where the run has no model."""
    weights, config = record.weights, record.config
    if not weights or not {"labels", "cell", "hidden", "embedding"} <= config.keys():
        return None
    names = sorted(weights)
    flat = np.concatenate([weights[name].astype("<f4").reshape(-1) for name in names])
    return {
        "labels": record.labels,
        "cell": config["cell"],
        "hidden": config["hidden"],
        "alphabet": ALPHABET,
        "longest": MAX_LENGTH,
        "shapes": [[name, list(weights[name].shape)] for name in names],
        "weights": base64.b64encode(flat.tobytes()).decode(),
        "scripts": [[first, _romanised(first, last)] for first, last in SCRIPTS],
    }


def _romanised(first: int, last: int) -> str:
    """Return how each code point of a range is written in the alphabet, with | between them."""
    texts = (anyascii(chr(point)).lower() for point in range(first, last + 1))
    return "|".join(re.sub(r"[^a-z' -]", "", text) for text in texts)
