"""Flower's own engine in this process: its link state, its grid, its threads; Ray is not there.

`NodeApp` is the app of one node, as `client_app` is, but told of its data by its maker.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.proto.task_pb2 import Task
from flwr.server.superlink.fleet.vce import vce_api
from flwr.server.superlink.fleet.vce.backend import Backend
from flwr.server.superlink.fleet.vce.metrics import VceMetrics
from flwr.server.superlink.linkstate import LinkStateFactory
from flwr.server.superlink.linkstate.in_memory_linkstate import RunRecord
from flwr.supercore.constant import FLWR_IN_MEMORY_DB_NAME, NOOP_FEDERATION_ID
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.superlink.federation import NoOpFederationManager
from flwr.superlink.grid import InMemoryGrid

from fedrnn.federation.client_app import app
from fedrnn.transport import wire

ONE_AT_A_TIME = threading.Lock()  # the environment is the process', not the node's


class NodeApp(ClientApp):
    """The training app of the node whose data `folder_of` gives for a message to it."""

    def __init__(self, folder_of: Callable[[Message], Path]) -> None:
        super().__init__()
        self.folder_of = folder_of

    def __call__(self, message: Message, context: Context) -> Message:
        with ONE_AT_A_TIME:
            os.environ["FEDRNN_DATA"] = str(self.folder_of(message))
            try:
                return app(message, context)
            finally:
                del os.environ["FEDRNN_DATA"]


class ThisProcess(Backend):
    """Calls the app where Ray would have an actor call it."""

    num_workers = 2

    def build(self, app_fn: Callable[[], ClientApp]) -> None:
        self.app = app_fn()

    def is_worker_idle(self) -> bool:
        return True

    def terminate(self) -> None: ...

    def process_message(self, message: Message, context: Context) -> tuple[Message, Context]:
        return self.app(message, context), context


@contextmanager
def flowers_grid(nodes: int, app_for: Callable[[list[int]], ClientApp]) -> Iterator[InMemoryGrid]:
    """Run Flower's engine over so many nodes; `app_for` makes their app, given their ids."""
    run = wire.new_run(7)
    run.primary_task_id, run.federation_id = 1, NOOP_FEDERATION_ID
    wire.identify(run.run_id, SUPERLINK_NODE_ID)
    factory = LinkStateFactory(
        FLWR_IN_MEMORY_DB_NAME, NoOpFederationManager(), ObjectStoreFactory()
    )
    state = factory.state()
    state.run_ids[run.run_id] = RunRecord(run=run)
    state.task_store[1] = Task(task_id=1, run_id=run.run_id)
    mapping = vce_api._register_nodes(nodes, factory)
    made = app_for(sorted(mapping))
    stop = threading.Event()
    engine = threading.Thread(
        target=vce_api.run_api,
        args=(
            lambda: made,
            lambda: ThisProcess({}),
            mapping,
            factory,
            vce_api._register_node_info_stores(mapping, run),
            stop,
            VceMetrics(),
        ),
    )
    engine.start()
    try:
        grid = InMemoryGrid(factory, pull_interval=0.01)
        grid.set_run(run)
        yield grid
    finally:
        stop.set()
        engine.join()
