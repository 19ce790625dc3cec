"""The app does not see which grid carries it: ours over sockets, or Flower's own."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from flower import NodeApp, flowers_grid
from flwr.app import Context, RecordDict
from flwr.serverapp import Grid

from fedrnn.config import RunConfig
from fedrnn.federation.outcome import Outcome
from fedrnn.federation.server_app import federate
from fedrnn.federation.strategies import FederationError
from fedrnn.learning.embedded import share, write_names
from fedrnn.transport import lent
from fedrnn.transport.lent import LentGrid

NODES = 3
SMALL = {"hidden": 8, "embedding": 8, "evaluate_every": 2, "split": "iid", "timeout": 30.0}
GRADIENT = RunConfig(rounds=5, batch=192, checkpoint_every=3, **SMALL)
FEDAVG = RunConfig(strategy="fedavg", rounds=2, **SMALL)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> list[Path]:
    """Two languages on every node: what is carried matters here, not what is learnt."""
    place, made = tmp_path_factory.mktemp("data"), []
    for number, part in enumerate(share("iid", NODES, 0)):
        write_names(place / str(number), {label: part[label][:200] for label in ("Greek", "Zulu")})
        made.append(place / str(number))
    return made


def over_ours(federation, config: RunConfig, folders: list[Path]) -> Outcome:
    nodes = federation(*(NodeApp(lambda message, own=folder: own) for folder in folders))
    return federate(nodes.grid, config)


def over_flowers(
    config: RunConfig, folders: list[Path], lend: Path | None = None
) -> tuple[Outcome, list[int]]:
    seen: list[int] = []

    def app_for(ids: list[int]) -> NodeApp:
        of = dict(zip(ids, folders, strict=True))

        def folder_of(message) -> Path:
            seen.append(message.metadata.dst_node_id)
            return of[message.metadata.dst_node_id]

        return NodeApp(folder_of)

    with flowers_grid(NODES, app_for) as grid:
        if lend is None:
            return federate(grid, config), seen
        with lent_grid(grid, lend) as borrowed:
            return federate(borrowed, config), seen


@contextmanager
def lent_grid(grid: Grid, path: Path) -> Iterator[LentGrid]:
    """What `--engine superlink` does: the ServerApp lends its grid over a socket.

    The nodes are numbered against the order of Flower's ids.
    """
    config = {"socket": str(path)}
    nodes = sorted(grid.get_node_ids(), reverse=True)
    context = Context(grid.run.run_id, 1, {}, RecordDict(), config)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        lender = threading.Thread(target=lent.main, args=(grid, context))
        lender.start()
        end, _ = server.accept()
        with end:
            borrowed = LentGrid(end, nodes, lambda: "; its last words")
            try:
                yield borrowed
            finally:
                borrowed.close()
    lender.join(10)
    assert not lender.is_alive()  # given back, the ServerApp ends


@pytest.mark.parametrize("config", [GRADIENT, FEDAVG], ids=lambda config: config.strategy)
def test_the_same_bits_come_of_our_grid_and_of_flowers(federation, folders, config):
    ours = over_ours(federation, config, folders)
    flowers, seen = over_flowers(config, folders)
    assert set(seen) != {1, 2, 3} and len(set(seen)) == NODES  # Flower's nodes, not ours
    np.testing.assert_array_equal(ours.weights, flowers.weights)
    assert ours.losses == flowers.losses and ours.validation == flowers.validation
    np.testing.assert_array_equal(ours.confusion, flowers.confusion)
    assert ours.losses[-1] < ours.losses[0]


def test_a_grid_that_is_lent_carries_the_same_bits(federation, folders, tmp_path):
    ours = over_ours(federation, GRADIENT, folders)
    lent, seen = over_flowers(GRADIENT, folders[::-1], tmp_path / "grid")
    assert set(seen) != {1, 2, 3} and len(set(seen)) == NODES
    np.testing.assert_array_equal(ours.weights, lent.weights)
    assert ours.validation == lent.validation


def test_a_server_app_that_dies_ends_the_run_with_what_it_had_reached(folders, tmp_path):
    with flowers_grid(NODES, lambda ids: NodeApp(lambda message: folders[0])) as grid:
        rounds, send_and_receive = [], grid.send_and_receive

        def dies(messages, *, timeout=None):
            if len(rounds) == 2:
                raise SystemExit  # as a process that is killed: no reply, and the socket ends
            return send_and_receive(messages, timeout=timeout)

        grid.send_and_receive = dies
        with (
            lent_grid(grid, tmp_path / "grid") as borrowed,
            pytest.raises(FederationError, match=r"has gone: .*; its last words") as stopped,
        ):
            federate(
                borrowed, GRADIENT, lambda e: rounds.append(e) if e["event"] == "round" else None
            )
    assert stopped.value.outcome.rounds == 2
    assert isinstance(stopped.value.__cause__.__cause__, ConnectionError)


def test_another_order_of_the_nodes_gives_other_bits(federation, folders):
    """What the test above would not notice, were the apps to ignore what they are sent."""
    ours = over_ours(federation, GRADIENT, folders)
    flowers, _ = over_flowers(GRADIENT, folders[::-1])
    assert (ours.weights != flowers.weights).any()
    np.testing.assert_allclose(ours.losses[0], flowers.losses[0], rtol=5e-2)
