"""Nodes in this process: a Flower Grid that calls the ClientApp directly."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from flwr.app import Context, Error, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from fedrnn.federation.client_app import app

Tamper = Callable[[Message, Message], Message | None]


class InProcessGrid(Grid):
    """Node i has the i-th folder; ``down`` nodes are absent.

    ``tamper`` gets each message and its reply and returns the reply that arrives, None for none.
    """

    def __init__(self, folders: Iterable[Path], tamper: Tamper | None = None) -> None:
        TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1
        self.folders = dict(enumerate(folders, 1))
        self.contexts = {node: self._context(node) for node in self.folders}
        self.down: set[int] = set()
        self.tamper = tamper
        self.sent: list[Message] = []
        self.replies: list[Message] = []

    @staticmethod
    def _context(node: int) -> Context:
        return Context(1, node, {}, RecordDict(), {})

    def restart(self, node: int) -> None:
        """A worker that is started again has lost its state."""
        self.contexts[node] = self._context(node)

    def get_node_ids(self) -> list[int]:
        return [node for node in self.folders if node not in self.down]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        result = []
        for message in messages:
            self.sent.append(message)
            reply = self._answer(message)
            if self.tamper:
                reply = self.tamper(message, reply)
            if reply is not None:
                result.append(reply)
        self.replies += result
        return result

    def _answer(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        os.environ["FEDRNN_DATA"] = str(self.folders[node])
        message.metadata.__dict__["_message_id"] = f"{len(self.sent)}"
        try:
            return app(message, self.contexts[node])
        except Exception as error:
            return Message(Error(2, str(error)), reply_to=message)
        finally:
            del os.environ["FEDRNN_DATA"]

    def set_run(self, run: object) -> None: ...

    @property
    def run(self) -> None: ...

    def create_message(self, *args: object, **keywords: object) -> Message:
        raise NotImplementedError

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        raise NotImplementedError

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        raise NotImplementedError
