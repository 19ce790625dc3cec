"""Who holds what: `split.csv`, and the same as a picture, `split.svg`. Counts, never rows."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fedrnn.learning.data import Part
from fedrnn.reporting.heatmap import heatmap
from fedrnn.reporting.style import MOST_NODES, svg

Counts = Mapping[str, Mapping[Part, Mapping[str, int]]]


def save_split(folder: Path, labels: tuple[str, ...], counts: Counts) -> None:
    """Write the names per label and node, all parts together, as a table and as a picture.

    The picture has the nodes that hold most, if there are more than it has room for.
    """
    nodes = list(counts)
    table = [[_names(counts[node], label) for node in nodes] for label in labels]
    _write_table(folder / "split.csv", nodes, labels, table)
    held = np.array(table)
    most = np.sort(np.argsort(-held.sum(axis=0), kind="stable")[:MOST_NODES])
    drawn = heatmap(labels, [nodes[n] for n in most], held[:, most])
    (folder / "split.svg").write_text(svg(drawn), encoding="utf-8")


def _names(parts: Mapping[Part, Mapping[str, int]], label: str) -> int:
    return sum(members.get(label, 0) for members in parts.values())


def _write_table(
    path: Path, nodes: list[str], labels: tuple[str, ...], table: list[list[int]]
) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["label", *nodes])
        writer.writerows([label, *row] for label, row in zip(labels, table, strict=True))
