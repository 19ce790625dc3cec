"""The commands that a report gives to do its run again."""

import pytest

from fedrnn.arguments import parse
from fedrnn.plan import _config
from fedrnn.reporting.commands import commands
from fedrnn.reporting.record import read
from tests.made_runs import edit, make_run


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "run")


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--nodes", "pi1,pi2"],
        ["--local", "4", "--rounds", "7", "--split", "iid", "--seed", "3"],
        [
            "--strategy",
            "fedadam",
            "--set",
            "eta=0.125",
            "--set",
            "local_epochs=2",
            "--hidden",
            "40",
        ],
        ["--hidden", "40", "--set", "logit_adjustment=0.2", "--model", "lstm", "--compare"],
        ["--min-nodes", "2"],
        ["--local", "40", "--engine", "simulation", "--set", "sample=0.5"],
        ["--local", "40", "--engine", "simulation", "--set", "timeout=20"],
        ["--engine", "superlink", "--without-governance", "--strategy", "fedavg"],
    ],
)
def test_the_commands_ask_for_the_same_run(run, words):
    asked = parse(words)
    nodes = [name for name in asked.nodes.split(",") if name]
    settings = {**_config(asked).to_dict(), "nodes": nodes}
    told = {name: getattr(asked, name) for name in ("local", "compare", "min_nodes", "engine")}

    def change(manifest):
        manifest["run"] = {**settings, "timeout": 77.0}  # as an engine has made it longer
        manifest["asked"].update(told, timeout=settings["timeout"])
        manifest["engine"] = asked.engine

    edit(run / "manifest.json", change)
    lines = commands(read(run))
    assert lines[0] == "git checkout " + 40 * "f"
    assert lines[1] == ("make simulation" if asked.engine == "simulation" else "make venv")
    assert lines[2] == "source .venv/bin/activate"
    assert ("ansible-playbook playbooks/flower.yml" in lines) == (asked.engine == "superlink")
    assert any("site.yml" in line for line in lines) == (asked.local is None)
    again = parse(lines[-1].removeprefix("python -m fedrnn.run").split())
    assert _config(again) == _config(asked) and again.nodes == asked.nodes
    assert {name: getattr(again, name) for name in told} == told


def test_another_inventory_is_in_the_commands(run):
    where = "/home/me/my cluster/inventory/home"
    edit(run / "manifest.json", lambda m: m["asked"].update(inventory=where))
    assert f"--inventory '{where}'" in commands(read(run))[-1]
