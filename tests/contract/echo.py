"""A ClientApp that answers with what it was sent."""

from __future__ import annotations

import threading

from flwr.app import Message
from flwr.clientapp import ClientApp


def echo_app(delay: float = 0.0) -> ClientApp:
    """Answers every query with what it was sent; `calls` counts them."""
    app = ClientApp()
    app.calls = 0

    @app.query()
    def query(message: Message, context) -> Message:
        app.calls += 1
        if delay:
            threading.Event().wait(delay)
        return Message(message.content, reply_to=message)

    @app.query("fails")
    def fails(message: Message, context) -> Message:
        raise RuntimeError("this node cannot")

    return app
