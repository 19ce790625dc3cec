"""Rivals on the same rows, and who may be asked to pool them."""

import numpy as np
import pytest
import torch

from fedrnn import compare
from fedrnn.config import RunConfig
from fedrnn.federation.server_app import federate
from fedrnn.federation.strategies import FederationError
from fedrnn.learning import ngrams
from fedrnn.learning.data import counts, read_folder
from fedrnn.plan import embedded_shares
from fedrnn.run import main

SMALL = RunConfig(rounds=60, hidden=16, embedding=8, batch=96, lr=3e-2, local_batch=32)


@pytest.fixture
def grid(make_grid):
    return make_grid(["Finnish", "Greek"], ["Polish"], ["Georgian"])


def pooled(grid):
    shares = {str(node): read_folder(folder) for node, folder in grid.folders.items()}
    told = {node: {k: len(v) for k, v in share.items()} for node, share in shares.items()}
    return compare.pool(shares, told)


def test_rivals_are_told_by_the_same_test_names_and_learn(grid):
    outcome = federate(grid, SMALL)
    said = []
    rows = compare.compare(
        pooled(grid), SMALL, outcome, lambda config: federate(grid, config), said.append
    )
    assert list(rows) == ["central, same network", "central, 1-4-grams", "fedavg, federated"]
    assert len(said) == 3
    assert all(row["seconds"] > 0 and row["accuracy"] > 0.3 for row in rows.values())
    assert rows["central, same network"]["accuracy"] > 0.9
    assert rows["central, 1-4-grams"]["accuracy"] > 0.9
    names = {label: sorted(members) for label, members in pooled(grid).items()}
    score = compare.central_ngrams(names, SMALL, outcome.labels)
    assert score.examples == outcome.score.examples
    assert (score.confusion.sum(1) == outcome.confusion.sum(1)).all()


def test_central_training_is_one_node_that_has_everything(grid, make_grid, tmp_path):
    """But for the eight bits of the wire, so the two agree closely and not to the bit."""
    together = tmp_path / "1" / "together"
    together.mkdir()
    for label, names in pooled(grid).items():
        (together / f"{label}.txt").write_text("\n".join(sorted(names)))
    alone = type(grid)([together])
    config = RunConfig(**{**SMALL.to_dict(), "rounds": 30, "dropout": 0.0})
    outcome = federate(alone, config)
    score = compare.central(read_folder(together), config, outcome)
    assert score.examples == outcome.score.examples
    assert abs(score.figures()["accuracy"] - outcome.accuracy) < 0.05
    assert abs(score.figures()["loss"] - outcome.score.figures()["loss"]) < 0.1


def test_a_strategy_is_not_compared_with_itself_and_ctrl_c_keeps_what_there_is(grid):
    config = RunConfig(**{**SMALL.to_dict(), "strategy": "fedavg", "rounds": 2})
    outcome = federate(grid, config)
    rows = compare.compare(pooled(grid), config, outcome, None, lambda text: None)
    assert list(rows) == ["central, same network", "central, 1-4-grams"]

    def interrupt(text):
        if "grams" in text:
            raise KeyboardInterrupt

    rows = compare.compare(pooled(grid), config, outcome, None, interrupt_at(interrupt))
    assert list(rows) == ["central, same network"]


def interrupt_at(say):
    def once(text):
        if text.startswith("to compare"):
            say(text)

    return once


def test_names_that_are_not_the_embedded_ones_are_not_pooled(grid):
    shares = {str(node): read_folder(folder) for node, folder in grid.folders.items()}
    told = {node: {k: len(v) for k, v in share.items()} for node, share in shares.items()}
    told["2"] = {**told["2"], "Zulu": 3}
    with pytest.raises(FederationError, match="2 does not hold its share of them"):
        compare.pool(shares, told)
    with pytest.raises(ValueError, match="the names of these nodes are their own"):
        embedded_shares(["pi1"], RunConfig(split="own"))


def test_a_setting_that_is_not_known_is_refused_before_anything_starts(capsys):
    assert main(["--local", "2", "--set", "eta=1"]) == 2
    assert "strategy gradient has no setting 'eta'" in capsys.readouterr().err


def test_the_regression_finds_the_least_loss():
    """Its slope is next to nothing there, by autograd; n-grams that it does not know are none."""
    names, targets = (
        ["abab", "abba", "cdcd", "dcdc", "acca", "dbbd"],
        torch.tensor([0, 0, 1, 1, 0, 1]),
    )
    model = ngrams.fit(names, targets, 2, 1e-2)
    loss = torch.nn.functional.cross_entropy(model(*model.features(names)), targets)
    loss = loss + 1e-2 * model.weights.weight.square().sum()
    slopes = torch.autograd.grad(loss, list(model.parameters()))
    assert max(float(slope.abs().max()) for slope in slopes) < 2e-3
    foreign = model(*model.features(["zzzz", ""]))
    assert torch.equal(foreign, torch.stack([model.bias, model.bias]))
    assert ngrams.grams("ab") == ["<a", "<ab", "<ab>", "a", "ab", "ab>", "b", "b>"]


def test_counts_of_parts_decide_what_is_trained_on(grid):
    names = {label: sorted(members) for label, members in pooled(grid).items()}
    rows = counts(names, 0)
    assert sum(rows["train"].values()) > 4 * sum(rows["test"].values())
    assert np.sum([len(v) for v in names.values()]) == sum(sum(r.values()) for r in rows.values())


def test_rivals_that_are_given_shuffled_labels_learn_nothing(grid):
    outcome = federate(grid, SMALL)
    held = pooled(grid)
    mixed = sorted(name for members in held.values() for name in members)
    np.random.default_rng(0).shuffle(mixed)
    shuffled = {label: mixed[number::4] for number, label in enumerate(sorted(held))}
    for score in (
        compare.central(shuffled, SMALL, outcome),
        compare.central_ngrams(shuffled, SMALL, outcome.labels),
    ):
        assert score.examples > 30 and score.figures()["accuracy"] < 0.6


def test_n_grams_are_counted_once_between_marks():
    assert ngrams.grams("aab") == sorted(
        ["a", "b", "<a", "aa", "ab", "b>", "<aa", "aab", "ab>", "<aab", "aab>"]
    )
    model = ngrams.fit(["aa", "bb"] * 20, torch.tensor([0, 1] * 20), 2, 1e-5)
    assert model(*model.features(["aa", "bb", "zz"])).argmax(1).tolist()[:2] == [0, 1]
