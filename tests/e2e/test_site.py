"""site.yml as a whole: it ends, and then has nothing left to do; and what would take it back."""

from __future__ import annotations

import pytest
from cluster import Lab, ansible_playbook, flat, must


@pytest.mark.parametrize("arguments", [["site.yml"], ["--check", "site.yml"]], ids=" ".join)
def test_site_changes_nothing_once_it_ran(lab: Lab, arguments: list[str]) -> None:
    run = must(ansible_playbook(*arguments))
    assert set(run.changed.values()) == {0}, run.changed


def test_reset_of_another_inventory_or_only_looked_at_takes_nothing_away(lab: Lab) -> None:
    wrong = ansible_playbook("-e", "confirm=home", "playbooks/reset.yml")
    assert wrong.rc != 0 and "You have named home, and this inventory is lab" in flat(wrong.text)
    looked = must(ansible_playbook("--check", "playbooks/reset.yml"))
    assert "/opt/fedrnn" in looked.text
    for run in (wrong, looked):
        assert set(run.changed.values()) == {0}, run.changed
    assert lab.ssh("pi1", "test -x /opt/fedrnn/venv/bin/python").returncode == 0
