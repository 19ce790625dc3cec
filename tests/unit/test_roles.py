"""Each role says the same of its variables in defaults, argument_specs and README."""

import re
from pathlib import Path

import pytest
import yaml

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
