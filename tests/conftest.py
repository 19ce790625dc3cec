"""The lab of a worker of pytest-xdist, which tests it takes together, and which it takes first."""

from __future__ import annotations

from pathlib import Path

import labs
import pytest
from cluster import Lab
from xdist.scheduler import LoadScopeScheduling

# Files whose tests stay together: they look at what the others have left, or compare with one run.
TOGETHER = {
    "test_site": "test_provision",
    "test_controller": "faults", "test_network": "faults", "test_workers": "faults",
}  # fmt: skip
# The longest groups start first, so that no worker ends long after the others. The second to the
# fifth need no lab: they run while the image is made.
FIRST = (
    "test_provision", "test_local", "test_cores", "test_resumed", "test_sdcard", "test_training",
    "test_governance", "test_attacks_from_outside", "test_bare", "test_node_failures", "faults",
)  # fmt: skip


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


@pytest.hookimpl(optionalhook=True)  # without xdist nobody schedules
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByGroup:
    return ByGroup(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {name: number for number, name in enumerate(FIRST)}
    items.sort(key=lambda item: rank.get(group(item.nodeid), len(rank)))
