"""A Flower Grid that notes what passes through it, and lets neither silence nor NaN pass."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, cast

import numpy as np
from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from fedrnn.federation.strategies import FederationError


class WatchedGrid(Grid):
    """Passes everything on to ``grid``, whatever the strategy, and keeps the nodes' metrics.

    Flower's strategies go on with the old model when no node replied; here that is an error. They
    also average what is not a number; here such an update is dropped, told and counted.
    """

    def __init__(self, grid: Grid, names: Mapping[int, str]) -> None:
        """Wrap ``grid``; ``names`` are the nodes' names by node id."""
        self._grid = grid
        self.names = names
        self._train: list[Message] = []
        self._train_errors: dict[str, str] = {}
        self.rss_mb: dict[int, float] = {}
        self.dropped: dict[int, int] = {}

    def name(self, node: int) -> str:
        """Return the name of a node, its id where it has none."""
        return self.names.get(node, str(node))

    def set_run(self, run: Any) -> None:
        """Pass on."""
        self._grid.set_run(run)

    @property
    def run(self) -> Any:
        """The wrapped grid's run."""
        return self._grid.run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Pass on."""
        return self._grid.create_message(content, message_type, dst_node_id, group_id, ttl)

    def get_node_ids(self) -> list[int]:
        """Return the ids of the nodes that are there, in order.

        Raises:
            FederationError: there is none (Flower would wait for ever).
        """
        nodes = sorted(self._grid.get_node_ids())
        if not nodes:
            raise FederationError(
                f"no node is connected{self._known()}: look at their workers, then run again"
            )
        return nodes

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Pass on."""
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Pass on."""
        return self._grid.pull_messages(message_ids)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Return the replies in the order of node ids, without updates that are not finite.

        Raises:
            FederationError: no node replied with content; it says what each of them said.
        """
        sent = list(messages)
        if not sent:
            return []
        received = self._grid.send_and_receive(sent, timeout=timeout)
        replies = sorted(received, key=lambda reply: reply.metadata.src_node_id)
        silent = self._silent(sent, replies, timeout)
        if sent[0].metadata.message_type.startswith("train"):
            replies = self._finite(replies, silent)
        good = [reply for reply in replies if reply.has_content()]
        if not good:
            raise FederationError(f"no node answered {_complaints(sent, silent)}")
        for reply in good:
            metrics = reply.content.metric_records["metrics"]
            if "rss-mb" in metrics:
                node = reply.metadata.src_node_id
                peak = max(self.rss_mb.get(node, 0.0), float(cast(float, metrics["rss-mb"])))
                self.rss_mb[node] = peak
        if sent[0].metadata.message_type.startswith("train"):
            self._train = good
            self._train_errors = silent
        return replies

    def _finite(self, replies: list[Message], silent: dict[str, str]) -> list[Message]:
        """Return the replies without updates that are not finite; note those in ``silent``."""
        kept = []
        for reply in replies:
            if reply.has_content() and (fault := _not_finite(reply.content)):
                node = reply.metadata.src_node_id
                self.dropped[node] = self.dropped.get(node, 0) + 1
                silent[self.name(node)] = f"its update was dropped: {fault}"
            else:
                kept.append(reply)
        return kept

    def all_replies(self, messages: list[Message], *, timeout: float | None) -> list[Message]:
        """Return the replies in the order of node ids, one for every message.

        Raises:
            FederationError: a node did not reply, or with an error; it says which and why.
        """
        replies = self.send_and_receive(messages, timeout=timeout)
        if len([reply for reply in replies if reply.has_content()]) < len(messages):
            silent = self._silent(messages, replies, timeout)
            raise FederationError(f"not every node answered {_complaints(messages, silent)}")
        return replies

    def last_train(self) -> dict[str, dict[str, float]]:
        """Return the metrics of the last training round by node name."""
        result = {}
        for reply in self._train:
            metrics = reply.content.metric_records["metrics"]
            result[self.name(reply.metadata.src_node_id)] = {
                key.replace("-", "_"): float(cast(float, value)) for key, value in metrics.items()
            }
        return result

    def train_loss(self) -> float:
        """Return the last training round's loss, weighted by examples; NaN when there is none."""
        pairs = [
            (node["num_examples"], node["loss"])
            for node in self.last_train().values()
            if "loss" in node
        ]
        examples = sum(count for count, _ in pairs)
        return sum(count * loss for count, loss in pairs) / examples if examples else math.nan

    def train_errors(self) -> dict[str, str]:
        """Return by node name why a node was missing from the last training round."""
        return self._train_errors

    def _known(self) -> str:
        return f" of {', '.join(self.names.values())}" if self.names else ""

    def _silent(
        self, sent: list[Message], replies: list[Message], timeout: float | None
    ) -> dict[str, str]:
        """Return what became of each message that was not answered with content."""
        waited = "no answer" if timeout is None else f"no answer within {timeout:g} s"
        result = {self.name(message.metadata.dst_node_id): waited for message in sent}
        for reply in replies:
            name = self.name(reply.metadata.src_node_id)
            if reply.has_error():
                result[name] = reply.error.reason or f"error {reply.error.code}"
            else:
                result.pop(name, None)
        return result


def _complaints(sent: list[Message], silent: dict[str, str]) -> str:
    lines = [f"  {name}: {reason}" for name, reason in silent.items()]
    return f"a {sent[0].metadata.message_type} message:\n" + "\n".join(lines)


def _not_finite(content: RecordDict) -> str:
    """Return what in an update is no finite number, nothing if all is well."""
    for record in content.metric_records.values():
        loss = record.get("loss", 0.0)
        if isinstance(loss, list) or not math.isfinite(loss):
            return f"its loss is {loss}"
    for arrays in content.array_records.values():
        for name, array in arrays.items():
            if array.dtype.startswith("float") and not np.isfinite(array.numpy()).all():
                return f"{name} has values that are not finite"
    return ""
