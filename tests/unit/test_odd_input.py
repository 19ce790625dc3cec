"""Input that is odd, wrong or hostile: told by name, or taken as it is; never a crash."""

import json
import random

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord

from fedrnn.config import RunConfig
from fedrnn.federation import client_app
from fedrnn.federation.census import ADJUSTMENT, Census
from fedrnn.federation.server_app import federate
from fedrnn.federation.strategies import FederationError
from fedrnn.learning.checkpoint import Checkpoint, ModelConfig
from fedrnn.learning.data import counts, part, read_folder

SMALL = {"hidden": 8, "embedding": 6, "batch": 96, "lr": 3e-2, "local_batch": 32, "rounds": 6}
NAMES = {1: "pi1", 2: "pi2", 3: "pi3"}
THREE = (["Finnish", "Greek"], ["Polish"], ["Georgian"])


def spoil(grid, round_, node, what):
    """In one round, let what one node says not be a number."""
    seen = {"round": 0}

    def tamper(message, reply):
        kind, config = message.metadata.message_type, message.content["config"]
        if not kind.startswith("train") or message.metadata.dst_node_id != node:
            return reply
        seen["round"] += 1
        if config.get("round", config.get("server-round")) != round_:
            return reply
        if what == "lost":
            return None
        if what == "loss":
            reply.content["metrics"]["loss"] = float("nan")
        else:
            arrays = reply.content["arrays"]
            name = "scales" if "scales" in arrays else "output.bias"
            values = arrays[name].numpy().copy()
            values[0] = np.inf
            arrays[name] = Array(values)
        return reply

    grid.tamper = tamper


@pytest.mark.parametrize("strategy", ["gradient", "fedavg", "fedmedian", "fedadam"])
@pytest.mark.parametrize("what", ["loss", "arrays"])
def test_an_update_that_is_not_finite_is_dropped_told_and_counted(make_grid, strategy, what):
    grid, given = make_grid(*THREE), RunConfig(**SMALL, strategy=strategy)
    events = []
    spoil(grid, 3, 2, what)
    outcome = federate(grid, given, events.append, NAMES)
    errors = {e["round"]: e["errors"] for e in events if e["event"] == "round" and e["errors"]}
    assert list(errors) == [3] and list(errors[3]) == ["pi2"]
    assert errors[3]["pi2"].startswith("its update was dropped: ")
    assert outcome.dropped == {"pi2": 1}
    assert np.isfinite(outcome.weights).all() and np.isfinite(outcome.losses).all()
    # Dropped is dropped: the model is that of a run in which the answer was lost.
    for node in grid.folders:
        grid.restart(node)
    spoil(grid, 3, 2, "lost")
    assert (federate(grid, given, names=NAMES).weights == outcome.weights).all()


def test_a_node_itself_tells_that_its_training_has_diverged(make_grid):
    given = RunConfig(**{**SMALL, "local_lr": 1e38}, strategy="fedavg")
    with pytest.raises(FederationError) as caught:
        federate(make_grid(*THREE), given, names=NAMES)
    assert "pi1: its update was dropped: its loss is nan" in str(caught.value)
    assert caught.value.outcome.dropped == {"pi1": 1, "pi2": 1, "pi3": 1}
    assert np.isfinite(caught.value.outcome.weights).all()


def test_a_node_sends_no_gradient_that_is_not_finite(make_grid, monkeypatch):
    grid = make_grid(*THREE)

    def overflow(message, reply):
        if message.metadata.message_type == "train.gradient":
            assert "arrays" not in reply.content
            assert np.isnan(reply.content["metrics"]["loss"])
        return reply

    grid.tamper = overflow
    receive = client_app._receive
    monkeypatch.setattr(
        client_app, "_receive", lambda *given: tuple(a + np.inf for a in receive(*given))
    )
    with pytest.raises(FederationError, match="pi2: its update was dropped: its loss is nan"):
        federate(grid, RunConfig(**SMALL), names=NAMES)


@pytest.mark.parametrize("loss", [[1.0], float("inf")])
def test_a_loss_that_is_no_number_is_no_crash(make_grid, loss):
    grid = make_grid(*THREE)

    def lie(message, reply):
        if message.metadata.message_type == "train" and message.metadata.dst_node_id == 1:
            reply.content["metrics"]["loss"] = loss
        return reply

    grid.tamper = lie
    outcome = federate(grid, RunConfig(**SMALL, strategy="fedavg"), names=NAMES)
    assert outcome.dropped == {"pi1": 6}


def test_a_label_that_only_the_test_part_has_is_counted_as_missed(make_grid):
    grid = make_grid(["Greek"], ["Polish"], count=300)
    tested = [name for n in range(2000) if part(name := spelled(n), 0) == "test"][:20]
    (grid.folders[1] / "Zulu.txt").write_text("\n".join(tested))
    outcome = federate(grid, RunConfig(**SMALL))
    assert outcome.labels == ("Greek", "Polish", "Zulu")
    assert outcome.confusion[2].sum() == 20 and np.isfinite(outcome.losses).all()
    assert outcome.confusion[2, 2] < 20


def spelled(number):
    return "q" + "".join("abcdefghij"[int(digit)] for digit in str(number))


def census(**labels):
    return Census({1: {"train": labels, "validation": {}, "test": {}}})


def test_logit_adjustment_is_on_by_itself_where_labels_are_very_uneven():
    even, uneven = census(A=100, B=1000), census(A=99, B=1000)
    assert even.logit_shift(None) == [0, 0]
    expected = ADJUSTMENT * np.log(np.array([99, 1000]) / 1099)
    assert uneven.logit_shift(None) == pytest.approx(expected)
    assert uneven.logit_shift(0.0) == [0, 0]
    assert even.logit_shift(1.0) == pytest.approx(np.log(np.array([100, 1000]) / 1100))
    assert np.isfinite(census(A=0, B=1000).logit_shift(None)).all()


def test_the_nodes_get_the_shift_of_the_global_counts(make_grid):
    grid = make_grid(["Greek"], ["Polish"], count=400)
    lines = (grid.folders[1] / "Greek.txt").read_text().splitlines()
    (grid.folders[1] / "Greek.txt").write_text("\n".join(lines[:30]))
    rows = [counts(read_folder(folder), 0)["train"] for folder in grid.folders.values()]
    share = np.array([rows[0]["Greek"], rows[1]["Polish"]])
    given = RunConfig(**{**SMALL, "rounds": 40})
    adjusted = federate(grid, given)
    shifts = {
        tuple(m.content["config"]["logit-shift"])
        for m in grid.sent
        if m.metadata.message_type == "train.gradient"
    }
    assert shifts == {tuple(ADJUSTMENT * np.log(share / share.sum()))}
    grid.sent.clear()
    plain = federate(grid, RunConfig(**{**SMALL, "rounds": 40, "logit_adjustment": 0}))
    assert not [m for m in grid.sent if "logit-shift" in m.content["config"]]
    assert (plain.weights != adjusted.weights).any()


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "Ω",
        "b" * 10_000,
        "🎻🎻",
        "👩‍👩‍👧",
        "محمد",
        "שלום",
        "\u202eabc",
        "\x00",
        "\ud800",
        " ",
        "",
    ],
)
def test_any_name_is_answered_with_probabilities(name):
    config = ModelConfig(labels=("A", "B", "C"), hidden=8, embedding=4)
    (ranked,) = Checkpoint(config.build(), config).predict([name])
    assert sorted(label for label, _ in ranked) == ["A", "B", "C"]
    assert sum(p for _, p in ranked) == pytest.approx(1, abs=1e-5)
    assert all(np.isfinite(p) for _, p in ranked)


def test_right_to_left_script_is_romanised_and_not_lost():
    config = ModelConfig(labels=("A", "B", "C"), hidden=8, embedding=4)
    checkpoint = Checkpoint(config.build(), config)
    one, other, nothing = checkpoint.predict(["محمد", "فاطمة", "🎻"])
    assert one != other and one != nothing


def test_a_folder_like_the_tutorials_is_read_once_each_and_split_by_name(tmp_path):
    """20,000 rows, a tenth of them duplicates, some names in several languages."""
    draw = random.Random(0)
    syllables = [c + v for c in "bdgklmnprstvz" for v in "aeiou"]
    pool = sorted({"".join(draw.choices(syllables, k=draw.randint(2, 4))) for _ in range(30_000)})
    draw.shuffle(pool)
    labels, taken = {}, iter(pool[500:])
    for number in range(18):
        own = [next(taken) for _ in range(975)]
        labels[f"Language{number}"] = own + pool[:25]  # the same 25 in all of them
    for label, names in labels.items():
        rows = [name.title() for name in names] + [name.upper() for name in names[:111]]
        draw.shuffle(rows)
        (tmp_path / f"{label}.txt").write_text("\n".join(rows), encoding="utf-8")
    found = read_folder(tmp_path)
    assert found == {label: sorted(names) for label, names in labels.items()}
    table = counts(found, 0)
    assert sum(sum(members.values()) for members in table.values()) == 18_000
    for name in pool[:25]:  # in one part, whatever the language
        assert len({part(name, 0) for members in found.values() if name in members}) == 1
    assert sum(table["test"].values()) == pytest.approx(1800, rel=0.1)


def test_replies_hold_counts_and_no_name(make_grid):
    """Whatever a node sends in a whole run, none of its names is in it."""
    grid = make_grid(["Finnish", "Greek"], ["Polish"])
    for strategy in ("gradient", "fedavg"):
        federate(grid, RunConfig(**{**SMALL, "rounds": 2}, strategy=strategy))
    names = {
        n for f in grid.folders.values() for members in read_folder(f).values() for n in members
    }
    said = json.dumps([_plain(reply) for reply in grid.replies])
    assert len(names) > 300 and not [name for name in names if name in said]


def _plain(reply):
    return {
        key: [*record] if isinstance(record, ArrayRecord) else dict(record)
        for key, record in reply.content.items()
    }
