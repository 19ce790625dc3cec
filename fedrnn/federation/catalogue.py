"""Every strategy by its name: ours, and Flower's own with settings under which they learn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flwr.app import ConfigRecord
from flwr.serverapp.strategy import (
    FedAdam,
    FedAvg,
    FedAvgM,
    FedMedian,
    FedProx,
    FedTrimmedAvg,
    FedYogi,
    Krum,
    MultiKrum,
    Strategy,
)

from fedrnn.config import RunConfig
from fedrnn.federation.strategies import GradientStrategy, Shapes

_FLOWERS: dict[str, Callable[..., FedAvg]] = {
    "fedavg": FedAvg,
    "fedprox": FedProx,
    "fedavgm": FedAvgM,
    "fedadam": FedAdam,
    "fedyogi": FedYogi,
    "fedmedian": FedMedian,
    "fedtrimmedavg": FedTrimmedAvg,
    "krum": Krum,
    "multikrum": MultiKrum,
}


def make_strategy(
    shapes: Shapes, rows: Mapping[int, int], config: RunConfig, node_config: ConfigRecord
) -> Strategy:
    """Return the strategy named in ``config`` for nodes with training ``rows`` by node id."""
    if config.strategy == "gradient":
        return GradientStrategy(shapes, rows, config, node_config)
    options: dict[str, Any] = dict(config.options)
    # One node is enough for it to go on: with fewer than its minimum, Flower waits for ever.
    return _FLOWERS[config.strategy](
        fraction_evaluate=0.0, min_train_nodes=1, min_available_nodes=1, **options
    )
