import math

import numpy as np
import pytest
import torch
from flwr.app import Array, ConfigRecord

from fedrnn.config import RunConfig
from fedrnn.federation.codec import Quantised, dequantise, pack, unpack
from fedrnn.federation.strategies import (
    FederationError,
    GradientStrategy,
    shares,
    to_arrays,
    to_flat,
)
from fedrnn.learning.data import Batches, examples, read_folder
from fedrnn.learning.model import CharRNN, parameters_of, shapes
from fedrnn.learning.optimiser import AdamW, schedule
from fedrnn.learning.training import gradient

LABELS = ["Finnish", "Georgian", "Greek", "Polish"]
NODE = ConfigRecord(
    {"labels": LABELS, "cell": "bigru", "embedding": 6, "hidden": 8, "dropout": 0.0,
     "seed": 0, "data-seed": 0, "local-epochs": 1, "local-batch": 32, "local-lr": 0.1}
)  # fmt: skip
CONFIG = RunConfig(rounds=8, batch=96, hidden=8, embedding=6, dropout=0.0)


def node_of(message):
    return message.metadata.dst_node_id


class Rounds:
    """A strategy and a grid, one round at a time."""

    def __init__(self, grid, rows=None):
        self.grid = grid
        self.model = CharRNN(4, hidden=8, embedding=6, dropout=0.0)
        self.shapes = shapes(self.model)
        self.sizes = [math.prod(shape) for shape in self.shapes.values()]
        rows = rows or dict.fromkeys(grid.folders, 300)
        self.strategy = GradientStrategy(self.shapes, rows, CONFIG, NODE)
        self.arrays = to_arrays(parameters_of(self.model), self.shapes)
        self.number = 0

    def run(self):
        """Return the round's messages by node."""
        self.number += 1
        messages = list(
            self.strategy.configure_train(self.number, self.arrays, ConfigRecord(), self.grid)
        )
        replies = self.grid.send_and_receive(messages)
        self.arrays, _ = self.strategy.aggregate_train(self.number, replies)
        return {message.metadata.dst_node_id: message.content for message in messages}

    def held(self, node):
        return self.grid.contexts[node].state["fedrnn-view"]["weights"].numpy()


@pytest.fixture
def rounds(make_grid):
    return Rounds(make_grid(["Finnish", "Greek"], ["Polish"], ["Georgian"]))


def test_the_mean_over_nodes_is_the_gradient_of_all_their_batches_together(rounds, monkeypatch):
    seen = []
    monkeypatch.setattr(AdamW, "step", lambda self, weights, grad, lr: seen.append(grad) or weights)
    rounds.run()
    share = shares(96, dict.fromkeys([1, 2, 3], 300))
    batches = []
    for node, folder in rounds.grid.folders.items():
        rows = examples(read_folder(folder), LABELS, 0)["train"]
        batches.append(rows.at(Batches(rows.lengths, share[node], 0).at(1)))
    steps = max(batch.ids.shape[1] for batch in batches)
    ids = torch.cat([torch.nn.functional.pad(b.ids, (0, steps - b.ids.shape[1])) for b in batches])
    central, _ = gradient(
        rounds.model,
        ids,
        torch.cat([b.lengths for b in batches]),
        torch.cat([b.targets for b in batches]),
    )
    sent = [r.content["arrays"]["scales"].numpy() for r in rounds.grid.replies]
    step = np.repeat(np.max(sent, axis=0), rounds.sizes)
    assert (np.abs(seen[0] - central) <= 0.51 * step + 1e-7).all()
    # And without the eight bits they agree to the last digits of float32.
    exact, examples_ = np.zeros_like(central), 0
    for batch in batches:
        flat, _ = gradient(rounds.model, *batch)
        exact += len(batch.targets) * flat
        examples_ += len(batch.targets)
    np.testing.assert_allclose(exact / examples_, central, atol=1e-6)


def test_all_nodes_compute_at_the_same_weights_and_the_residual_stays_on_the_server(rounds):
    for _ in range(6):
        rounds.run()
        assert (rounds.held(1) == rounds.held(2)).all()
        assert (rounds.held(1) == rounds.held(3)).all()
    before = to_flat(rounds.arrays, rounds.shapes)
    rounds.run()
    # What the nodes hold follows the server's weights to within half a step of eight bits.
    change = np.abs(before - rounds.held(1)).max()
    assert 0 < change < 1e-3


def test_only_the_first_round_sends_full_weights(rounds):
    first, second = rounds.run(), rounds.run()
    assert {m["config"]["base"] for m in first.values()} == {0}
    assert {m["config"]["base"] for m in second.values()} == {1}
    assert all("weights" in m["arrays"] for m in first.values())
    assert all(m["arrays"]["delta"].dtype == "uint8" for m in second.values())
    assert second[1]["arrays"] is second[2]["arrays"]  # one record, so that it is encoded once


def test_a_node_that_missed_a_round_is_taken_back_with_full_weights(rounds):
    rounds.run()
    rounds.grid.down = {2}
    assert set(rounds.run()) == {1, 3}
    rounds.grid.down = set()
    back = rounds.run()
    assert back[2]["config"]["base"] == 0
    assert back[1]["config"]["base"] == 2
    assert (rounds.held(2) == rounds.held(1)).all()
    assert rounds.run()[2]["config"]["base"] == 3


def test_a_worker_that_lost_its_state_says_stale_and_gets_full_weights(rounds):
    rounds.run()
    rounds.grid.restart(3)
    rounds.run()
    assert rounds.grid.replies[-1].content["metrics"]["stale"] == 1
    assert rounds.run()[3]["config"]["base"] == 0
    assert (rounds.held(3) == rounds.held(1)).all()


def test_a_lost_reply_makes_the_next_message_full(rounds):
    rounds.run()
    rounds.grid.tamper = lambda message, reply: None if node_of(message) == 1 else reply
    rounds.run()
    rounds.grid.tamper = None
    assert rounds.run()[1]["config"]["base"] == 0


def test_one_round_without_a_gradient_keeps_the_weights_and_two_are_an_error(rounds):
    rounds.run()
    kept = to_flat(rounds.arrays, rounds.shapes)
    for node in rounds.grid.folders:
        rounds.grid.restart(node)
    rounds.run()
    assert (to_flat(rounds.arrays, rounds.shapes) == kept).all()
    rounds.run()
    assert (to_flat(rounds.arrays, rounds.shapes) != kept).any()
    rounds.grid.tamper = lambda message, reply: None
    rounds.run()
    with pytest.raises(FederationError, match="rounds 4 and 5"):
        rounds.run()


@pytest.mark.parametrize("bad", [np.zeros(3, np.uint8), pack(np.zeros(3, np.int8)), None])
def test_a_gradient_that_does_not_fit_is_dropped_and_its_node_named(rounds, bad):
    dropped = []
    rounds.strategy._drop = lambda node, why: dropped.append((node, why))

    def spoil(message, reply):
        if node_of(message) == 2:
            arrays = reply.content["arrays"]
            if bad is None:
                arrays["scales"] = Array(arrays["scales"].numpy() * np.float32(np.nan))
            else:
                arrays["values"] = Array(bad)
        return reply

    rounds.grid.tamper = spoil
    rounds.run()
    assert [node for node, _ in dropped] == [2]
    assert dropped[0][1].startswith("its gradient cannot be used: ")
    rounds.grid.tamper = None
    assert rounds.run()[2]["config"]["base"] == 0  # it missed the round, like one that was away


def test_the_sum_does_not_depend_on_the_order_of_replies(make_grid):
    grid = make_grid(["Finnish", "Greek"], ["Polish"], ["Georgian"])
    plain, turned = Rounds(grid), Rounds(grid)
    plain.run()
    messages = list(turned.strategy.configure_train(1, turned.arrays, ConfigRecord(), grid))
    replies = grid.send_and_receive(messages)[::-1]
    arrays, _ = turned.strategy.aggregate_train(1, replies)
    assert (to_flat(arrays, plain.shapes) == to_flat(plain.arrays, plain.shapes)).all()


def test_adamw_with_clipping_equals_torchs():
    draw = np.random.default_rng(0)
    weights = draw.normal(size=50).astype(np.float32)
    theirs = torch.nn.Parameter(torch.from_numpy(weights.copy()))
    torchs = torch.optim.AdamW([theirs], lr=1.0, weight_decay=AdamW.decay)
    ours = AdamW(50)
    for step in range(40):
        flat = (draw.normal(size=50) * (3 if step % 2 else 0.01)).astype(np.float32)
        lr = 1e-2 * schedule(step, 40)
        theirs.grad = torch.from_numpy(flat.copy())
        torch.nn.utils.clip_grad_norm_([theirs], 1.0)
        torchs.param_groups[0]["lr"] = lr
        torchs.step()
        weights = ours.step(weights, flat, lr)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, theirs.detach().numpy(), atol=2e-6)


@pytest.mark.parametrize("steps", [1, 2, 5, 600])
def test_the_schedule_rises_to_one_and_falls_towards_zero(steps):
    factors = [schedule(step, steps) for step in range(steps)]
    assert max(factors) == pytest.approx(1)
    assert min(factors) > 0
    if steps == 600:
        assert factors[0] == pytest.approx(1 / 60)
        assert np.argmax(factors) in (59, 60)
        assert factors[-1] < 1e-4


def test_shares_follow_the_rows_but_never_fall_below_the_minimum():
    assert shares(256, {1: 100, 2: 300}) == {1: 64, 2: 192}
    assert shares(256, {1: 1, 2: 9999})[1] == 16


def test_arrays_and_vector_are_the_same_numbers():
    model = CharRNN(4, hidden=8, embedding=6)
    flat = parameters_of(model)
    arrays = to_arrays(flat, shapes(model))
    for name, value in model.state_dict().items():
        assert (arrays[name].numpy() == value.numpy()).all()
    assert (to_flat(arrays, shapes(model)) == flat).all()
    assert {value.dtype for value in arrays.values()} == {"float32"}


def test_the_gradient_weighs_nodes_by_their_examples(rounds, monkeypatch):
    seen = []
    monkeypatch.setattr(AdamW, "step", lambda self, weights, grad, lr: seen.append(grad) or weights)
    messages = list(rounds.strategy.configure_train(1, rounds.arrays, ConfigRecord(), rounds.grid))
    replies = rounds.grid.send_and_receive(messages)
    for number, reply in enumerate(replies):
        reply.content["metrics"]["num-examples"] = [100, 1, 3][number]
    rounds.strategy.aggregate_train(1, replies)
    parts = [
        dequantise(
            Quantised(
                unpack(r.content["arrays"]["values"].numpy(), sum(rounds.sizes)),
                r.content["arrays"]["scales"].numpy(),
            ),
            rounds.sizes,
        )
        for r in replies
    ]
    expected = (100 * parts[0] + parts[1] + 3 * parts[2]) / 104
    np.testing.assert_allclose(seen[0], expected, atol=1e-6)
