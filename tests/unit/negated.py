"""A node that answers with the negative of what it has learnt, times a factor."""

from __future__ import annotations

import zlib

import numpy as np
from flwr.app import Array, Message

from fedrnn.federation.codec import pack


def negate(node: int, factor: float = 1.0):
    """Return a `tamper` for `InProcessGrid` that turns the updates of a node around."""

    def tamper(message: Message, reply: Message) -> Message:
        kind = message.metadata.message_type
        if message.metadata.dst_node_id != node or not kind.startswith("train"):
            return reply
        sent, answer = message.content["arrays"], reply.content["arrays"]
        if kind == "train":
            for name in sent:
                old, new = sent[name].numpy(), answer[name].numpy()
                answer[name] = Array((old - factor * (new - old)).astype(np.float32))
            return reply
        for values in {"values", "rest"} & set(answer):
            scales = "scales" if values == "values" else "rest-scales"
            steps = np.frombuffer(zlib.decompress(answer[values].numpy().tobytes()), np.int8)
            answer[values] = Array(pack(-steps))
            answer[scales] = Array(answer[scales].numpy() * np.float32(factor))
        return reply

    return tamper
