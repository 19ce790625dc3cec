"""A Grid that a ServerApp lends to another process, over a Unix socket.

Flower runs a ServerApp in a process of its own, and the run with its folder, its display and its
Ctrl-C is in ours. So the ServerApp that is given to a SuperLink does no more than this: it carries
the messages of a `LentGrid` to the Grid that Flower gave it. A batch is a MESSAGE frame for each
message and a HELLO frame with a JSON object behind them; so is the answer.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from io import FileIO
from typing import Any

from flwr.app import Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

from fedrnn.transport import wire

app = ServerApp()


class Pipe:
    """One end of the socket."""

    def __init__(self, end: socket.socket) -> None:
        self._in = FileIO(os.dup(end.fileno()), "r")
        self._out = FileIO(os.dup(end.fileno()), "w")

    def send(self, messages: Iterable[Message], **told: Any) -> None:
        """Send messages and what is told of them. Raises OSError."""
        for message in messages:
            wire.send(self._out, wire.MESSAGE, wire.dumps(message))
        wire.send(self._out, wire.HELLO, json.dumps(told).encode())

    def receive(self) -> tuple[list[Message], dict[str, Any]]:
        """Return the next batch. Raises OSError, EOFError at the end, ValueError."""
        messages: list[Message] = []
        while True:
            kind, body = wire.receive(self._in)
            if kind == wire.HELLO:
                told: dict[str, Any] = json.loads(body)
                return messages, told
            messages.append(wire.loads(body))

    def close(self) -> None:
        """End it."""
        self._in.close()
        self._out.close()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Lend the Grid to whoever listens on the socket that the run's configuration names."""
    with socket.socket(socket.AF_UNIX) as end:
        end.connect(str(context.run_config["socket"]))
        with closing(Pipe(end)) as pipe:
            pipe.send([], run=context.run_id)
            while True:
                try:
                    messages, asked = pipe.receive()
                except (OSError, EOFError):  # whoever borrowed it has gone
                    return
                if messages:
                    replies = grid.send_and_receive(messages, timeout=asked["timeout"])
                    pipe.send(replies)
                else:
                    pipe.send([], nodes=list(grid.get_node_ids()))


class LentGrid(Grid):
    """The borrower's side: messages go through the ServerApp at the other end.

    Flower draws the ids of SuperNodes anew for each run. Here the nodes are 1, 2, …, in an order
    that is the caller's, so that the same seed gives the same run.

    Raises ConnectionError when the ServerApp has gone.
    """

    def __init__(
        self, end: socket.socket, nodes: Sequence[int], why: Callable[[], str] = str
    ) -> None:
        """Wait for the ServerApp's greeting.

        ``nodes`` are Flower's ids in the order of ours; ``why`` is asked for more words when the
        ServerApp has gone.
        """
        self._pipe, self._why = Pipe(end), why
        self._flowers = dict(enumerate(nodes, start=1))
        self._ours = {flowers: ours for ours, flowers in self._flowers.items()}
        self._run = wire.new_run(int(self._answer()[1]["run"]))
        wire.identify(self._run.run_id, node_id=1)

    def _answer(
        self, messages: Iterable[Message] | None = None, **told: Any
    ) -> tuple[list[Message], dict[str, Any]]:
        try:
            if messages is not None:
                self._pipe.send(messages, **told)
            return self._pipe.receive()
        except (OSError, EOFError, ValueError) as error:
            words = f"the ServerApp that lends Flower's Grid has gone: {error}{self._why()}"
            raise ConnectionError(words) from error

    def set_run(self, run: wire.Run) -> None:
        """The run is the ServerApp's."""

    @property
    def run(self) -> wire.Run:
        """The run of all messages."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Return a message."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> list[int]:
        """Return the ids of the nodes that are online."""
        online = self._answer([])[1]["nodes"]
        return [self._ours[node] for node in online if node in self._ours]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Not lent: strategies send and receive at once."""
        raise NotImplementedError

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Not lent."""
        raise NotImplementedError

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Send messages and return the replies that came within ``timeout`` seconds."""
        batch = [self._addressed(message) for message in messages]
        replies = self._answer(batch, timeout=timeout)[0] if batch else []
        known = [reply for reply in replies if reply.metadata.src_node_id in self._ours]
        for reply in known:
            wire.give_source(reply, self._ours[reply.metadata.src_node_id])
        return known

    def _addressed(self, message: Message) -> Message:
        """Return a message with the same content to Flower's id of the node."""
        told = message.metadata
        return self.create_message(
            message.content,
            told.message_type,
            self._flowers[told.dst_node_id],
            told.group_id,
            told.ttl,
        )

    def close(self) -> None:
        """Give the Grid back: the ServerApp ends."""
        self._pipe.close()
