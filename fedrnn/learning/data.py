"""A node's own names: read, split into parts, cut into batches."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedrnn.learning.text import encode, normalise

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = get_args(Part)
MIN_BATCH = 16
"""Names behind the smallest batch: a gradient of two or three names would tell too much of them."""
_BUCKET = 16  # batches that are sorted by length together: less padding, still shuffled


class DataError(ValueError):
    """The data folder cannot be used; the message names the file and the remedy, never a row."""


class Examples(NamedTuple):
    """Encoded names: ids int64 [n, T], lengths int64 [n], targets int64 [n]."""

    ids: Tensor
    lengths: Tensor
    targets: Tensor

    def at(self, index: NDArray[np.int64]) -> Examples:
        """Return the rows of ``index``, without the columns that none of them needs."""
        rows = torch.from_numpy(index)
        lengths = self.lengths[rows]
        steps = int(lengths.max()) if len(rows) else 1
        return Examples(self.ids[rows, :steps], lengths, self.targets[rows])


def hashed(*numbers: int) -> int:
    """Return a seed of 63 bits that depends on all ``numbers``."""
    digest = hashlib.sha256(repr(numbers).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def spelling(label: str) -> str:
    """Return the key under which two spellings of one label meet (case, spaces, Unicode form)."""
    return " ".join(unicodedata.normalize("NFKC", label).casefold().replace("_", " ").split())


def read_folder(folder: Path | str) -> dict[str, list[str]]:
    """Return label to its names, normalised, each once, sorted, from files ``<Label>.txt``.

    A line that has no letter is left out. Hidden files and other suffixes are ignored.

    Raises:
        DataError: no such folder, no file, a file without a name or not in UTF-8, or two files
            whose labels differ only in spelling.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"data folder {folder} does not exist: create it with one <Label>.txt each")
    files = sorted(p for p in folder.glob("*.txt") if not p.name.startswith("."))
    if not files:
        raise DataError(
            f"data folder {folder} is empty: put a <Label>.txt per label in it, a name a line"
        )
    labels: dict[str, list[str]] = {}
    seen: dict[str, str] = {}
    for path in files:
        other = seen.setdefault(spelling(path.stem), path.name)
        if other != path.name:
            raise DataError(
                f"{folder}: {other} and {path.name} are two spellings of one label: merge them"
            )
        labels[path.stem] = _read_names(path)
    return labels


def _read_names(path: Path) -> list[str]:
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        # Not chained: the original carries the file's bytes, which are private.
        raise DataError(
            f"{path} is not UTF-8 in line {line}: convert it, for example with iconv"
        ) from None
    names = sorted({name for line in text.splitlines() if (name := normalise(line))})
    if not names:
        raise DataError(f"{path} has no name in it: add some, one a line, or remove the file")
    return names


def part(name: str, seed: int) -> Part:
    """Return the part of a normalised name: 80% train, 10% validation, 10% test.

    It depends on the name and the seed alone, so that every node puts a name into the same part
    without a word between them.
    """
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    draw = int.from_bytes(digest[:8], "big") % 10
    return "test" if draw == 0 else "validation" if draw == 1 else "train"


def counts(names: Mapping[str, Sequence[str]], seed: int) -> dict[Part, dict[str, int]]:
    """Return part to label to number of names."""
    result: dict[Part, dict[str, int]] = {p: dict.fromkeys(names, 0) for p in PARTS}
    for label, members in names.items():
        for name in members:
            result[part(name, seed)][label] += 1
    return result


def by_part(
    names: Mapping[str, Sequence[str]], labels: Sequence[str], seed: int
) -> dict[Part, tuple[list[str], list[int]]]:
    """Return every part's names and their targets: their labels' positions in ``labels``."""
    result: dict[Part, tuple[list[str], list[int]]] = {p: ([], []) for p in PARTS}
    for label in sorted(names):
        for name in names[label]:
            texts, targets = result[part(name, seed)]
            texts.append(name)
            targets.append(labels.index(label))
    return result


def examples(
    names: Mapping[str, Sequence[str]], labels: Sequence[str], seed: int
) -> dict[Part, Examples]:
    """Return every part's examples; a target is its label's position in ``labels``.

    Raises:
        DataError: a label of ``names`` is not in ``labels``.
    """
    missing = sorted(set(names) - set(labels))
    if missing:
        raise DataError(f"labels {', '.join(missing)} are not in this run: start the run again")
    result: dict[Part, Examples] = {}
    for key, (texts, targets) in by_part(names, labels, seed).items():
        ids, lengths = encode(texts)
        result[key] = Examples(
            torch.from_numpy(ids),
            torch.from_numpy(lengths),
            torch.tensor(targets, dtype=torch.int64),
        )
    return result


class Batches:
    """Shuffled batches of names of similar length; every name once in an epoch.

    Batch r is a function of the seed and r alone: a node that missed rounds, or a run that was
    taken up again, sees the batches that it would have seen.
    """

    def __init__(self, lengths: Tensor, size: int, seed: int) -> None:
        """Prepare batches of about ``size`` names, never fewer than ``MIN_BATCH``.

        Raises:
            DataError: there are fewer than ``MIN_BATCH`` names.
        """
        rows = len(lengths)
        if rows < MIN_BATCH:
            raise DataError(
                f"the training part has {rows} names, fewer than {MIN_BATCH}: a gradient would"
                " speak of single names. Add names, or leave this node out with --nodes"
            )
        self._lengths = lengths.numpy()
        self._seed = seed
        self.per_epoch = max(1, min(round(rows / size), rows // MIN_BATCH))
        self._epoch: tuple[int, list[NDArray[np.int64]]] = (-1, [])

    def at(self, number: int) -> NDArray[np.int64]:
        """Return the row numbers of batch ``number``, counted from 1 over all epochs."""
        epoch, position = divmod(number - 1, self.per_epoch)
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self._shuffle(epoch))
        return self._epoch[1][position]

    def _shuffle(self, epoch: int) -> list[NDArray[np.int64]]:
        # torch's generator: numpy's costs a node another 5 MB of memory.
        random = torch.Generator().manual_seed(hashed(self._seed, epoch))
        shuffled = torch.randperm(len(self._lengths), generator=random).numpy()
        chunks = np.array_split(shuffled, self.per_epoch)
        batches: list[NDArray[np.int64]] = []
        for start in range(0, self.per_epoch, _BUCKET):
            group = chunks[start : start + _BUCKET]
            rows = np.concatenate(group)
            rows = rows[np.argsort(self._lengths[rows], kind="stable")]
            batches += np.split(rows, np.cumsum([len(chunk) for chunk in group])[:-1])
        return [batches[i] for i in torch.randperm(self.per_epoch, generator=random).tolist()]
