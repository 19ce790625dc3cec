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
from numpy.typing import NDArray

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


_STATE: dict[str, dict[str, type]] = {
    "fedavg": {},
    "fedprox": {},
    "fedavgm": {"momentum_vector": list},
    "fedadam": {"m_t": dict, "v_t": dict},
    "fedyogi": {"m_t": dict, "v_t": dict},
    "fedmedian": {},
    "fedtrimmedavg": {},
    "krum": {},
    "multikrum": {},
}
"""The public attributes in which Flower's strategies keep arrays from round to round."""


def state_of(name: str, strategy: Strategy) -> dict[str, NDArray[Any]]:
    """Return what the strategy ``name`` keeps from round to round, beside the weights."""
    if isinstance(strategy, GradientStrategy):
        return strategy.state()
    state: dict[str, NDArray[Any]] = {}
    for attribute in _STATE[name]:
        kept = getattr(strategy, attribute) or {}  # None before the first round
        items = kept.items() if isinstance(kept, Mapping) else enumerate(kept)
        state |= {f"{attribute}/{key}": value for key, value in items}
    return state


def restore(name: str, strategy: Strategy, state: Mapping[str, NDArray[Any]]) -> None:
    """Have the strategy ``name`` go on from what ``state_of`` has returned.

    Raises:
        KeyError: the state is not that of such a strategy.
    """
    if isinstance(strategy, GradientStrategy):
        strategy.restore(state)
        return
    for attribute, kind in _STATE[name].items():
        prefix = f"{attribute}/"
        kept = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        if kept:
            ordered = [kept[str(number)] for number in range(len(kept))] if kind is list else kept
            setattr(strategy, attribute, ordered)


def make_strategy(
    shapes: Shapes,
    rows: Mapping[int, int],
    config: RunConfig,
    node_config: ConfigRecord,
    drop: Callable[[int, str], None] | None = None,
) -> Strategy:
    """Return the strategy named in ``config`` for nodes with training ``rows`` by node id.

    ``drop`` is as in ``GradientStrategy``.
    """
    if config.strategy == "gradient":
        return GradientStrategy(shapes, rows, config, node_config, drop)
    options: dict[str, Any] = dict(config.options)
    # One node is enough for it to go on: with fewer than its minimum, Flower waits for ever.
    return _FLOWERS[config.strategy](
        fraction_evaluate=0.0, min_train_nodes=1, min_available_nodes=1, **options
    )
