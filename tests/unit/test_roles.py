"""Each role says the same of its variables in defaults, argument_specs and README."""

import re
from pathlib import Path

import pytest
import yaml

from fedrnn.cluster import TRAINING
from fedrnn.datasite.layout import job_key
from fedrnn.member import AGAIN, MAX_JOBS

ROOT = Path(__file__).parents[2]
ROLES = sorted(p.parent.parent for p in ROOT.glob("roles/*/tasks/main.yml"))


def load(path):
    return yaml.safe_load(path.read_text()) if path.exists() else {}


def specs(role):
    return load(role / "meta/argument_specs.yml")["argument_specs"]["main"].get("options", {})


@pytest.mark.parametrize("role", ROLES, ids=lambda p: p.name)
def test_defaults_and_argument_specs_agree(role):
    defaults = load(role / "defaults/main.yml") or {}
    options = specs(role)
    assert set(defaults) == {name for name, spec in options.items() if not spec.get("required")}
    for name, value in defaults.items():
        assert options[name].get("default") == value, name
        assert options[name]["description"], name


@pytest.mark.parametrize("role", ROLES, ids=lambda p: p.name)
def test_readme_lists_every_variable(role):
    rows = re.findall(r"(?m)^\| `([a-z_]+)` \|", (role / "README.md").read_text())
    assert sorted(rows) == sorted(specs(role))


@pytest.mark.parametrize("role", ROLES, ids=lambda p: p.name)
def test_variables_carry_the_name_of_their_role(role):
    assert [name for name in specs(role) if not name.startswith(f"{role.name}_")] == []


def test_an_address_that_the_role_takes_leaves_room_for_a_runs_last_job():
    takes = re.compile(load(ROOT / "roles/pysyft/vars/main.yml")["pysyft_sender"]).match
    job = f"{TRAINING}20260131-120000-123456{AGAIN}{MAX_JOBS}"
    longest = max(filter(takes, (f"{'a' * 32}@{'b' * n}" for n in range(1, 33))), key=len)
    assert len(longest) == 40 and takes("controller@lab.local")
    assert job_key(longest, job)
