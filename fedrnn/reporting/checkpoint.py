"""The checkpoint of a run: one safetensors file, with JSON in its header, and no pickle.

It is written beside, synced and renamed in, so that what a power cut, a full disk or a kill leaves
under its name is whole: the new one or the one before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from fedrnn.learning.checkpoint import put

NAME = "checkpoint.safetensors"
JOBS = "jobs.txt"
"""The names of the jobs by which a run was taken up, one a line."""
_HEAD = "run"


def write(folder: Path, arrays: Mapping[str, NDArray[Any]], values: Mapping[str, Any]) -> None:
    """Put arrays and values in the place of the folder's checkpoint.

    Raises:
        OSError: it could not be written; it names the file, and the one before is as it was.
    """
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    put(folder / NAME, save(whole, {_HEAD: json.dumps(values)}))


def read(folder: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return arrays and values of the folder's checkpoint.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged.
    """
    path = folder / NAME
    if not path.is_file():
        raise FileNotFoundError(path)
    try:
        with safe_open(path, "numpy") as file:
            values = json.loads(file.metadata()[_HEAD])
            names = file.keys()  # safetensors' handle is no mapping
            return {name: file.get_tensor(name) for name in names}, values
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the checkpoint {path} is damaged: {error}") from error


def remove(folder: Path) -> None:
    """Forget it: the run has come to its end."""
    (folder / NAME).unlink(missing_ok=True)
    (folder / JOBS).unlink(missing_ok=True)
