import subprocess
import sys

import numpy as np
import pytest
import torch

from fedrnn.learning.data import Batches, Examples
from fedrnn.learning.model import CharRNN, parameters_of
from fedrnn.learning.text import encode
from fedrnn.learning.training import gradient, local_sgd, seed_dropout


def data(rows, seed=0):
    random = np.random.default_rng(seed)
    names = ["".join(random.choice(list("abcxyz"), random.integers(1, 9))) for _ in range(rows)]
    targets = torch.tensor([int(name[0] < "d") for name in names])
    return Examples(*map(torch.from_numpy, encode(names)), targets)


def test_the_gradient_is_autograds():
    model, batch = CharRNN(2, hidden=6, dropout=0.0), data(32)
    flat, loss = gradient(model, *batch)
    expected = torch.nn.functional.cross_entropy(model(batch.ids, batch.lengths), batch.targets)
    grads = torch.autograd.grad(expected, list(model.parameters()))
    np.testing.assert_allclose(flat, torch.cat([g.reshape(-1) for g in grads]).numpy(), atol=1e-6)
    assert loss == pytest.approx(float(expected.detach()))
    assert flat.dtype == np.float32


def test_a_batch_of_several_chunks_has_the_gradient_of_all_its_names():
    model, batch = CharRNN(2, hidden=6, dropout=0.0), data(700)
    shift = torch.tensor([0.5, -0.25])
    flat, loss = gradient(model, *batch, shift)
    logits = model(batch.ids, batch.lengths) + shift
    expected = torch.nn.functional.cross_entropy(logits, batch.targets)
    grads = torch.autograd.grad(expected, list(model.parameters()))
    np.testing.assert_allclose(flat, torch.cat([g.reshape(-1) for g in grads]).numpy(), atol=1e-6)
    assert loss == pytest.approx(float(expected.detach()))


def test_a_second_gradient_does_not_add_to_the_first():
    model, batch = CharRNN(2, hidden=6, dropout=0.0), data(32)
    first, _ = gradient(model, *batch)
    second, _ = gradient(model, *batch)
    assert (first == second).all()


def test_dropout_follows_its_seed():
    model, batch = CharRNN(2, hidden=6, dropout=0.5), data(32)

    def at(*seed):
        seed_dropout(*seed)
        return gradient(model, *batch)[0]

    assert (at(0, 1, 2) == at(0, 1, 2)).all()
    assert (at(0, 1, 2) != at(0, 2, 2)).any()


def test_one_local_step_without_momentum_is_weights_minus_rate_times_gradient():
    model, rows = CharRNN(2, hidden=6, dropout=0.0), data(32)
    batches = Batches(rows.lengths, 32, seed=0)
    before = parameters_of(model)
    flat, _ = gradient(model, *rows.at(batches.at(1)))
    local_sgd(model, rows, batches, first=1, steps=1, lr=0.1, clip=1e9)
    np.testing.assert_allclose(parameters_of(model), before - np.float32(0.1) * flat, atol=1e-6)


def test_local_steps_equal_torchs_sgd_with_clipping():
    ours, theirs = (CharRNN(2, hidden=6, dropout=0.0) for _ in range(2))
    rows = data(100)
    batches = Batches(rows.lengths, 32, seed=0)
    loss = local_sgd(ours, rows, batches, first=1, steps=9, lr=0.3, clip=0.1)
    optimiser = torch.optim.SGD(theirs.parameters(), lr=0.3, momentum=0.9)
    for number in range(1, 10):
        gradient(theirs, *rows.at(batches.at(number)))
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.1)
        optimiser.step()
    np.testing.assert_allclose(parameters_of(ours), parameters_of(theirs), atol=1e-5)
    assert 0 < loss < 1


@pytest.mark.parametrize("clip", [1e9, 0.1])
def test_the_proximal_term_is_that_of_fedprox(clip):
    """Half of mu times the squared distance, in the loss, left to autograd."""
    ours, theirs = (CharRNN(2, hidden=6, dropout=0.0) for _ in range(2))
    rows, start = data(100), [v.detach().clone() for v in theirs.parameters()]
    batches = Batches(rows.lengths, 32, seed=0)
    optimiser = torch.optim.SGD(theirs.parameters(), lr=0.3, momentum=0.9)
    for number in range(1, 7):
        batch = rows.at(batches.at(number))
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(theirs(batch.ids, batch.lengths), batch.targets)
        pairs = zip(theirs.parameters(), start, strict=True)
        (loss + 2.0 / 2 * sum((a - b).square().sum() for a, b in pairs)).backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), clip)
        optimiser.step()
    local_sgd(ours, rows, batches, first=1, steps=6, lr=0.3, clip=clip, proximal_mu=2.0)
    np.testing.assert_allclose(parameters_of(ours), parameters_of(theirs), atol=1e-5)


def test_the_shift_is_added_to_the_logits():
    model, batch = CharRNN(2, hidden=6, dropout=0.0), data(32)
    shift = torch.tensor([0.0, -1.5])
    flat, _ = gradient(model, *batch, shift)
    loss = torch.nn.functional.cross_entropy(model(batch.ids, batch.lengths) + shift, batch.targets)
    grads = torch.autograd.grad(loss, list(model.parameters()))
    np.testing.assert_allclose(flat, torch.cat([g.reshape(-1) for g in grads]).numpy(), atol=1e-6)


@pytest.mark.parametrize("name", ["a", "b" * 10_000])
def test_a_batch_of_one_name_has_a_finite_gradient(name):
    model = CharRNN(2, hidden=6)
    ids, lengths = map(torch.from_numpy, encode([name]))
    flat, loss = gradient(model, ids, lengths, torch.tensor([1]))
    assert np.isfinite(flat).all() and flat.any() and loss > 0


def test_what_runs_on_a_node_imports_nothing_heavy():
    program = """
import sys, torch
from fedrnn.federation import client_app
heavy = {"faker", "safetensors", "scipy", "sklearn", "asyncssh", "torch._dynamo",
         "fedrnn.config", "fedrnn.federation.strategies", "fedrnn.learning.embedded"}
print(sorted(heavy & set(sys.modules)))
"""
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[]"
