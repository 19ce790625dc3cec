"""A trained model on disk: ``model.safetensors`` and ``config.json``. Controller only."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as save_tensors

from fedrnn.learning.model import CharRNN, set_parameters
from fedrnn.learning.text import encode

_MODEL = "model.safetensors"
_CONFIG = "config.json"


@dataclass(frozen=True)
class ModelConfig:
    """What must be known to build the network: the labels in order, and its shape."""

    labels: tuple[str, ...]
    cell: str = "bigru"
    embedding: int = 32
    hidden: int = 80
    dropout: float = 0.5

    def build(self, seed: int = 0) -> CharRNN:
        """Return a new network with parameters by ``seed``."""
        return CharRNN(
            len(self.labels), self.cell, self.embedding, self.hidden, self.dropout, seed=seed
        )


@dataclass(frozen=True)
class Checkpoint:
    """A network ready to predict."""

    model: CharRNN
    config: ModelConfig

    def predict(self, names: Sequence[str]) -> list[list[tuple[str, float]]]:
        """Return for every name all labels with their probability, the likeliest first."""
        if not names:
            return []
        self.model.eval()
        ids, lengths = (torch.from_numpy(array) for array in encode(names))
        with torch.no_grad():
            rows = self.model(ids, lengths).softmax(1).tolist()
        return [
            sorted(zip(self.config.labels, row, strict=True), key=lambda pair: -pair[1])
            for row in rows
        ]


def save(
    folder: Path | str,
    weights: NDArray[np.float32],
    config: ModelConfig,
    extra: dict[str, Any] | None = None,
) -> str:
    """Write the flat ``weights`` [P] and the config; return the SHA-256 of the model's file.

    ``extra`` is added to ``config.json`` for the reader; loading ignores it.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model = config.build()
    set_parameters(model, weights)
    put(folder / _MODEL, save_tensors(model.state_dict()))
    values = {**(extra or {}), **vars(config), "labels": list(config.labels)}
    put(folder / _CONFIG, (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode())
    return model_sha256(folder)


def put(path: Path, content: bytes) -> None:
    """Write a file beside, sync it, and rename it in: a reader meets all of it or the one before.

    Raises:
        OSError: it could not be written; it names the file, and the one before is as it was.
    """
    beside = path.with_name(f".{path.name}.part")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        # The name is not on the disk before its folder is: fsync(2).
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error


def load(folder: Path | str) -> Checkpoint:
    """Return the model saved in ``folder``.

    Raises:
        FileNotFoundError: a file is missing; the message says how to get a model.
        ValueError: a file is damaged or the two do not belong together.
    """
    folder = Path(folder)
    for name in (_MODEL, _CONFIG):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder / name} is missing: train a model first with python -m fedrnn.run"
            )
    try:
        values = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        known = {key: values[key] for key in ModelConfig.__dataclass_fields__}
        config = ModelConfig(**{**known, "labels": tuple(known["labels"])})
        model = config.build()
        model.load_state_dict(load_file(str(folder / _MODEL)))
    except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the model in {folder} is damaged: {error}") from error
    model.eval()
    return Checkpoint(model, config)


def model_sha256(folder: Path | str) -> str:
    """Return the SHA-256 of the model's file in ``folder``, in hexadecimal."""
    return hashlib.sha256((Path(folder) / _MODEL).read_bytes()).hexdigest()
