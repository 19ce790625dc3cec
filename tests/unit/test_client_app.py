import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from fedrnn.federation.client_app import app
from fedrnn.federation.codec import Quantised, dequantise, pack, quantise, unpack
from fedrnn.learning.data import Batches, counts, examples, read_folder
from fedrnn.learning.model import CharRNN, parameters_of, set_parameters, shapes
from fedrnn.learning.training import gradient

LABELS = ["Finnish", "Greek", "Polish"]
MODEL = CharRNN(3, hidden=8, embedding=6, dropout=0.0, seed=0)
SIZES = [int(np.prod(shape)) for shape in shapes(MODEL).values()]
CONFIG = {
    "labels": LABELS, "cell": "bigru", "embedding": 6, "hidden": 8, "dropout": 0.0,
    "seed": 0, "data-seed": 0, "batch": 32, "node": 0,
    "local-epochs": 1, "local-batch": 32, "local-lr": 0.1,
}  # fmt: skip


@pytest.fixture
def grid(make_grid):
    return make_grid()


def ask(grid, kind, arrays=None, node=1, **config):
    content = RecordDict({"config": ConfigRecord({**CONFIG, **config})})
    if arrays is not None:
        content["arrays"] = arrays
    (reply,) = grid.send_and_receive([Message(content, message_type=kind, dst_node_id=node)])
    return reply


def ask_gradient(grid, round_, base, **arrays):
    record = ArrayRecord({name: Array(value) for name, value in arrays.items()})
    return ask(grid, "train.gradient", record, round=round_, base=base)


def decoded(reply):
    arrays = reply.content["arrays"]
    values = unpack(arrays["values"].numpy(), sum(SIZES))
    return dequantise(Quantised(values, arrays["scales"].numpy()), SIZES)


def exact_gradient(grid, weights, round_):
    rows = examples(read_folder(grid.folders[1]), LABELS, 0)["train"]
    set_parameters(MODEL, weights)
    return gradient(MODEL, *rows.at(Batches(rows.lengths, 32, 0).at(round_)))[0]


def test_query_tells_counts_and_no_name(grid):
    reply = ask(grid, "query")
    names = read_folder(grid.folders[1])
    table = counts(names, 0)
    assert list(reply.content["config"]["labels"]) == ["Finnish", "Greek"]
    for part in ("train", "validation", "test"):
        expected = [table[part]["Finnish"], table[part]["Greek"]]
        assert list(reply.content["metrics"][part]) == expected
    said = repr(reply.content)
    assert not [n for members in names.values() for n in members if f"'{n}'" in said]
    assert 50 < reply.content["metrics"]["rss-mb"] < 4000


def test_the_gradient_is_that_of_the_rounds_batch_and_what_rounding_took_comes_later(grid):
    weights = parameters_of(CharRNN(3, hidden=8, embedding=6, seed=0))
    still = Quantised(np.zeros(len(weights), np.int8), np.ones(len(SIZES), np.float32))
    wanted, arrived = np.zeros(len(weights)), np.zeros(len(weights))
    for round_ in range(1, 6):
        if round_ == 1:
            reply = ask_gradient(grid, 1, 0, weights=weights)
        else:
            reply = ask_gradient(
                grid, round_, round_ - 1, delta=pack(still.values), scales=still.scales
            )
        wanted += exact_gradient(grid, weights, round_)
        arrived += decoded(reply)
        assert reply.content["metrics"]["num-examples"] == pytest.approx(32, abs=3)
    residual = grid.contexts[1].state["fedrnn-view"]["residual"].numpy()
    assert np.abs(residual).max() > 0
    np.testing.assert_allclose(arrived + residual, wanted, atol=1e-6)


def test_what_rounding_took_comes_at_once_where_the_node_is_asked_to_settle(grid):
    weights = parameters_of(CharRNN(3, hidden=8, embedding=6, seed=0))
    record = ArrayRecord({"weights": Array(weights)})
    reply = ask(grid, "train.gradient", record, round=1, base=0, settle=1)
    rest = reply.content["arrays"]
    values = unpack(rest["rest"].numpy(), sum(SIZES))
    arrived = decoded(reply) + dequantise(Quantised(values, rest["rest-scales"].numpy()), SIZES)
    wanted = exact_gradient(grid, weights, 1)
    # Each tensor arrives to within 1/31 of 1/31 of its largest value, and nothing is owed.
    starts = np.cumsum([0, *SIZES[:-1]])
    worst = np.maximum.reduceat(np.abs(arrived - wanted), starts)
    assert (worst <= np.maximum.reduceat(np.abs(wanted), starts) / 31**2 + 1e-9).all()
    assert np.abs(decoded(reply) - wanted).max() > np.abs(arrived - wanted).max()
    assert not grid.contexts[1].state["fedrnn-view"]["residual"].numpy().any()


def test_a_delta_moves_the_weights_at_which_the_node_computes(grid):
    weights = parameters_of(CharRNN(3, hidden=8, embedding=6, seed=0))
    first = ask_gradient(grid, 1, 0, weights=weights)
    delta = quantise(np.linspace(-0.1, 0.1, len(weights), dtype=np.float32), SIZES)
    second = ask_gradient(grid, 2, 1, delta=pack(delta.values), scales=delta.scales)
    moved = weights + dequantise(delta, SIZES)
    state = grid.contexts[1].state["fedrnn-view"]
    assert (state["weights"].numpy() == moved).all()
    wanted = exact_gradient(grid, weights, 1) + exact_gradient(grid, moved, 2)
    arrived = decoded(first) + decoded(second) + state["residual"].numpy()
    np.testing.assert_allclose(arrived, wanted, atol=1e-6)


@pytest.mark.parametrize("restart", [True, False])
def test_a_delta_against_other_weights_is_answered_as_stale(grid, restart):
    weights = parameters_of(CharRNN(3, hidden=8, embedding=6, seed=0))
    delta = quantise(np.ones_like(weights), SIZES)
    ask_gradient(grid, 1, 0, weights=weights)
    if restart:
        grid.restart(1)
    base = 1 if restart else 2
    reply = ask_gradient(grid, 3, base, delta=pack(delta.values), scales=delta.scales)
    assert reply.content["metrics"]["stale"] == 1
    assert "arrays" not in reply.content
    again = ask_gradient(grid, 4, 0, weights=weights)
    assert again.content["metrics"]["stale"] == 0


def test_train_returns_float32_of_the_same_shapes_and_learns(grid):
    model = CharRNN(3, hidden=8, embedding=6, seed=0)
    arrays = ArrayRecord(model.state_dict())
    losses = []
    for round_ in range(1, 6):
        reply = ask(grid, "train", arrays, **{"server-round": round_})
        arrays = reply.content["arrays"]
        losses.append(reply.content["metrics"]["loss"])
        assert {v.dtype for v in arrays.values()} == {"float32"}
        assert {k: v.shape for k, v in arrays.items()} == shapes(model)
    assert losses[-1] < 0.5 * losses[0]


def test_train_takes_float64_which_some_of_flowers_strategies_send(grid):
    wide = {k: Array(v.double().numpy()) for k, v in MODEL.state_dict().items()}
    assert ask(grid, "train", ArrayRecord(wide), **{"server-round": 1}).has_content()


@pytest.mark.parametrize("part", ["validation", "test"])
def test_evaluate_counts_the_asked_part(grid, part):
    reply = ask(grid, "evaluate", ArrayRecord(MODEL.state_dict()), part=part)
    table = counts(read_folder(grid.folders[1]), 0)[part]
    confusion = np.array(reply.content["metrics"]["confusion"]).reshape(3, 3)
    assert confusion.sum(1).tolist() == [table["Finnish"], table["Greek"], 0]
    assert reply.content["metrics"]["num-examples"] == confusion.sum()
    assert reply.content["metrics"]["loss-sum"] > 0


@pytest.mark.parametrize("kind", ["query", "train.gradient", "train", "evaluate"])
def test_only_the_owners_seed_splits_the_data(grid, monkeypatch, kind):
    """The counts of many splits would tell which names a node has."""
    monkeypatch.setenv("FEDRNN_DATA_SEED", "0")
    arrays = ArrayRecord(MODEL.state_dict())
    if kind == "train.gradient":
        weights = parameters_of(CharRNN(3, hidden=8, embedding=6, seed=0))
        arrays = ArrayRecord({"weights": Array(weights)})
    words = {"round": 1, "base": 0, "server-round": 1, "part": "test"}
    assert ask(grid, kind, arrays, **words).has_content()
    for seed in range(1, 4):
        reply = ask(grid, kind, arrays, **{**words, "data-seed": seed})
        assert reply.has_error() and not reply.has_content()
        assert f"seed 0, and this run asks for {seed}" in reply.error.reason


def test_a_part_of_few_names_is_not_evaluated(make_grid):
    grid = make_grid(["Greek"], count=60)
    count = counts(read_folder(grid.folders[1]), 0)["test"]["Greek"]
    assert 0 < count < 16
    reply = ask(grid, "evaluate", ArrayRecord(MODEL.state_dict()), part="test")
    metrics = reply.content["metrics"]
    assert metrics["withheld"] == 1 and metrics["num-examples"] == 0
    assert not any(metrics["confusion"]) and metrics["loss-sum"] == 0


def test_a_node_with_too_few_names_refuses_to_train(make_grid):
    grid = make_grid(["Greek"], count=12)
    weights = parameters_of(CharRNN(3, hidden=8, embedding=6, seed=0))
    reply = ask_gradient(grid, 1, 0, weights=weights)
    assert reply.has_error()
    assert "fewer than 16" in reply.error.reason


def test_without_a_data_folder_the_error_says_so(grid, monkeypatch):
    monkeypatch.delenv("FEDRNN_DATA", raising=False)
    content = RecordDict({"config": ConfigRecord(CONFIG)})
    message = Message(content, message_type="query", dst_node_id=1)
    with pytest.raises(ValueError, match="FEDRNN_DATA is not set"):
        app(message, grid.contexts[1])
