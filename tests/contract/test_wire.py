"""What is used of Flower's private modules still does what it did."""

import asyncio

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from fedrnn.transport import wire


@pytest.fixture(autouse=True)
def _identity():
    wire.identify(run_id=7, node_id=1)


def message(content: RecordDict | None = None, node: int = 2) -> Message:
    made = Message(content or RecordDict(), node, "query")
    wire.give_id(made)
    return made


def test_a_message_survives_the_wire():
    array = np.arange(12, dtype=np.int8).reshape(3, 4)
    content = RecordDict(
        {"a": ArrayRecord({"x": Array(array)}), "c": ConfigRecord({"labels": ["Zulu", "Ärger"]})}
    )
    sent = message(content)
    received = wire.loads(wire.dumps(sent))
    assert received.metadata.message_id == sent.metadata.message_id
    assert received.metadata.run_id == 7
    assert received.metadata.dst_node_id == 2
    assert received.content["a"]["x"].numpy().dtype == np.int8
    np.testing.assert_array_equal(received.content["a"]["x"].numpy(), array)
    assert received.content["c"]["labels"] == ["Zulu", "Ärger"]


def test_a_broadcast_is_encoded_once_and_reads_the_same():
    content = RecordDict({"a": ArrayRecord({"x": Array(np.ones(1000, np.float32))})})
    messages = [message(content, node) for node in (1, 2, 3)]
    parts = wire.encode_all(messages)
    assert parts[0][1] is parts[1][1] is parts[2][1]
    for sent, encoded in zip(messages, parts, strict=True):
        joined = b"".join(encoded)
        received = wire.loads(joined)
        assert received.metadata.message_id == sent.metadata.message_id
        assert received.metadata.dst_node_id == sent.metadata.dst_node_id
        np.testing.assert_array_equal(received.content["a"]["x"].numpy(), np.ones(1000))


def test_error_replies_name_the_request():
    sent = message()
    for reply in (wire.app_error(sent, "no"), wire.no_reply(sent, "late")):
        received = wire.loads(wire.dumps(reply))
        assert received.has_error()
        assert received.metadata.reply_to_message_id == sent.metadata.message_id


@pytest.mark.parametrize("data", [b"\xff" * 40, b"\x0a\xff"])
def test_garbage_is_no_message(data):
    with pytest.raises(ValueError, match="no Flower message"):
        wire.loads(data)


@pytest.mark.parametrize("head", [b"X" + bytes(8), b"M" + b"\xff" * 8])
def test_garbage_is_no_frame(head):
    async def read():
        reader = asyncio.StreamReader()
        reader.feed_data(head)
        return await wire.read_frame(reader)

    with pytest.raises(ValueError, match="no frame"):
        asyncio.run(read())
