"""The embedded names, dealt out to the nodes of Flower's simulation as files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from fedrnn.federation.flower_app import dealt
from fedrnn.learning.embedded import write_names


@contextmanager
def deal(
    run_id: int, nodes: Sequence[int], shares: Sequence[Mapping[str, Sequence[str]]]
) -> Iterator[None]:
    """Give each node of a run its share, in the order of node ids; take all back afterwards.

    Flower draws node ids by chance. In their order, the same shares give the same model.
    """
    folder = dealt(run_id)
    try:
        for node, share in zip(sorted(nodes), shares, strict=True):
            write_names(folder / str(node), share)
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
