"""The lab of this clone, made once per session by the playbooks that a user types."""

from __future__ import annotations

import pytest
from cluster import Lab, ansible_playbook, must


@pytest.fixture(scope="session")
def nodes() -> Lab:
    """Nodes that answer ssh; what roles make of them is not asked for."""
    must(ansible_playbook("playbooks/lab_up.yml"))
    return Lab()


@pytest.fixture(scope="session")
def lab() -> Lab:
    """The whole cluster as site.yml leaves it."""
    must(ansible_playbook("site.yml"))
    return Lab()
