import json
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import Context, Error, Message, RecordDict

from fedrnn.config import RunConfig
from fedrnn.federation.flower_server import main
from fedrnn.federation.server_app import federate
from fedrnn.federation.state import Best
from fedrnn.federation.strategies import FederationError
from fedrnn.learning import checkpoint
from fedrnn.learning.evaluation import worst

SMALL = RunConfig(rounds=60, hidden=16, embedding=8, batch=96, lr=3e-2, evaluate_every=20)
THREE = (["Finnish", "Greek"], ["Polish"], ["Georgian"])


def config(**changes):
    return RunConfig(**{**SMALL.to_dict(), **changes})


@pytest.fixture
def names():
    return {1: "pi1", 2: "pi2", 3: "pi3"}


def test_three_nodes_without_a_common_label_learn_and_report(make_grid, names, tmp_path):
    events = []
    outcome = federate(make_grid(*THREE), SMALL, events.append, names)
    assert outcome.accuracy > 0.95
    assert outcome.macro_recall > 0.95
    assert outcome.rounds == len(outcome.losses) == 60
    assert outcome.losses[-1] < 0.3 * outcome.losses[0]
    assert outcome.labels == ("Finnish", "Georgian", "Greek", "Polish")
    assert [round_ for round_, _, _ in outcome.validation] == [20, 40, 60]
    assert set(outcome.rss_mb) == set(outcome.rows) == set(names.values())

    json.dumps(events)  # plain values only
    kinds = [event["event"] for event in events]
    assert kinds[0] == "nodes"
    assert kinds.count("round") == 60
    assert [e["part"] for e in events if e["event"] == "evaluation"] == ["validation"] * 3 + [
        "test"
    ]
    node = events[0]["nodes"]["pi1"]
    assert node["rows"] == node["train"] + node["validation"] + node["test"]
    assert events[5]["nodes"]["pi3"]["compute_seconds"] > 0

    digest = checkpoint.save(tmp_path, outcome.weights, outcome.model, {"rounds": 60})
    loaded = checkpoint.load(tmp_path)
    assert digest == checkpoint.model_sha256(tmp_path)
    assert [row[0][0] for row in loaded.predict(["Koskinen", "Kowalski"])] == ["Finnish", "Polish"]
    assert sum(p for _, p in loaded.predict(["Koskinen"])[0]) == pytest.approx(1, abs=1e-5)
    assert len(worst(outcome.labels, outcome.confusion, 3)) == 3


def test_the_same_seed_gives_the_same_bits_and_another_does_not(make_grid, tmp_path):
    grid = make_grid(*THREE)

    def digest(seed):
        for node in grid.folders:
            grid.restart(node)
        outcome = federate(grid, config(rounds=6, seed=seed))
        return checkpoint.save(tmp_path / "model", outcome.weights, outcome.model)

    assert digest(3) == digest(3)
    assert digest(3) != digest(4)


def test_shuffled_labels_end_near_chance(make_grid):
    grid = make_grid(["Finnish", "Greek"], ["Polish", "Georgian"])
    draw = np.random.default_rng(0)
    for folder in grid.folders.values():
        files = sorted(folder.glob("*.txt"))
        lines = [line for file in files for line in file.read_text().splitlines()]
        draw.shuffle(lines)
        for number, file in enumerate(files):
            file.write_text("\n".join(lines[number::2]))
    outcome = federate(grid, SMALL)
    # Which node a name is from can be learnt, which of its two labels cannot: chance is a half.
    assert 0.3 < outcome.macro_recall < 0.7


def test_fedavg_runs_over_the_same_nodes(make_grid, names):
    events = []
    given = config(strategy="fedavg", rounds=4, local_batch=32, evaluate_every=2)
    outcome = federate(make_grid(["Greek", "Polish"], ["Greek", "Polish"]), given, events.append)
    assert outcome.accuracy > 0.9
    assert len(outcome.losses) == 4
    assert outcome.weights.dtype == np.float32


def test_two_spellings_of_one_label_stop_the_run_with_a_table(make_grid, names):
    grid = make_grid(["Greek"], ["Greek"], ["Polish"])
    (grid.folders[2] / "Greek.txt").rename(grid.folders[2] / "greek.txt")
    with pytest.raises(FederationError) as caught:
        federate(grid, SMALL, names=names)
    assert "'Greek'" in str(caught.value) and "pi1" in str(caught.value)
    assert "'greek'" in str(caught.value) and "pi2" in str(caught.value)
    assert "pi3" not in str(caught.value)
    assert caught.value.outcome is None


def test_a_node_whose_data_cannot_be_used_is_named_at_the_start(make_grid, names):
    grid = make_grid(*THREE)
    (grid.folders[2] / "Polish.txt").unlink()
    with pytest.raises(FederationError, match=r"pi2: data folder .* is empty"):
        federate(grid, SMALL, names=names)


def test_a_node_with_too_few_names_is_named_at_the_start(make_grid, names):
    grid = make_grid(*THREE)
    (grid.folders[2] / "Polish.txt").write_text("kowalski\nnowak\n")
    with pytest.raises(FederationError, match=r"pi2: it has [12] .* fewer than 16"):
        federate(grid, SMALL, names=names)


def test_no_node_at_all_is_an_error_not_an_endless_wait(make_grid, names, monkeypatch):
    monkeypatch.setattr("fedrnn.federation.watch.PATIENCE_SECONDS", 0.2)
    grid = make_grid(*THREE)
    grid.down = {1, 2, 3}
    with pytest.raises(FederationError, match="no node is connected of pi1, pi2, pi3"):
        federate(grid, SMALL, names=names)


@pytest.mark.parametrize("strategy", ["gradient", "fedavg"])
def test_a_round_without_a_reply_names_the_nodes_and_keeps_what_there_is(
    make_grid, names, strategy
):
    grid = make_grid(*THREE)

    def observe(event):
        if event["event"] == "round" and event["round"] == 2:
            grid.tamper = fail

    def fail(message, reply):
        if message.metadata.dst_node_id == 1:
            return None
        return Message(Error(8, "out of memory"), reply_to=message)

    with pytest.raises(FederationError) as caught:
        federate(grid, config(strategy=strategy, rounds=5), observe, names)
    assert "pi1: no answer within 60 s" in str(caught.value)
    assert "pi3: out of memory" in str(caught.value)
    assert caught.value.outcome.rounds == 2


def test_training_goes_on_without_a_node_that_fails(make_grid, names):
    grid = make_grid(*THREE)

    def observe(event):
        if event["event"] == "round":
            grid.down = {3} if 2 <= event["round"] < 5 else set()
            assert ("pi3" in event["nodes"]) == (not 3 <= event["round"] <= 5)

    outcome = federate(grid, config(rounds=8), observe, names)
    assert outcome.rounds == 8


def test_a_node_that_errs_is_told_and_the_others_go_on(make_grid, names):
    grid = make_grid(*THREE)
    events = []

    def fail(message, reply):
        bad = (
            message.metadata.message_type == "train.gradient" and message.metadata.dst_node_id == 2
        )
        return Message(Error(8, "disk full"), reply_to=message) if bad else reply

    grid.tamper = fail
    outcome = federate(grid, config(rounds=3), events.append, names)
    assert [e["errors"] for e in events if e["event"] == "round"] == [{"pi2": "disk full"}] * 3
    assert outcome.accuracy is not None


@pytest.mark.parametrize("strategy", ["gradient", "fedavg"])
def test_ctrl_c_keeps_the_last_finished_round(make_grid, strategy):
    def observe(event):
        if event["event"] == "round" and event["round"] == 3:
            raise KeyboardInterrupt

    outcome = federate(make_grid(*THREE), config(strategy=strategy, rounds=5), observe)
    assert outcome.interrupted
    assert outcome.rounds == 3
    assert outcome.accuracy is None
    assert outcome.weights.any()
    assert outcome.rss_mb


def test_a_damaged_or_missing_model_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"python -m fedrnn\.run"):
        checkpoint.load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"nonsense")
    (tmp_path / "config.json").write_text('{"labels": ["A"], "cell": "gru"}')
    with pytest.raises(ValueError, match="is damaged"):
        checkpoint.load(tmp_path)


def test_a_sample_takes_part_others_each_round_and_the_same_with_the_same_seed(make_grid):
    grid = make_grid(*[["Greek", "Polish"]] * 5)
    given = config(sample=0.4, rounds=12, evaluate_every=6, batch=64)

    def parts(config):
        for node in grid.folders:
            grid.restart(node)
        events = []
        outcome = federate(grid, config, events.append)
        took = [tuple(e["nodes"]) for e in events if e["event"] == "round"]
        judged = {e["nodes"] for e in events if e["event"] == "evaluation"}
        return took, judged, outcome, events

    took, judged, outcome, events = parts(given)
    assert all(len(nodes) == 2 for nodes in took) and len({n for t in took for n in t}) == 5
    assert len(set(took)) > 3 and judged == {5}  # all judge, whoever trained
    assert [tuple(e["drawn"]) for e in events if e["event"] == "round"] == took
    rows = [sum(n["num_examples"] for n in e["nodes"].values())
            for e in events if e["event"] == "round"]  # fmt: skip
    assert 48 <= sum(rows) / len(rows) <= 80  # a round's names are those of the sample
    again = parts(given)
    assert again[0] == took and (again[2].weights == outcome.weights).all()
    assert parts(config(**{**given.to_dict(), "seed": 1}))[0] != took


def test_a_node_that_was_not_drawn_gets_the_weights_in_full(make_grid):
    grid = make_grid(*[["Greek", "Polish"]] * 4)
    federate(grid, config(sample=0.5, rounds=8))
    rounds: dict[int, dict[int, int]] = {}
    for message in grid.sent:
        if message.metadata.message_type == "train.gradient":
            told = message.content["config"]
            rounds.setdefault(told["round"], {})[message.metadata.dst_node_id] = told["base"]
    seen = set()
    for number in range(2, 9):
        for node, base in rounds[number].items():
            was_there = node in rounds[number - 1]
            assert base == (number - 1 if was_there else 0)
            seen.add(was_there)
    assert seen == {True, False}


@pytest.mark.parametrize("strategy", ["fedavg", "fedmedian"])
def test_flowers_strategies_train_on_the_same_sample(make_grid, strategy):
    events = []
    given = config(strategy=strategy, sample=0.5, rounds=3, local_batch=32)
    federate(make_grid(*[["Greek", "Polish"]] * 4), given, events.append)
    assert [len(e["nodes"]) for e in events if e["event"] == "round"] == [2, 2, 2]


def test_a_sample_of_nodes_that_are_all_away_is_an_error(make_grid, names, monkeypatch):
    grid = make_grid(*THREE)

    def observe(event):
        if event["event"] == "round":
            grid.down = {1, 2, 3} - set(list(names)[:1])

    with pytest.raises(FederationError, match=r"none of those that were drawn .* pi[23]"):
        federate(grid, config(sample=0.34, rounds=20), observe, names)


def test_the_server_app_runs_from_flowers_own_configuration(make_grid, tmp_path, monkeypatch):
    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "flower"))
    values = {k: v for k, v in SMALL.to_dict().items() if k != "nodes"} | {"rounds": 2}
    context = Context(1, 0, {}, RecordDict(), {**values, "out": str(tmp_path / "model")})
    main(make_grid(*THREE), context)
    assert len(checkpoint.load(tmp_path / "model").config.labels) == 4
    assert not list((tmp_path / "flower" / "fedrnn").iterdir())  # what was dealt is taken back


def test_what_fewer_nodes_say_of_a_round_does_not_make_it_the_best():
    """With the hard names gone for a while, that round looks better than all later ones."""
    alone = Best(0.9, 4, np.zeros(1, np.float32), ("pi1",))
    assert alone.or_better(replace(alone, accuracy=0.8, round=8)) is alone
    assert alone.or_better(replace(alone, round=8)).round == 8
    both = replace(alone, accuracy=0.5, round=8, nodes=("pi1", "pi2"))
    assert alone.or_better(both) is both


def test_the_best_round_is_that_of_the_nodes_that_judge_at_the_end(make_grid, names):
    """The judge that is away at the end would have chosen another round."""
    grid, seen = make_grid(*THREE), {}

    def observe(event):
        if event["event"] == "round":
            grid.down = {1, 2} if event["round"] == 6 else set()
        elif event.get("part") == "validation":
            seen[event["round"]] = event["nodes"]

    outcome = federate(grid, config(rounds=6, evaluate_every=3), observe, names)
    assert seen == {3: 3, 6: 1} and outcome.chosen == 6
