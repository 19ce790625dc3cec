"""The embedded data: surnames of 18 languages out of faker, shared out over nodes.

Controller only (faker is not on a node), and no network: faker's lists are part of its wheel.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import importlib
import itertools
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from fedrnn.config import check_split
from fedrnn.learning.text import MAX_LENGTH, romanise

LOCALES: dict[str, tuple[str, ...]] = {
    "Armenian": ("hy_AM",),
    "Croatian": ("hr_HR",),
    "Dutch": ("nl_NL",),
    "English": ("en_GB", "en", "en_NZ"),
    "Estonian": ("et_EE",),
    "Finnish": ("fi_FI",),
    "French": ("fr_FR", "fr_CA"),
    "Georgian": ("ka_GE",),
    "German": ("de_DE", "de_AT"),
    "Greek": ("el_GR",),
    "Italian": ("it_IT",),
    "Polish": ("pl_PL",),
    "Russian": ("ru_RU",),
    "Slovak": ("sk_SK",),
    "Spanish": ("es_ES", "es_MX"),
    "Swedish": ("sv_SE",),
    "Ukrainian": ("uk_UA",),
    "Zulu": ("zu_ZA",),
}
MOST = 1200
"""Names per language at most, so that none outweighs the others by far."""

Shares = list[dict[str, list[str]]]
_NO_NAMES = ("format", "prefix", "suffix", "language", "pairs")


@functools.cache
def names() -> Mapping[str, tuple[str, ...]]:
    """Return language to its surnames, normalised and sorted: 14,277 names in 14,737 pairs."""
    result = {}
    for label, locales in LOCALES.items():
        found = {romanise(name) for locale in locales for name in _surnames(locale)}
        usable = [name for name in found if 2 <= len(name) <= MAX_LENGTH and " " not in name]
        # The order of a hash is a fair sample that needs no random generator.
        chosen = sorted(usable, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
        result[label] = tuple(sorted(chosen[:MOST]))
    return result


def _surnames(locale: str) -> Iterator[str]:
    provider = importlib.import_module(f"faker.providers.person.{locale}").Provider
    for attribute, values in vars(provider).items():
        if not isinstance(values, (list, tuple, dict)) or "last" not in attribute:
            continue
        if not any(word in attribute for word in _NO_NAMES):
            # A mapping's keys are the names, its values their frequencies.
            yield from (str(value) for value in values)


def share(split: str, nodes: int, seed: int) -> Shares:
    """Share the embedded names out over ``nodes`` nodes; the same arguments, the same shares.

    ``language`` gives every language to one node, the nodes about equal in names; ``iid`` deals
    every language out evenly; ``dirichlet:A`` deals it in proportions drawn from a symmetric
    Dirichlet distribution of concentration A; with ``dirichlet:A:K`` each node has a mixture of
    languages from such a distribution and draws K names by it, which other nodes may have, too: so
    there are enough for a thousand nodes (both in Hsu et al. 2019, arXiv:1909.06335).

    Raises:
        ValueError: the split is not known, or a node would have no name at all.
    """
    dirichlet = check_split(split)
    most = len(LOCALES) if split == "language" else 1000
    if not 1 <= nodes <= most:
        raise ValueError(f"{nodes} nodes: split {split} shares out over 1 to {most} nodes")
    random = np.random.default_rng([seed, nodes])
    if split == "language":
        shares = _by_language(nodes, random)
    elif dirichlet and dirichlet[1]:
        shares = [_drawn(random, dirichlet[0], dirichlet[1]) for _ in range(nodes)]
    else:
        shares = _by_name(nodes, random, dirichlet and dirichlet[0])
    empty = [str(number) for number, part in enumerate(shares, 1) if not part]
    if empty:
        raise ValueError(
            f"split {split} with seed {seed} leaves node {', '.join(empty)} without a name: use"
            " another seed, fewer nodes or a higher concentration"
        )
    return shares


def _by_language(nodes: int, random: np.random.Generator) -> Shares:
    shares: Shares = [{} for _ in range(nodes)]
    table = names()
    shuffled = [sorted(table)[i] for i in random.permutation(len(table))]
    # The longest first, each to the node that has least: never far from equal.
    for label in sorted(shuffled, key=lambda label: -len(table[label])):
        smallest = min(shares, key=lambda part: sum(map(len, part.values())))
        smallest[label] = list(table[label])
    return shares


def _by_name(nodes: int, random: np.random.Generator, concentration: float | None) -> Shares:
    shares: Shares = [{} for _ in range(nodes)]
    for label, members in sorted(names().items()):
        shuffled = [members[i] for i in random.permutation(len(members))]
        if concentration is None:
            pieces = [shuffled[number::nodes] for number in range(nodes)]
        else:
            parts = random.dirichlet([concentration] * nodes)
            cuts = np.rint(np.cumsum(parts)[:-1] * len(shuffled)).astype(int)
            bounds = [0, *cuts.tolist(), len(shuffled)]
            pieces = [shuffled[a:b] for a, b in itertools.pairwise(bounds)]
        for part, piece in zip(shares, pieces, strict=True):
            if piece:
                part[label] = sorted(piece)
    return shares


def _drawn(random: np.random.Generator, concentration: float, number: int) -> dict[str, list[str]]:
    """Return about ``number`` names, none twice, in proportions that favour large languages."""
    labels = sorted(names())
    sizes = np.array([len(names()[label]) for label in labels])
    mixture = random.dirichlet(concentration * len(labels) * sizes / sizes.sum())
    counts = np.minimum(random.multinomial(number, mixture), sizes)
    return {
        label: sorted(random.choice(names()[label], count, replace=False).tolist())
        for label, count in zip(labels, counts.tolist(), strict=True)
        if count
    }


def write_shares(folder: Path | str, split: str, nodes: int, seed: int) -> list[Path]:
    """Write the shares as ``<folder>/<node from 1>/<Label>.txt`` and return the nodes' folders.

    Files are the same byte for byte on every machine. A ``*.txt`` that is in the way from an
    earlier split is removed.

    Raises:
        ValueError: as ``share``.
    """
    paths = []
    for number, part in enumerate(share(split, nodes, seed), 1):
        path = Path(folder) / str(number)
        write_names(path, part)
        paths.append(path)
    return paths


def write_names(folder: Path, labels: Mapping[str, Iterable[str]]) -> None:
    """Write label to names as ``<Label>.txt``, a name a line, and remove other ``*.txt``."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.txt"):
        if old.stem not in labels:
            old.unlink()
    for label, members in labels.items():
        text = "".join(f"{name}\n" for name in sorted(members))
        (folder / f"{label}.txt").write_bytes(text.encode())


def pack(folder: Path) -> None:
    """Write the ``*.txt`` of a share to ``<folder>.tar``, the same bytes whenever and by whom."""
    with tarfile.open(f"{folder}.tar", "w") as tar:
        for path in sorted(folder.glob("*.txt")):
            entry = tarfile.TarInfo(path.name)
            entry.size, entry.mode = path.stat().st_size, 0o644
            with path.open("rb") as content:
                tar.addfile(entry, content)


def main(arguments: list[str] | None = None) -> None:
    """Write the shares from the command line, each as a folder and as one file to be sent."""
    parser = argparse.ArgumentParser(
        prog="python -m fedrnn.learning.embedded",
        description="Share the embedded names out over nodes: DIR/1/<Label>.txt and DIR/1.tar, ...",
    )
    parser.add_argument("--split", default="language", help="language, iid, dirichlet:A[:K]")
    parser.add_argument("--nodes", type=int, default=3, help="number of nodes (default 3)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the split (default 0)")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the shares")
    given = parser.parse_args(arguments)
    try:
        for folder in write_shares(given.out, given.split, given.nodes, given.seed):
            pack(folder)
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
