"""site.yml as a whole: it comes to an end, and then has nothing left to do."""

from __future__ import annotations

import pytest
from cluster import Lab, ansible_playbook, must


@pytest.mark.parametrize("arguments", [["site.yml"], ["--check", "site.yml"]], ids=" ".join)
def test_site_changes_nothing_once_it_ran(lab: Lab, arguments: list[str]) -> None:
    run = must(ansible_playbook(*arguments))
    assert set(run.changed.values()) == {0}, run.changed
