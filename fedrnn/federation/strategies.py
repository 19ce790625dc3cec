"""Our own Flower strategy: one gradient a round. Flower's own are in ``catalogue``."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from numpy.typing import NDArray

from fedrnn.config import RunConfig
from fedrnn.federation.codec import Quantised, dequantise, pack, quantise, unpack
from fedrnn.federation.replies import array_fault
from fedrnn.learning.data import MIN_BATCH
from fedrnn.learning.optimiser import AdamW, schedule

Shapes = Mapping[str, tuple[int, ...]]
log = logging.getLogger("fedrnn.strategies")


class FederationError(RuntimeError):
    """The federation cannot go on; the message names the nodes and what to do.

    ``outcome`` is what the run had reached, None when training had not begun.
    """

    outcome: Any = None


def to_arrays(flat: NDArray[np.float32], shapes: Shapes) -> ArrayRecord:
    """Return the vector [P] as float32 arrays by parameter name."""
    arrays: dict[str, Array] = {}
    start = 0
    for name, shape in shapes.items():
        size = math.prod(shape)
        arrays[name] = Array(flat[start : start + size].reshape(shape))
        start += size
    return ArrayRecord(arrays)


def to_flat(arrays: ArrayRecord, shapes: Shapes) -> NDArray[np.float32]:
    """Return arrays by parameter name as one float32 vector [P]."""
    return np.concatenate(
        [np.asarray(arrays[name].numpy(), dtype=np.float32).reshape(-1) for name in shapes]
    )


def shares(batch: float, rows: Mapping[int, int]) -> dict[int, int]:
    """Share a round's ``batch`` names out over the nodes in proportion to their rows."""
    total = sum(rows.values())
    return {node: max(MIN_BATCH, round(batch * n / total)) for node, n in rows.items()}


class GradientStrategy(Strategy):
    """One gradient of every node a round; the optimiser is here and nowhere else.

    Down goes the int8 change since the last round, up comes the int8 gradient; what rounding took
    is sent later. All nodes compute at the same weights, which ``_view`` follows. A node that is
    not known to hold them, because it missed a round or says that it is stale, gets them in full.
    In the round before a checkpoint all nodes settle what they owe, so that nothing of a run that
    is taken up there lies on a node.
    """

    def __init__(
        self,
        shapes: Shapes,
        rows: Mapping[int, int],
        config: RunConfig,
        node_config: ConfigRecord,
        drop: Callable[[int, str], None] | None = None,
    ) -> None:
        """Prepare for nodes with training ``rows`` by node id.

        ``node_config`` is what the ClientApp must know of the run (see client_app). ``drop`` is
        told the node whose gradient cannot be used, and why; it is then left out of the round.
        """
        self._drop = drop or (lambda node, why: log.warning("node %d: %s", node, why))
        self._shapes = dict(shapes)
        self._sizes = [math.prod(shape) for shape in shapes.values()]
        self._config = config
        self._node_config = node_config
        # Of a sample, each node does what those that are not drawn leave.
        self._batch = shares(config.batch / config.sample, rows)
        self._number = {node: number for number, node in enumerate(sorted(rows))}
        self._optimiser = AdamW(sum(self._sizes))
        self._weights: NDArray[np.float32] | None = None
        self._view = np.zeros(sum(self._sizes), dtype=np.float32)
        self._in_sync: set[int] = set()
        self._silent_rounds = 0

    def state(self) -> dict[str, NDArray[Any]]:
        """Return what a checkpoint must keep, beside the weights."""
        return {"view": self._view, **self._optimiser.state()}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what ``state`` has returned; every node is sent the weights in full."""
        self._view = state["view"]
        self._optimiser.restore(state)

    def summary(self) -> None:
        """Log nothing: the caller reports."""

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Return one message per node that is there."""
        if self._weights is None:
            self._weights = to_flat(arrays, self._shapes)
        base = server_round - 1
        if base == 0:
            self._view = self._weights.copy()
        else:
            delta = quantise(self._weights - self._view, self._sizes)
            # What rounding took stays in weights - view, and so in the next delta.
            self._view = self._view + dequantise(delta, self._sizes)
            change = ArrayRecord(
                {"delta": Array(pack(delta.values)), "scales": Array(delta.scales)}
            )
        full: ArrayRecord | None = None
        messages = []
        for node in sorted(set(grid.get_node_ids()) & set(self._batch)):
            if node in self._in_sync:
                content = RecordDict({"arrays": change})
            else:
                full = full or ArrayRecord({"weights": Array(self._view)})
                content = RecordDict({"arrays": full})
            content["config"] = ConfigRecord(
                {
                    **self._node_config,
                    "round": server_round,
                    "base": base if node in self._in_sync else 0,
                    "node": self._number[node],
                    "batch": self._batch[node],
                    **({"settle": 1} if self._config.is_checkpoint(server_round) else {}),
                }
            )
            messages.append(Message(content, message_type="train.gradient", dst_node_id=node))
        self._in_sync = set()
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Average the gradients by examples, in the order of node ids, and take one step.

        Raises:
            FederationError: two rounds in a row brought no gradient.
        """
        total = np.zeros(sum(self._sizes), dtype=np.float32)
        examples = 0
        loss = 0.0
        unusable = ""
        for reply in sorted(replies, key=lambda message: message.metadata.src_node_id):
            if reply.has_error() or reply.content.metric_records["metrics"].get("stale"):
                continue
            metrics = reply.content.metric_records["metrics"]
            count = int(cast(int, metrics["num-examples"]))
            try:
                gradient = self._decode(reply)
            except Exception as error:  # whatever a node has thought of, the others go on
                unusable = f"its gradient cannot be used: {error}"
                self._drop(reply.metadata.src_node_id, unusable)
                continue
            total += np.float32(count) * gradient
            loss += count * float(cast(float, metrics["loss"]))
            examples += count
            self._in_sync.add(reply.metadata.src_node_id)
        assert self._weights is not None
        if examples == 0:
            # All workers may be new and stale at once, after a restart: the next round sends
            # everything. A second such round is no coincidence.
            self._silent_rounds += 1
            if self._silent_rounds > 1:
                raise FederationError(
                    f"no gradient arrived in rounds {server_round - 1} and {server_round}"
                    + (f"; the last answer was dropped: {unusable}" if unusable else "")
                )
            return to_arrays(self._weights, self._shapes), None
        self._silent_rounds = 0
        rate = self._config.lr * schedule(server_round - 1, self._config.rounds)
        self._weights = self._optimiser.step(self._weights, total / np.float32(examples), rate)
        return (
            to_arrays(self._weights, self._shapes),
            MetricRecord({"loss": loss / examples, "num-examples": examples}),
        )

    def _decode(self, reply: Message) -> NDArray[np.float32]:
        sent = reply.content.array_records["arrays"]
        gradient = self._vector(sent, "values", "scales")
        if "rest" in sent:
            gradient += self._vector(sent, "rest", "rest-scales")
        return gradient

    def _vector(self, sent: ArrayRecord, values: str, scales: str) -> NDArray[np.float32]:
        if why := array_fault(scales, sent[scales], (len(self._sizes),)):
            raise ValueError(why)
        steps = unpack(sent[values].numpy(), sum(self._sizes))
        return dequantise(Quantised(steps, sent[scales].numpy()), self._sizes)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Return no message: server_app evaluates, and not after every round."""
        return []

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Return nothing, as nothing was asked."""
        return None
