"""Which engine is asked for, and what is refused before anything begins."""

from contextlib import ExitStack

import pytest

from fedrnn.arguments import parse
from fedrnn.plan import make_plan
from fedrnn.run import main

SIMULATION = ["--engine", "simulation"]
SUPERLINK = ["--engine", "superlink"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (SIMULATION, "say how many by --local N"),
        (SUPERLINK, "--without-governance says that you know"),
        ([*SUPERLINK, "--without-governance", "--local", "3"], "not on --local"),
        ([*SUPERLINK, "--without-governance", "--compare"], "compare by --local N"),
        (["--without-governance"], "belongs to that engine alone"),
        (["--local", "3", "--without-governance"], "belongs to that engine alone"),
    ],
)
def test_what_does_not_go_together_is_refused_in_a_sentence(words, sentence, capsys):
    with pytest.raises(SystemExit) as ended:
        parse(words)
    assert ended.value.code == 2 and sentence in " ".join(capsys.readouterr().err.split())


def test_simulated_nodes_take_turns_and_are_given_the_time():
    with ExitStack() as stack:
        words = [*SIMULATION, "--local", "1000", "--split", "dirichlet:0.1:200"]
        plan = make_plan(parse([*words, "--set", "sample=0.1"]), stack)
    assert plan.engine == "simulation" and plan.links == {}
    assert len(plan.names) == len(plan.held) == 1000 and plan.config.sample == 0.1
    assert plan.config.timeout > 1000 and plan.asked["timeout"] == 60


def test_more_nodes_than_there_are_languages_are_refused(capsys):
    assert main([*SIMULATION, "--local", "19"]) == 2
    assert "1 to 18 nodes" in capsys.readouterr().err


def test_without_ray_it_says_what_to_type(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main([*SIMULATION, "--local", "3", "--quiet"]) == 1
    assert "make simulation" in capsys.readouterr().err


def test_who_has_no_supernode_is_not_waited_for(tmp_path):
    (tmp_path / "hosts.yml").write_text(
        "nodes: {hosts: {pi1: {}, pi2: {}, pi3: {}}, vars: {flower_superlink: '127.0.0.1:9'}}\n"
    )
    papers = tmp_path / "keys" / "flower"
    papers.mkdir(parents=True)
    for name in ("pi1", "pi3"):
        (papers / f"{name}.pub").touch()
    words = [*SUPERLINK, "--without-governance", "--inventory", str(tmp_path)]
    with ExitStack() as stack:
        assert make_plan(parse(words), stack).names == ["pi1", "pi3"]
        assert make_plan(parse([*words, "--nodes", "pi2"]), stack).names == ["pi2"]
        (papers / "pi1.pub").unlink()
        (papers / "pi3.pub").unlink()
        assert make_plan(parse(words), stack).names == ["pi1", "pi2", "pi3"]  # and told what to run


@pytest.mark.parametrize("where", ["", "192.0.2.1", "192.0.2.1:", "here:x"])
def test_an_inventory_that_does_not_say_where_the_superlink_is(tmp_path, capsys, where):
    (tmp_path / "hosts.yml").write_text(
        f"nodes: {{hosts: {{pi1: {{}}}}, vars: {{flower_superlink: '{where}'}}}}\n"
    )
    words = [*SUPERLINK, "--without-governance", "--inventory", str(tmp_path)]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "needs flower_superlink in the inventory" in said and f"has '{where}'" in said
