"""The lab of this clone, and a run on it that nothing disturbs, to compare with."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Lab
from faults import Disturbed, inside
from labs import pytest_configure  # noqa: F401 - pytest finds it here

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == HERE and not item.get_closest_marker("quick"):
            item.add_marker(pytest.mark.apart)


@pytest.fixture(scope="session")
def undisturbed(lab: Lab) -> Disturbed:
    run = Disturbed()
    assert run.end() == 0, run.said
    return run


@pytest.fixture
def start(lab: Lab) -> Iterator:
    """Start a run; it has ended when the test has."""
    runs: list[Disturbed] = []

    def begin(*words: str) -> Disturbed:
        runs.append(Disturbed(*words))
        return runs[-1]

    yield begin
    for run in runs:
        run.process.send_signal(signal.SIGINT)  # where a test has failed, its jobs end as well
        with contextlib.suppress(subprocess.TimeoutExpired):
            run.process.wait(60)
        run.process.kill()


@pytest.fixture
def link(lab):
    """Cut a node off, and have it back in any case."""
    down = []

    def cut(node):
        down.append(node)
        inside(lab, node, "ip", "link", "set", "eth0", "down")

    def restore(node):
        inside(lab, node, "ip", "link", "set", "eth0", "up")

    yield cut, restore
    for node in down:
        restore(node)
