"""A Flower Grid that notes what passes through it, and lets neither silence nor nonsense pass."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from fedrnn.config import RunConfig
from fedrnn.federation.replies import Names, fault
from fedrnn.federation.strategies import FederationError
from fedrnn.printable import printable

PATIENCE_SECONDS = 20.0  # for nodes without which the run cannot go on
MAX_REASON = 400  # characters that a node may say


@runtime_checkable
class KnowsItsNodes(Protocol):
    """What a Grid may know beside who is there."""

    def busy(self) -> set[int]:
        """Return the nodes that still work on what was given up."""

    def away(self) -> dict[int, str]:
        """Return the nodes that are not there, and why."""

    def nonsense(self) -> dict[int, int]:
        """Return by node how much it has sent up to now that nobody can have asked for."""


class WatchedGrid(Grid):
    """Passes everything on to ``grid``, whatever the strategy, and keeps the nodes' metrics.

    Flower's strategies go on with the old model when no node replied; here that is an error, as it
    is when fewer than ``min_nodes`` did. They also average what is not a number; here a reply that
    cannot be used is dropped, told and counted.
    """

    def __init__(self, grid: Grid, names: Mapping[int, str], min_nodes: int = 1) -> None:
        """Wrap ``grid``; ``names`` are the nodes' names by node id."""
        self._grid, self._min_nodes = grid, min_nodes
        self.names = names
        self._train: list[Message] = []
        self._errors: dict[str, str] = {}
        self._train_errors: dict[str, str] = {}
        self.rss_mb: dict[int, float] = {}
        self.dropped: Counter[int] = Counter()
        self._nonsense: Counter[int] = Counter()  # as far as it is in ``dropped`` already
        self.counts: Mapping[int, Names] = {}  # of names by part, once they are known
        self.left_out: dict[int, str] = {}  # nodes that take no part in the rounds, and why
        self._drawn: set[int] | None = None

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

    def draw(self, config: RunConfig, round_: int) -> None:
        """Draw who takes part in a round: it follows from the seed, the round and who is known."""
        known = sorted(self.counts)
        number = max(1, round(config.sample * len(known)))
        if number < len(known):
            random = np.random.default_rng([config.seed, round_])
            self._drawn = set(random.choice(np.array(known, dtype=object), number, replace=False))

    @property
    def drawn(self) -> list[str]:
        """The names of those that were drawn for the round, of all where none was left out."""
        return [self.name(node) for node in sorted(self._drawn or self.counts)]

    def get_node_ids(self) -> list[int]:
        """Return the ids of the nodes that can take part in the round, in order.

        Raises:
            FederationError: as ``ready``, or none of those that were drawn is there.
        """
        nodes = self.ready()
        if self._drawn is None:
            return nodes
        if not (drawn := [node for node in nodes if node in self._drawn]):
            names = ", ".join(map(self.name, sorted(self._drawn)))
            raise FederationError(f"none of those that were drawn for the round is there: {names}")
        return drawn

    def ready(self) -> list[int]:
        """Return the ids of the nodes that can take part, in order; waits a little for enough.

        A node that still works on a message that was given up is left alone until it is done.

        Raises:
            FederationError: there are too few (Flower would wait for ever), or the engine has gone.
        """
        until = time.monotonic() + PATIENCE_SECONDS
        while len(nodes := self._ready()) < self._min_nodes and time.monotonic() < until:
            time.sleep(0.1)
        if not nodes:
            raise FederationError(
                f"no node is connected{self._known()}: look at their workers, then run again"
            )
        if len(nodes) < self._min_nodes:
            here = ", ".join(map(self.name, nodes))
            raise FederationError(
                f"only {here} can take part{self._known()}, and --min-nodes is {self._min_nodes}"
            )
        return nodes

    def present(self) -> list[int]:
        """Return the ids of the nodes that are there, in order, busy or not."""
        return sorted(self._connected() - set(self.left_out)) or self.ready()

    def _ready(self) -> list[int]:
        busy = self._grid.busy() if isinstance(self._grid, KnowsItsNodes) else set()
        return sorted(self._connected() - busy - set(self.left_out))

    def _connected(self) -> set[int]:
        with _engine_lost():
            return set(self._grid.get_node_ids())

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Pass on."""
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Pass on."""
        return self._grid.pull_messages(message_ids)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Return the replies in the order of node ids, without those that cannot be used.

        Raises:
            FederationError: no node replied with such content, or too few to train; it says what
                each of them said. Or what carries the messages has gone.
        """
        sent = list(messages)
        if not sent:
            return []
        with _engine_lost():
            received = self._grid.send_and_receive(sent, timeout=timeout)
        self._count_nonsense()
        replies = sorted(received, key=lambda reply: reply.metadata.src_node_id)
        self._errors = silent = self._silent(sent, replies, timeout)
        replies = self._usable(sent, replies)
        training = sent[0].metadata.message_type.startswith("train")
        good = [reply for reply in replies if reply.has_content()]
        if not good:
            raise FederationError(f"no node answered {_complaints(sent, silent)}")
        if training and len(good) < min(self._min_nodes, len(sent)):
            raise FederationError(
                f"{len(good)} nodes answered, and --min-nodes is {self._min_nodes}; the others on "
                + _complaints(sent, silent)
            )
        for reply in good:
            metrics = reply.content.metric_records["metrics"]
            if "rss-mb" in metrics:
                node = reply.metadata.src_node_id
                peak = max(self.rss_mb.get(node, 0.0), float(cast(float, metrics["rss-mb"])))
                self.rss_mb[node] = peak
        if training:
            self._train = good
            away = self._grid.away() if isinstance(self._grid, KnowsItsNodes) else {}
            self._train_errors = silent
            out = {**self.left_out, **away}
            self._train_errors |= {self.name(n): _told(why) for n, why in out.items() if why}
        return replies

    def _usable(self, sent: list[Message], replies: list[Message]) -> list[Message]:
        """Return the replies without those that cannot be used; note those."""
        asked = {message.metadata.dst_node_id: message for message in sent}
        kept = []
        for reply in replies:
            node = reply.metadata.src_node_id
            if reply.has_content() and (
                why := fault(asked[node], reply, self.counts.get(node, {}))
            ):
                self._note(node, why)
            else:
                kept.append(reply)
        return kept

    def _note(self, node: int, why: str) -> None:
        self.dropped[node] += 1
        self._errors[self.name(node)] = _told(f"its update was dropped: {why}")

    def _count_nonsense(self) -> None:
        if isinstance(self._grid, KnowsItsNodes):
            now = Counter(self._grid.nonsense())
            self.dropped += now - self._nonsense
            self._nonsense = now

    def drop(self, node: int, why: str) -> None:
        """Take back a reply of this round: the strategy cannot use it."""
        self._note(node, why)
        self._train = [reply for reply in self._train if reply.metadata.src_node_id != node]

    def ask_all(
        self, messages: list[Message], *, timeout: float | None
    ) -> tuple[list[Message], dict[int, str]]:
        """Return the replies in the order of node ids, and by node id why others gave none.

        Raises:
            FederationError: no node replied.
        """
        received = self.send_and_receive(messages, timeout=timeout)
        replies = [reply for reply in received if reply.has_content()]
        silent = {message.metadata.dst_node_id for message in messages} - {
            reply.metadata.src_node_id for reply in replies
        }
        return replies, {node: self._errors[self.name(node)] for node in sorted(silent)}

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
                result[name] = _told(reply.error.reason or f"error {reply.error.code}")
            else:
                result.pop(name, None)
        return result


@contextmanager
def _engine_lost() -> Iterator[None]:
    """Where what carries all messages has gone, the run ends with what it had reached."""
    try:
        yield
    except ConnectionError as error:
        raise FederationError(str(error)) from error


def _complaints(sent: list[Message], silent: dict[str, str]) -> str:
    lines = [f"  {name}: {reason}" for name, reason in silent.items()]
    return f"a {sent[0].metadata.message_type} message:\n" + "\n".join(lines)


def _told(reason: str) -> str:
    """Return what a node says as a terminal may show it."""
    return printable(reason, MAX_REASON)
