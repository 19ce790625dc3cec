"""A worker whose ClientApp sends back what it gets: a round without compute."""

import os
from pathlib import Path

from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedrnn.transport.worker import Worker

app = ClientApp()


@app.train("gradient")
def echo(message: Message, context: Context) -> Message:
    """Return the arrays, as many bytes up as down."""
    records = {"arrays": message.content["arrays"], "metrics": MetricRecord({"stale": 0})}
    return Message(RecordDict(records), reply_to=message)


os.umask(0o007)
raise SystemExit(Worker(app).serve(Path(os.environ["FEDRNN_SOCKET"])))
