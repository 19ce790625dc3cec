"""Who has which labels, and how many names: asked once, before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
from flwr.app import ConfigRecord, Message, RecordDict

from fedrnn.config import RunConfig
from fedrnn.datasite.layout import MAX_LABELS
from fedrnn.federation.strategies import FederationError
from fedrnn.federation.watch import WatchedGrid
from fedrnn.learning.data import MIN_BATCH, PARTS, Part, spelling

UNEVEN = 10.0
"""The commonest label has so many times the names of the rarest: the loss then minds the rare."""
ADJUSTMENT = 0.15
"""The weight of logit adjustment then: 4 points of macro-recall for 0.1 of accuracy."""


@dataclass(frozen=True)
class Census:
    """Counts by node id, then part, then label."""

    counts: Mapping[int, Mapping[Part, Mapping[str, int]]]

    @property
    def labels(self) -> tuple[str, ...]:
        """The ordered union of all labels."""
        return tuple(sorted({label for node in self.counts.values() for label in node["train"]}))

    @property
    def train_rows(self) -> dict[int, int]:
        """Training names by node id."""
        return {node: sum(parts["train"].values()) for node, parts in self.counts.items()}

    @property
    def totals(self) -> dict[int, dict[str, int]]:
        """Names by node id and part."""
        return {
            node: {part: sum(labels.values()) for part, labels in parts.items()}
            for node, parts in self.counts.items()
        }

    @property
    def train_names(self) -> dict[str, int]:
        """Training names by label, over all nodes."""
        return {
            label: sum(parts["train"].get(label, 0) for parts in self.counts.values())
            for label in self.labels
        }

    def logit_shift(self, weight: float | None) -> list[float]:
        """Return ``weight`` times the log of each label's share of the training names [C].

        None as weight is ``ADJUSTMENT`` where labels are ``UNEVEN``, else 0. A label without a
        training name counts as one of one name.
        """
        names = np.maximum(1, list(self.train_names.values()))
        if weight is None:
            weight = ADJUSTMENT if names.max() > UNEVEN * names.min() else 0.0
        shift: list[float] = (weight * np.log(names / names.sum()) + 0.0).tolist()
        return shift


def take_census(grid: WatchedGrid, config: RunConfig, min_nodes: int | None = None) -> Census:
    """Ask every node for its counts.

    A node that does not answer, cannot use its data or has too few names takes no part where
    ``min_nodes`` others are left.

    Raises:
        FederationError: there is such a node, and no ``min_nodes`` or not as many others; or one
            label is spelled in two ways: the message has a table of who has which; or there are
            too many.
    """
    content = RecordDict({"config": ConfigRecord({"data-seed": config.data_seed})})
    messages = [
        Message(content, message_type="query", dst_node_id=node)
        for node in sorted(grid.get_node_ids())
    ]
    result: dict[int, dict[Part, dict[str, int]]] = {}
    replies, problems = grid.ask_all(messages, timeout=config.timeout)
    for reply in replies:
        labels = cast(list[str], reply.content.config_records["config"]["labels"])
        metrics = cast(Mapping[str, list[int]], reply.content.metric_records["metrics"])
        result[reply.metadata.src_node_id] = {
            part: dict(zip(labels, metrics[part], strict=True)) for part in PARTS
        }
    problems |= {
        node: f"it has {rows} names to train on, fewer than {MIN_BATCH}: a gradient would speak of "
        "single names. Add names there, or leave the node out with --nodes"
        for node, rows in Census(result).train_rows.items()
        if rows < MIN_BATCH
    }
    census = Census({node: parts for node, parts in result.items() if node not in problems})
    if problems and (min_nodes is None or len(census.counts) < min_nodes):
        lines = [f"  {grid.name(node)}: {why}" for node, why in sorted(problems.items())]
        limit = f", and --min-nodes is {min_nodes}" if min_nodes else ""
        raise FederationError(f"not every node can take part{limit}:\n" + "\n".join(lines))
    _refuse_two_spellings(grid, census)
    if len(census.labels) > MAX_LABELS:
        raise FederationError(
            f"the nodes have {len(census.labels)} labels together, and at most {MAX_LABELS} may be"
        )
    grid.left_out = problems
    return census


def _refuse_two_spellings(grid: WatchedGrid, census: Census) -> None:
    forms: dict[str, list[str]] = {}
    for label in census.labels:
        forms.setdefault(spelling(label), []).append(label)
    lines = []
    for variants in forms.values():
        if len(variants) > 1:
            for label in variants:
                nodes = [
                    grid.name(n) for n, parts in census.counts.items() if label in parts["train"]
                ]
                lines.append(f"  {label!r:30} {', '.join(nodes)}")
    if lines:
        table = "\n".join(lines)
        raise FederationError(
            "one label is spelled in several ways; rename the files so that all nodes agree:\n"
            f"{table}"
        )
