"""Whatever bytes come: the decoder gives a frame or says that there is none, within its limit."""

from __future__ import annotations

import asyncio
import io
import struct
import tracemalloc

from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy import ones

from fedrnn.transport import wire

KINDS = st.sampled_from([wire.HELLO, wire.MESSAGE, wire.STOP])
HEADS = st.builds(
    struct.pack, st.just(">cQ"), st.binary(min_size=1, max_size=1) | KINDS,
    st.integers(0, 2**64 - 1) | st.integers(0, 300),
)  # fmt: skip
STREAMS = st.binary(max_size=400) | st.builds(lambda h, b: h + b, HEADS, st.binary(max_size=300))
SLACK = 4 << 20


def read(stream: bytes) -> tuple[bytes, bytes]:
    async def feed() -> tuple[bytes, bytes]:
        reader = asyncio.StreamReader()
        reader.feed_data(stream)
        reader.feed_eof()
        return await wire.read_frame(reader)

    return asyncio.run(feed())


def receive(stream: bytes) -> tuple[bytes, bytes]:
    return wire.receive(io.BytesIO(stream))


def decoded(decode, stream: bytes) -> tuple[bytes, bytes] | None:
    tracemalloc.start()
    try:
        return decode(stream)
    except (ValueError, EOFError):  # asyncio's IncompleteReadError is an EOFError
        return None
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < SLACK, f"{peak >> 20} MB for {len(stream)} bytes"


@settings(max_examples=300, deadline=None)
@given(STREAMS)
@example(struct.pack(">cQ", wire.MESSAGE, wire.MAX_FRAME) + b"x")
@example(struct.pack(">cQ", wire.MESSAGE, 1 << 30))
def test_any_stream_is_a_frame_or_none_and_takes_no_more_memory_than_came(stream):
    frames = [decoded(decode, stream) for decode in (read, receive)]
    assert frames[0] == frames[1]
    if frames[0] is not None:
        kind, body = frames[0]
        assert stream.startswith(struct.pack(">cQ", kind, len(body)) + body)


@given(KINDS, st.lists(st.binary(max_size=100), max_size=4))
def test_what_is_written_is_read(kind, parts):
    written = io.BytesIO()
    wire.write_frame(written, kind, *parts)
    assert read(written.getvalue()) == receive(written.getvalue()) == (kind, b"".join(parts))


def honest() -> bytes:
    wire.identify(run_id=7, node_id=1)
    arrays = ArrayRecord({"x": Array(ones(8, "float32"))})
    metrics = MetricRecord({"loss": 1.0, "n": 3, "list": [1.0, 2.0]})
    message = Message(RecordDict({"arrays": arrays, "metrics": metrics}), 2, "query")
    wire.give_id(message)
    return wire.dumps(message)


HONEST = honest()
CHANGES = st.lists(
    st.tuples(st.integers(0, len(HONEST) - 1), st.integers(0, 255)), min_size=1, max_size=8
)


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200) | CHANGES | st.integers(0, len(HONEST)))
def test_any_bytes_are_a_message_or_a_value_error(what):
    body = bytearray(HONEST)
    if isinstance(what, bytes):
        body = bytearray(what)
    elif isinstance(what, int):
        body = body[:what]
    else:
        for place, value in what:
            body[place] = value
    try:
        message = wire.loads(bytes(body))
    except ValueError:
        return
    assert message.has_content() or message.has_error()
