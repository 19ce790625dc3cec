"""Where a run trains: behind SSH and PySyft's jobs, in Flower's simulation, on its SuperNodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flwr.serverapp import Grid

from fedrnn.federation.outcome import Outcome
from fedrnn.transport.attachment import Traffic


def _by_their_own_word(outcome: Outcome) -> dict[str, Any]:
    """Return the memory that the nodes' processes have told; there is no job to end."""
    memory = {name: {"client app": mb} for name, mb in outcome.rss_mb.items()}
    return {"memory_mb": {name: memory.get(name) for name in outcome.counts}, "jobs": {}}


@dataclass
class Engine:
    """What a run needs of the engine that carries it.

    ``names`` are the nodes' names by their ids in ``grid``. ``manifest`` says for the run's folder
    what the engine knows of the nodes; it has at least ``job`` and ``sha256``, the training code.
    ``measure`` is called once, at the end: it ends the jobs and returns ``memory_mb`` (MB by
    process, by node) and ``jobs`` (how each ended). ``traffic`` is by node, none where the engine
    does not count; ``rows`` are names by node and label, known before the first round.
    """

    grid: Grid
    names: Mapping[int, str]
    manifest: dict[str, Any]
    rows: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    traffic: Callable[[], dict[str, Traffic]] = dict
    measure: Callable[[Outcome], dict[str, Any]] = _by_their_own_word
