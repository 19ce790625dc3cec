"""`--compare`, and who holds what: rivals on the same rows, only where pooling is no secret."""

import csv
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import torch
from conftest import make_names

from fedrnn import run
from fedrnn.compare import central, central_ngrams, compare, pool
from fedrnn.config import RunConfig
from fedrnn.federation.server_app import federate
from fedrnn.federation.strategies import FederationError
from fedrnn.learning import ngrams
from fedrnn.learning.data import read_folder
from fedrnn.reporting.split import save_split

SMALL = {"rounds": 40, "hidden": 16, "embedding": 8, "batch": 96, "lr": 3e-2, "local_batch": 32}
NAMES = {label: make_names(label, 200, 1) for label in ("Finnish", "Greek", "Polish")}


@pytest.fixture
def finished(make_grid):
    grid = make_grid(["Finnish", "Greek"], ["Polish"])
    return grid, federate(grid, RunConfig(**SMALL))


def test_the_rivals_learn_from_the_same_rows(finished):
    grid, outcome = finished
    shares = {str(node): read_folder(folder) for node, folder in grid.folders.items()}
    told = {node: {label: len(n) for label, n in share.items()} for node, share in shares.items()}
    said = []
    rows = compare(
        pool(shares, told), RunConfig(**SMALL), outcome, lambda c: federate(grid, c), said.append
    )
    assert list(rows) == ["central, same network", "central, 1-4-grams", "fedavg, federated"]
    floors = (0.8, 0.8, 0.5)  # fedavg has four rounds here
    for (name, row), floor in zip(rows.items(), floors, strict=True):
        assert row["accuracy"] > floor and row["seconds"] > 0, name
    assert [line.removeprefix("to compare: ") for line in said] == list(rows)


def test_rivals_that_are_given_shuffled_labels_learn_nothing(finished):
    _, outcome = finished
    mixed = sorted(name for members in NAMES.values() for name in members)
    np.random.default_rng(0).shuffle(mixed)
    shuffled = {label: mixed[number::3] for number, label in enumerate(sorted(NAMES))}
    config = RunConfig(**SMALL)
    for score in (
        central(shuffled, config, outcome),
        central_ngrams(shuffled, config, outcome.labels),
    ):
        assert score.examples > 30 and score.figures()["accuracy"] < 0.6


def test_one_node_with_all_names_is_what_central_training_is(make_grid):
    grid = make_grid(["Finnish", "Greek", "Polish"])
    config = RunConfig(**SMALL)
    outcome = federate(grid, config)
    alone = central(read_folder(grid.folders[1]), config, outcome).figures()["accuracy"]
    assert abs(alone - outcome.accuracy) < 0.05


def test_a_node_that_does_not_hold_its_share_is_not_pooled():
    with pytest.raises(FederationError, match="pi1 does not hold its share"):
        pool({"pi1": NAMES}, {"pi1": {"Finnish": 3}})


def test_compare_is_refused_where_the_names_are_the_nodes_own():
    with pytest.raises(ValueError, match="their own: it is for the embedded names"):
        run.embedded_shares(["pi1"], RunConfig(split="own"))


def test_an_interrupted_comparison_keeps_what_there_is(finished):
    _, outcome = finished

    def interrupted(config):
        raise KeyboardInterrupt

    pooled = {label: set(names) for label, names in NAMES.items()}
    rows = compare(pooled, RunConfig(**SMALL), outcome, interrupted, lambda line: None)
    assert list(rows) == ["central, same network", "central, 1-4-grams"]


def test_n_grams_are_counted_once_between_marks():
    assert ngrams.grams("aab") == sorted(
        ["a", "b", "<a", "aa", "ab", "b>", "<aa", "aab", "ab>", "<aab", "aab>"]
    )
    model = ngrams.fit(["aa", "bb"] * 20, torch.tensor([0, 1] * 20), 2, 1e-5)
    assert model(*model.features(["aa", "bb", "zz"])).argmax(1).tolist()[:2] == [0, 1]


def test_who_holds_what_is_a_table_and_a_picture(tmp_path):
    part = {"train": {"Greek": 8}, "validation": {"Greek": 1}, "test": {"Greek": 1}}
    other = {"train": {"$Polish\x1b": 5}, "validation": {}, "test": {}}
    counts = {"pi1": part, "pi2": other}
    save_split(tmp_path, ("$Polish\x1b", "Greek"), counts)
    with (tmp_path / "split.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["label", "pi1", "pi2"], ["$Polish\x1b", "0", "5"], ["Greek", "10", "0"],
        ]  # fmt: skip
    first = (tmp_path / "split.svg").read_bytes()
    words = {text.text for text in ElementTree.fromstring(first).iter() if text.text}
    assert {"pi1", "pi2", "Greek", "$Polish\\x1b", "10", "5"} <= {w.strip() for w in words}
    save_split(tmp_path, ("$Polish\x1b", "Greek"), counts)
    assert (tmp_path / "split.svg").read_bytes() == first
