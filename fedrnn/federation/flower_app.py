"""The ClientApp as Flower's own engines load it: `client_app`, told where the node's data is.

A SuperNode has it in ``FEDRNN_DATA``, as our own worker has: its owner says so in the unit that
runs it. A node of Flower's simulation has the folder that was dealt to it, see ``dealing``.
"""

from __future__ import annotations

import os
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fedrnn.federation import client_app


def dealt(run_id: int) -> Path:
    """Return the folder that has a folder by node id for each simulated node of a run."""
    home = os.environ.get("FLWR_HOME") or Path.home() / ".flwr"
    return Path(home) / "fedrnn" / str(run_id)


class FlowerApp(ClientApp):
    """Answers for whichever node a message is for."""

    def __call__(self, message: Message, context: Context) -> Message:
        """Answer as ``client_app`` does."""
        if "partition-id" in context.node_config:  # only Flower's simulation sets it
            os.environ["FEDRNN_DATA"] = str(dealt(context.run_id) / str(context.node_id))
        return client_app.app(message, context)


app = FlowerApp()
