"""The lab of a worker of pytest-xdist, which tests it takes together, and which it takes first."""

from __future__ import annotations

from pathlib import Path

import labs
import pytest
from cluster import Lab
from xdist.scheduler import LoadScopeScheduling

# Files whose tests must not run side by side: they look at the same processes, at what the others
# have left, or compare with the same run.
TOGETHER = {
    "test_simulation": "flower", "test_superlink": "flower", "test_site": "test_provision",
    "test_controller": "faults", "test_network": "faults", "test_workers": "faults",
}  # fmt: skip
# What takes longest begins first, so that no worker is left alone with it. The second and third
# need no lab: they run while the first one's nodes are provisioned.
FIRST = ("test_provision", "flower", "test_local", "faults", "test_training", "test_governance")


@pytest.fixture(scope="session")
def lab() -> Lab:
    """The whole cluster as site.yml leaves it."""
    return labs.start()


def group(test: str) -> str:
    """What a test, named by file and parameters, belongs to: its file; in tests/roles its node."""
    file, _, rest = test.partition("::")
    if "/roles/" in file:  # one connection for each node
        return rest.partition("[")[2].partition("-")[0].rstrip("]")
    return TOGETHER.get(Path(file).stem, Path(file).stem)


class ByGroup(LoadScopeScheduling):
    """Give each group of tests to one worker."""

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByGroup:
    return ByGroup(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {name: number for number, name in enumerate(FIRST)}
    items.sort(key=lambda item: rank.get(group(item.nodeid), len(rank)))
