"""A run that was broken off goes on from its checkpoint, to the very same weights."""

import json
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedrnn import former
from fedrnn.config import STRATEGIES, RunConfig
from fedrnn.federation.catalogue import _STATE, make_strategy, restore, state_of
from fedrnn.federation.server_app import federate
from fedrnn.federation.state import Best, RunState
from fedrnn.federation.strategies import FederationError
from fedrnn.reporting import checkpoint

ROOT = Path(__file__).parents[2]
SMALL = RunConfig(
    rounds=9, hidden=8, embedding=6, batch=96, evaluate_every=3, checkpoint_every=4, local_batch=32
)
THREE = (["Finnish", "Greek"], ["Polish"], ["Georgian"])
NAMES = {1: "pi1", 2: "pi2", 3: "pi3"}


def write(folder, state, **rest):
    arrays, values = state.pack()
    checkpoint.write(folder, arrays, {**values, "rest": rest})


def whole_and_resumed(grid, config, tmp_path, spoil=lambda state: state, at=4):
    """Return the outcomes of a run, and of one that was taken up from its file after `at`."""
    kept = {}

    def keep(state, outcome):
        write(tmp_path, state)
        kept[state.round] = RunState.unpack(*checkpoint.read(tmp_path))

    whole = federate(grid, config, names=NAMES, keep=keep)
    for node in grid.folders:
        grid.restart(node)  # a resumed run's job is a new one
    events = []
    resumed = federate(grid, config, events.append, NAMES, None, spoil(kept[at]))
    assert next(e["round"] for e in events if e["event"] == "round") == at + 1
    return whole, resumed


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("at", [4, 8])
def test_a_resumed_run_comes_to_the_same_weights_and_figures(make_grid, tmp_path, strategy, at):
    config = replace(SMALL, strategy=strategy, options={})
    whole, resumed = whole_and_resumed(make_grid(*THREE), config, tmp_path, at=at)
    assert resumed.weights.tobytes() == whole.weights.tobytes()
    assert resumed.losses == whole.losses and resumed.validation == whole.validation
    assert (resumed.rounds, resumed.chosen) == (whole.rounds, whole.chosen)
    assert resumed.accuracy == whole.accuracy


@pytest.mark.parametrize("name", ["view", "mean", "square", "steps"])
def test_every_part_of_the_state_decides_the_weights(make_grid, tmp_path, name):
    def spoil(state):
        return replace(state, strategy={**state.strategy, name: 0 * state.strategy[name] + 1})

    whole, resumed = whole_and_resumed(make_grid(*THREE), SMALL, tmp_path, spoil)
    assert resumed.weights.tobytes() != whole.weights.tobytes()


def test_nodes_settle_what_they_owe_in_the_round_before_a_checkpoint_alone(make_grid):
    grid = make_grid(*THREE)
    federate(grid, SMALL, names=NAMES)
    told = {m.content["config"]["round"] for m in grid.sent
            if "settle" in m.content["config"]}  # fmt: skip
    assert told == {4, 8}


def test_the_state_of_every_strategy_is_known(make_grid):
    assert {"gradient", *_STATE} == set(STRATEGIES)
    with pytest.raises(KeyError):
        restore("gradient", make_strategy({"w": (2,)}, {1: 20}, SMALL, {}), {})
    assert state_of("fedavgm", make_strategy({}, {}, replace(SMALL, strategy="fedavgm"), {})) == {}


def test_other_data_is_refused_with_what_differs(make_grid, tmp_path):
    def others(state):
        counts = json.loads(json.dumps(state.counts))
        counts["pi2"]["train"]["Polish"] += 7
        counts["pi4"] = counts.pop("pi3")
        return replace(state, counts=counts)

    with pytest.raises(FederationError) as caught:
        whole_and_resumed(make_grid(*THREE), SMALL, tmp_path, others)
    lines = str(caught.value).splitlines()
    assert "after round 4" in lines[0] and len(lines) == 5
    assert "pi2 had" in lines[1] and "names of Polish" in lines[1]
    assert "pi3 did not take part before" in lines[2] and "pi4 took part before" in lines[3]


@pytest.fixture
def state():
    weights = {"a": np.arange(30_000, dtype=np.float64), "b": np.zeros((2, 3), np.float32)}
    counts = {"pi1": {"train": {"Greek": 20}}}
    best = Best(0.5, 3, np.ones(4, np.float32), ("pi1",))
    strategy = {"view": np.ones(4, np.float32)}
    history = [2.0, float("nan")], [(3, 0.5, 0.4)]
    return RunState(4, SMALL.to_dict(), weights, strategy, counts, best, *history, {})


REST = {"asked": {"local": 3}, "spent": {"bytes_up": 7}, "job": "train-1", "sha256": "ab"}


def test_a_checkpoint_comes_back_as_it_was(state, tmp_path):
    write(tmp_path, state, **REST)
    found = former.read(tmp_path)
    assert found.config == SMALL and found.job == "train-1" and found.nodes == ["pi1"]
    assert found.state.weights["a"].dtype == np.float64
    assert (found.state.weights["a"] == state.weights["a"]).all()
    best = found.state.best
    assert (best.accuracy, best.round, best.nodes) == (0.5, 3, ("pi1",))
    assert (best.weights == 1).all() and found.state.validation == [(3, 0.5, 0.4)]
    assert [file.name for file in tmp_path.iterdir()] == [checkpoint.NAME]


def test_the_jobs_of_attempts_to_go_on_are_known_until_the_run_has_ended(state, tmp_path):
    write(tmp_path, state, **REST)
    former.read(tmp_path).note("train-2")
    former.read(tmp_path).note("train-3")
    assert former.read(tmp_path).jobs == ["train-1", "train-2", "train-3"]
    checkpoint.remove(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_that_was_cut_short_is_not_read(state, tmp_path):
    write(tmp_path, state, **REST)
    file = tmp_path / checkpoint.NAME
    content = file.read_bytes()
    for size in (0, 7, 100, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:size])
        with pytest.raises(ValueError, match=f"{checkpoint.NAME} is damaged"):
            former.read(tmp_path)


def test_what_was_half_written_beside_is_not_read(state, tmp_path):
    write(tmp_path, state, **REST)
    (tmp_path / f".{checkpoint.NAME}.part").write_bytes(b"half")
    assert former.read(tmp_path).state.round == 4
    write(tmp_path, replace(state, round=8), **REST)
    assert former.read(tmp_path).state.round == 8


def test_a_folder_without_a_checkpoint_or_of_a_run_at_its_end_is_told(tmp_path):
    with pytest.raises(ValueError, match="has no checkpoint to resume from"):
        former.read(tmp_path)
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(ValueError, match="has come to its end: there is nothing to resume"):
        former.read(tmp_path)


def test_a_full_disk_leaves_the_checkpoint_before_whole(state, tmp_path):
    write(tmp_path, state, **REST)
    before = (tmp_path / checkpoint.NAME).read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OSError, match=checkpoint.NAME) as caught:
            write(tmp_path, replace(state, round=8), **REST)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.filename == str(tmp_path / checkpoint.NAME)
    assert (tmp_path / checkpoint.NAME).read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [checkpoint.NAME]
