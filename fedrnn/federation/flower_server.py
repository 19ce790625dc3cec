"""The ServerApp of `flwr run`, which leaves the model and nothing else of a run."""

from __future__ import annotations

import time

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedrnn.config import RunConfig
from fedrnn.federation.dealing import deal
from fedrnn.federation.server_app import federate
from fedrnn.learning.checkpoint import save
from fedrnn.learning.embedded import share

COMING_SECONDS = 1.0

app = ServerApp()


def _nodes(grid: Grid) -> list[int]:
    """Return the nodes of ``grid`` once no more of them come: Flower starts us before them."""
    nodes: list[int] = []
    while not nodes or len(list(grid.get_node_ids())) > len(nodes):
        nodes = list(grid.get_node_ids())
        time.sleep(COMING_SECONDS)
    return nodes


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run under ``flwr run``: the run's configuration is a ``RunConfig``, ``out`` the folder.

    With ``split`` ``own``, nodes have data of their own; with another, those of Flower's simulation
    are dealt the embedded names.
    """
    values = dict(context.run_config)
    out = str(values.pop("out", "model"))
    config = RunConfig.from_dict(values)
    nodes = _nodes(grid)
    shares = [] if config.split == "own" else share(config.split, len(nodes), config.data_seed)
    with deal(context.run_id, nodes if shares else [], shares):
        outcome = federate(grid, config)
    save(out, outcome.weights, outcome.model)
