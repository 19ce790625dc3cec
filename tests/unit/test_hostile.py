"""Replies that no honest node sends: left out, counted, named, and the run goes on."""

import pickle
import threading
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message
from flwr.serverapp.exception import InconsistentMessageReplies
from flwr.serverapp.strategy import FedAvg
from negated import negate

from fedrnn.config import RunConfig
from fedrnn.federation import watch
from fedrnn.federation.codec import pack
from fedrnn.federation.server_app import federate
from fedrnn.federation.strategies import FederationError

SMALL = RunConfig(rounds=6, hidden=8, embedding=6, batch=96, local_batch=32, evaluate_every=3)
THREE = (["Finnish", "Greek"], ["Polish"], ["Georgian"])
NAMES = {1: "pi1", 2: "pi2", 3: "pi3"}


def filled(value, dtype=np.float32):
    """Return what fills the arrays of a reply with one number."""

    def spoil(content):
        for name in set(content["arrays"]) - {"values"}:
            shape = content["arrays"][name].numpy().shape
            content["arrays"][name] = Array(np.full(shape, value, dtype))

    return spoil


def put(kind, name, value):
    return lambda content: content[kind].__setitem__(name, value)


def one_of(content):
    return next(name for name in sorted(content["arrays"]) if name != "values")


def reshaped(content):
    name = one_of(content)
    content["arrays"][name] = Array(np.zeros(np.array(content["arrays"][name].shape) + 1))


def missing(content):
    del content["arrays"][one_of(content)]


def with_data(data, shape=None):
    """An array whose bytes are these."""

    def spoil(content):
        name = one_of(content)
        old = content["arrays"][name]
        content["arrays"][name] = Array(old.dtype, shape or old.shape, old.stype, data)

    return spoil


HUGE = (
    b"\x93NUMPY\x01\x00\x76\x00"
    + b"{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,), }".ljust(117)
    + b"\n"
)
SPOILT = {
    "NaN": filled(np.nan),
    "infinity": filled(-np.inf),
    "1e30": filled(1e30),
    "1e18 in whole numbers": filled(10**18, np.int64),
    "another shape": reshaped,
    "another type": filled(1, np.int8),
    "text": lambda content: content["arrays"].__setitem__(
        one_of(content), Array(np.array(["x"] * 4))
    ),
    "a tensor is missing": missing,
    "no arrays": lambda content: content.pop("arrays"),
    "no metrics": lambda content: content.pop("metrics"),
    "metrics that are arrays": lambda content: content.__setitem__("metrics", ArrayRecord({})),
    "settings for arrays": lambda content: content.__setitem__("arrays", ConfigRecord({"x": 1})),
    "a pickle": with_data(pickle.dumps(np.ones(4))),
    "a terabyte announced": with_data(HUGE, (1 << 40,)),
    "a megabyte too much": with_data(bytes(1 << 20)),
    "nothing": with_data(b""),
    "a loss of 1e30": put("metrics", "loss", 1e30),
    "a loss below zero": put("metrics", "loss", -1.0),
    "a list as a loss": put("metrics", "loss", [1.0]),
    "more names than it has": put("metrics", "num-examples", 10**9),
    "no name at all": put("metrics", "num-examples", 0),
    "fewer than no names": put("metrics", "num-examples", -5),
    "figures of its own": lambda content: content["metrics"].update({"\x1b[2J": 1, "x": 2}),
    "half a name": put("metrics", "num-examples", 20.5),
    "that it lacks the weights it was sent": put("metrics", "stale", 1),
    "a list among the metrics": put("metrics", "rss-mb", [1.0, 2.0]),
}


def lie(grid, spoil, kind="train", times=10**6):
    """Have node 2 spoil its replies to messages of a kind, so often; return the bill."""
    told = []

    def tamper(message, reply):
        mine = message.metadata.message_type.startswith(kind)
        if mine and message.metadata.dst_node_id == 2 and len(told) < times:
            told.append(message)
            spoil(reply.content)
        return reply

    grid.tamper = tamper
    return told


@pytest.mark.parametrize("strategy", ["gradient", "fedavg"])
@pytest.mark.parametrize("what", SPOILT)
def test_it_is_left_out_counted_and_named_and_the_run_goes_on(make_grid, strategy, what):
    grid, events = make_grid(*THREE), []
    told = lie(grid, SPOILT[what], times=2)
    outcome = federate(grid, replace(SMALL, strategy=strategy), events.append, NAMES)
    rounds = [event for event in events if event["event"] == "round"]
    assert len(told) == 2 and outcome.dropped == {"pi2": 2}
    assert [list(event["errors"]) for event in rounds] == [["pi2"]] * 2 + [[]] * 4
    assert all(("pi2" in event["nodes"]) == (event["round"] > 2) for event in rounds)
    assert all(e["errors"]["pi2"].startswith("its update was dropped: ") for e in rounds[:2])
    assert outcome.rounds == 6 and np.isfinite(outcome.weights).all()
    assert np.abs(outcome.weights).max() < 100


def test_a_node_that_says_it_cannot_answer_and_answers_is_dropped(make_grid):
    grid, events = make_grid(*THREE), []

    def tamper(message, reply):
        config = message.content.config_records["config"]
        if message.metadata.dst_node_id == 2 and config.get("base") == 2:
            reply.content["metrics"]["stale"] = 1
            del reply.content["metrics"]["num-examples"]
        return reply

    grid.tamper = tamper
    outcome = federate(grid, SMALL, events.append, NAMES)
    rounds = [event for event in events if event["event"] == "round"]
    assert outcome.dropped == {"pi2": 1} and list(rounds[2]["errors"]) == ["pi2"]


def test_a_node_does_not_choose_its_own_weight(make_grid):
    grid, events = make_grid(*THREE), []

    def tamper(message, reply):
        if message.metadata.message_type.startswith("train") and message.metadata.dst_node_id == 2:
            batch = message.content["config"]["batch"]
            reply.content["metrics"]["num-examples"] = 2 * batch + 1
        return reply

    grid.tamper = tamper
    outcome = federate(grid, SMALL, events.append, NAMES)
    told = [event["errors"]["pi2"] for event in events if event["event"] == "round"]
    assert outcome.dropped == {"pi2": 6} and all("and was asked for" in why for why in told), told


def test_what_flowers_own_strategy_refuses_keeps_what_there_is(make_grid, monkeypatch):
    def refuse(self, server_round, replies):
        raise InconsistentMessageReplies("made up")

    monkeypatch.setattr(FedAvg, "aggregate_train", refuse)
    with pytest.raises(FederationError, match="made up") as caught:
        federate(make_grid(*THREE), replace(SMALL, strategy="fedavg"), names=NAMES)
    assert caught.value.outcome is not None


def test_nodes_without_enough_names_are_left_out_where_so_many_others_are_left(make_grid):
    grid, events = make_grid(*THREE), []

    def tamper(message, reply):
        if message.metadata.message_type == "query" and message.metadata.dst_node_id == 2:
            reply.content["metrics"]["train"] = [3] * len(reply.content["metrics"]["train"])
        return reply

    grid.tamper = tamper
    with pytest.raises(FederationError, match=r"can take part:\n  pi2: it has \d names to train"):
        federate(grid, SMALL, names=NAMES)
    with pytest.raises(FederationError, match=r"can take part, and --min-nodes is 3:\n  pi2"):
        federate(grid, SMALL, names=NAMES, min_nodes=3)
    outcome = federate(grid, SMALL, events.append, NAMES, min_nodes=2)
    rounds = [event for event in events if event["event"] == "round"]
    assert outcome.rounds == 6 and set(outcome.counts) == {"pi1", "pi3"}
    assert all("it has" in event["errors"]["pi2"] for event in rounds)
    assert {n for event in rounds for n in event["nodes"]} == {"pi1", "pi3"}


def test_what_is_dropped_leaves_no_trace_in_the_model(make_grid):
    """The model is that of a run in which the answers were lost."""
    grid = make_grid(*THREE)
    lie(grid, SPOILT["1e30"])
    spoilt = federate(grid, SMALL, names=NAMES).weights
    for node in grid.folders:
        grid.restart(node)

    def lose(message, reply):
        update = message.metadata.message_type.startswith("train")
        return None if update and message.metadata.dst_node_id == 2 else reply

    grid.tamper = lose
    assert federate(grid, SMALL, names=NAMES).weights.tobytes() == spoilt.tobytes()


VALUES = {
    "garbage": np.zeros(50, np.uint8),
    "too few": pack(np.zeros(10, np.int8)),
    "too many": pack(np.zeros(10**7, np.int8)),
    "floats": np.ones(50, np.float64),
}


@pytest.mark.parametrize("what", VALUES)
def test_values_that_cannot_be_unpacked_are_dropped(make_grid, what):
    grid = make_grid(*THREE)
    lie(grid, put("arrays", "values", Array(VALUES[what])), times=1)
    assert federate(grid, SMALL, names=NAMES).dropped == {"pi2": 1}


COUNTS = {
    "no matrix": lambda content: content["metrics"].pop("confusion"),
    "another matrix": put("metrics", "confusion", [1, 2, 3]),
    "less than nothing": put("metrics", "confusion", [-1] * 16),
    "more than all": put("metrics", "confusion", [2**62] * 16),
    "figures of its own": put("metrics", "x", 1),
    "no calibration": put("metrics", "calibration", [float("nan")] * 45),
    "a loss of NaN": put("metrics", "loss-sum", float("nan")),
    "a loss below zero": put("metrics", "loss-sum", -1.0),
    "a list as a loss": put("metrics", "loss-sum", [1.0]),
    "a list among the figures": put("metrics", "rss-mb", [1.0, 2.0]),
    "a number for a list": put("metrics", "confusion", 7),
}


@pytest.mark.parametrize("what", COUNTS)
def test_an_evaluation_that_cannot_be_is_left_out_and_counted(make_grid, what):
    grid = make_grid(*THREE)
    lie(grid, COUNTS[what], "evaluate")
    outcome = federate(grid, SMALL, names=NAMES)
    assert outcome.dropped == {"pi2": 3} and set(outcome.scores) == {"pi1", "pi3"}
    assert 0 <= outcome.accuracy <= 1


CENSUS = {
    "no labels": lambda content: content.pop("config"),
    "more labels than there are": put("config", "labels", [str(n) for n in range(60_000)]),
    "a label of a megabyte": put("config", "labels", ["A" * (1 << 20)]),
    "figures of its own": put("metrics", "x", 1),
    "a label twice": put("config", "labels", ["A", "A"]),
    "a list among the figures": put("metrics", "rss-mb", [1.0, 2.0]),
    "counts of less": put("metrics", "train", [-3]),
    "counts of others": put("metrics", "test", [1, 2, 3, 4, 5]),
}


@pytest.mark.parametrize("what", CENSUS)
def test_a_census_that_cannot_be_ends_the_run_with_the_nodes_name(make_grid, what):
    grid = make_grid(*THREE)
    lie(grid, CENSUS[what], "query")
    with pytest.raises(FederationError, match=r"not every node can take part:\n  pi2: its"):
        federate(grid, SMALL, names=NAMES)


def test_more_labels_than_can_be_counted_by_two_are_refused(make_grid, monkeypatch):
    monkeypatch.setattr("fedrnn.federation.census.MAX_LABELS", 3)
    with pytest.raises(FederationError, match="have 4 labels together, and at most 3 may be"):
        federate(make_grid(*THREE), SMALL, names=NAMES)


def test_what_a_node_says_moves_no_cursor_and_fills_no_screen(make_grid):
    grid = make_grid(*THREE)
    grid.tamper = lambda message, reply: (
        Message(Error(8, "\x1b[2J" + "x" * 10**6), reply_to=message)
        if message.metadata.message_type.startswith("train")
        else reply
    )
    with pytest.raises(FederationError) as caught:
        federate(grid, SMALL, names=NAMES)
    assert "\x1b" not in str(caught.value) and len(str(caught.value)) < 2000


def test_fewer_nodes_than_asked_for_end_the_run_and_keep_what_there_is(make_grid, monkeypatch):
    monkeypatch.setattr(watch, "PATIENCE_SECONDS", 0.3)
    grid = make_grid(*THREE)

    def observe(event):
        if event.get("round") == 2:
            grid.down = {2, 3}

    with pytest.raises(FederationError, match=r"only pi1 can take part of .*--min-nodes is 2"):
        federate(grid, SMALL, observe, NAMES, min_nodes=2)
    grid.down = set()
    lie(grid, SPOILT["NaN"])
    with pytest.raises(FederationError, match="2 nodes answered, and --min-nodes is 3") as caught:
        federate(grid, SMALL, names=NAMES, min_nodes=3)
    assert "pi2: its update was dropped" in str(caught.value)


def test_nodes_that_are_back_in_time_are_waited_for(make_grid):
    grid = make_grid(*THREE)

    def observe(event):
        if event.get("round") == 2 and event["event"] == "round":
            grid.down = {1, 2, 3}
            threading.Timer(0.5, lambda: setattr(grid, "down", set())).start()

    assert federate(grid, SMALL, observe, NAMES, min_nodes=3).rounds == 6


FIVE = [["Finnish", "Greek", "Polish", "Georgian"]] * 5


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["krum", "fedmedian"])
def test_robust_strategies_stand_one_node_of_five_that_sends_the_negative(make_grid, strategy):
    grid, given = (
        make_grid(*FIVE, count=100),
        replace(SMALL, strategy=strategy, rounds=8, options={}),
    )
    undisturbed = federate(grid, given)
    for factor in (1.0, 6.0):
        grid.tamper = negate(5, factor)
        assert federate(grid, given).accuracy > undisturbed.accuracy - 0.03
    plain = federate(grid, replace(given, strategy="fedavg", options={}))
    assert plain.accuracy < undisturbed.accuracy - 0.1, "the attack does not bite"
