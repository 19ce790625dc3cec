"""Flower messages as frames on a stream. The only file that touches Flower's private modules.

A frame is one byte of kind, eight bytes of length (big-endian) and the body. The worker greets
with HELLO; MESSAGE carries a serialized Flower message either way; STOP ends the worker.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable, Iterable
from io import FileIO
from typing import Protocol

from flwr.app import Context, Error, Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.common.serde import message_from_proto, message_to_proto, recorddict_to_proto
from flwr.common.serde_utils import metadata_to_proto
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.supercore.run import Run as Run
from flwr.supercore.task_identity import TaskIdentity

HELLO, MESSAGE, STOP = b"H", b"M", b"S"
GREETING = b"fedrnn 1"
MAX_FRAME = 256 << 20
PIECE = 1 << 18
JOINED = 1 << 20
_HEAD = struct.Struct(">cQ")


class Reader(Protocol):
    """What is read of a stream: asyncio's and asyncssh's both have it."""

    async def readexactly(self, n: int, /) -> bytes:
        """Return `n` bytes or raise IncompleteReadError."""

    async def read(self, n: int = -1, /) -> bytes:
        """Return what there is, at most `n` bytes; none at the end."""


class Writer(Protocol):
    """What is written of a stream."""

    def write(self, data: bytes, /) -> None:
        """Take bytes to send."""

    async def drain(self) -> None:
        """Wait until the peer keeps up."""

    def close(self) -> None:
        """End the stream."""


async def read_frame(
    reader: Reader, largest: Callable[[], int] = lambda: MAX_FRAME
) -> tuple[bytes, bytes]:
    """Return kind and body of the next frame, of the bytes that are allowed when it begins.

    Raises ValueError for what is no frame.
    """
    kind, size = _head(await reader.readexactly(_HEAD.size))
    if size > (limit := largest()):
        raise ValueError(f"no frame of ours: {size} bytes, and at most {limit} were asked for")
    return kind, await reader.readexactly(size)


def write_frame(writer: Writer, kind: bytes, *parts: bytes) -> int:
    """Write one frame whose body is the parts in turn; return its size in bytes."""
    size = sum(map(len, parts))
    frame = [_HEAD.pack(kind, size), *parts]
    # A write is a packet of SSH: copying is cheaper, up to what no cache holds.
    for part in [b"".join(frame)] if size < JOINED else frame:
        writer.write(part)
    return _HEAD.size + size


def receive(stream: FileIO) -> tuple[bytes, bytes]:
    """Return kind and body of the next frame of a file that blocks.

    Raises EOFError at the end, ValueError for what is no frame, OSError.
    """
    kind, size = _head(_exactly(stream, _HEAD.size))
    return kind, _exactly(stream, size)


def send(stream: FileIO, kind: bytes, body: bytes) -> None:
    """Write one frame to a file that blocks. Raises OSError."""
    rest = memoryview(_HEAD.pack(kind, len(body)) + body)
    while rest:
        rest = rest[stream.write(rest) :]


def _head(head: bytes) -> tuple[bytes, int]:
    kind, size = _HEAD.unpack(head)
    if kind not in (HELLO, MESSAGE, STOP) or size > MAX_FRAME:
        raise ValueError(f"no frame of ours: kind {kind!r}, {size} bytes")
    return kind, size


def _exactly(stream: FileIO, size: int) -> bytes:
    """Read so many bytes, in pieces: what a frame only announces takes no memory."""
    parts, left = [], size
    while left:
        part = stream.read(min(left, PIECE))
        if not part:
            raise EOFError("the stream ended within a frame")
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def identify(run_id: int, node_id: int) -> None:
    """Tell Flower whose messages this process makes; without it `Message(...)` raises."""
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = run_id, node_id, 1


def new_run(run_id: int) -> Run:
    """Return a run as Flower's apps expect one."""
    return Run.create_empty(run_id)


def dumps(message: Message) -> bytes:
    """Serialize one message."""
    data: bytes = message_to_proto(message).SerializeToString()
    return data


def loads(data: bytes) -> Message:
    """Undo `dumps`; raises ValueError for bytes that are no message."""
    proto = ProtoMessage()
    try:
        proto.ParseFromString(data)
        return message_from_proto(proto)
    except Exception as error:  # protobuf's DecodeError has no public home, and Flower trusts
        raise ValueError(f"no Flower message: {error}") from None


def give_id(message: Message) -> str:
    """Give a message the id that its reply will name; return it."""
    identity = uuid.uuid4().hex
    message.metadata.__dict__["_message_id"] = identity
    return identity


def give_source(message: Message, node_id: int) -> None:
    """Say that a message came from another node than it says."""
    message.metadata.__dict__["_src_node_id"] = node_id


def encode_all(messages: Iterable[Message]) -> list[tuple[bytes, ...]]:
    """Serialize many messages; content that they share is serialized once.

    Serialized protobuf messages merge when they are concatenated, so metadata and content
    can be encoded apart.
    """
    shared: dict[int, tuple[RecordDict, bytes]] = {}
    encoded: list[tuple[bytes, ...]] = []
    for message in messages:
        if not message.has_content():
            encoded.append((dumps(message),))
            continue
        content = message.content
        if id(content) not in shared:
            proto = ProtoMessage(content=recorddict_to_proto(content))
            shared[id(content)] = (content, proto.SerializeToString())
        head = ProtoMessage(metadata=metadata_to_proto(message.metadata)).SerializeToString()
        encoded.append((head, shared[id(content)][1]))
    return encoded


def new_context(run_id: int, node_id: int) -> Context:
    """Return an empty context of a node."""
    return Context(
        run_id=run_id,
        node_id=node_id,
        node_config={},
        state=RecordDict(),
        run_config={},
        series_id=0,
    )


def app_error(message: Message, reason: str) -> Message:
    """Return the reply that says why the ClientApp has no answer."""
    return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=message)


def no_reply(message: Message, reason: str) -> Message:
    """Return the reply that stands for a node that gave none."""
    return Message(Error(ErrorCode.MESSAGE_UNAVAILABLE, reason), reply_to=message)
