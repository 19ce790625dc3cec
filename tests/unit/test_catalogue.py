"""Every strategy by its name, over our ClientApp and beside Flower's own classes."""

import random

import numpy as np
import pytest
from flwr.app import ConfigRecord
from flwr.serverapp import strategy as flowers
from inprocess import InProcessGrid

from fedrnn.config import OPTIONS, STRATEGIES, RunConfig
from fedrnn.federation.server_app import federate
from fedrnn.federation.strategies import to_arrays, to_flat
from fedrnn.learning.model import CharRNN, parameters_of, shapes

pytestmark = pytest.mark.slow  # every strategy trains

LABELS = ["Finnish", "Georgian", "Greek", "Polish"]
SMALL = {
    "hidden": 8, "embedding": 6, "dropout": 0.0, "batch": 96, "lr": 3e-2, "local_batch": 32,
}  # fmt: skip
CLASSES = {
    "fedavg": flowers.FedAvg,
    "fedprox": flowers.FedProx,
    "fedavgm": flowers.FedAvgM,
    "fedadam": flowers.FedAdam,
    "fedyogi": flowers.FedYogi,
    "fedmedian": flowers.FedMedian,
    "fedtrimmedavg": flowers.FedTrimmedAvg,
    "krum": flowers.Krum,
    "multikrum": flowers.MultiKrum,
}


class Shuffling(InProcessGrid):
    """Nodes that answer in another order each time."""

    draw = random.Random(0)

    def send_and_receive(self, messages, *, timeout=None):
        replies = super().send_and_receive(messages, timeout=timeout)
        self.draw.shuffle(replies)
        return replies


class Sorted(InProcessGrid):
    """Nodes that answer in the order of their ids, however they are asked."""

    def send_and_receive(self, messages, *, timeout=None):
        messages = sorted(messages, key=lambda message: message.metadata.dst_node_id)
        return super().send_and_receive(messages, timeout=timeout)


@pytest.fixture
def grid(make_grid):
    return make_grid(LABELS, LABELS, LABELS, count=80)


def config(strategy, **changes):
    return RunConfig(**{**SMALL, "strategy": strategy, **changes})


def test_the_names_are_those_of_flowers_classes():
    assert set(STRATEGIES) == {"gradient", *CLASSES}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_learns(grid, strategy):
    rounds = 40 if strategy == "gradient" else 10
    outcome = federate(grid, config(strategy, rounds=rounds))
    assert outcome.losses[-1] < 0.6 * outcome.losses[0]
    assert outcome.accuracy > 0.6  # chance is a quarter


@pytest.mark.parametrize("strategy", CLASSES)
def test_the_result_is_that_of_flowers_own_class(grid, strategy):
    """Our ClientApp under Flower's stock strategy, with nothing of ours in between."""
    given = config(strategy, rounds=3)
    outcome = federate(grid, given)

    model = CharRNN(4, hidden=8, embedding=6, dropout=0.0, seed=0)
    node = {
        "labels": LABELS, "cell": "bigru", "embedding": 6, "hidden": 8, "dropout": 0.0,
        "seed": 0, "data-seed": 0, "local-epochs": 1, "local-batch": 32, "local-lr": given.local_lr,
    }  # fmt: skip
    stock = CLASSES[strategy](fraction_evaluate=0.0, **OPTIONS[strategy])
    result = stock.start(
        Sorted(grid.folders.values()),
        to_arrays(parameters_of(model), shapes(model)),
        num_rounds=3,
        train_config=ConfigRecord(node),
    )
    assert outcome.chosen == 3
    assert (outcome.weights == to_flat(result.arrays, shapes(model))).all()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_model_does_not_depend_on_the_order_of_answers(grid, strategy):
    given = config(strategy, rounds=3, dropout=0.3)
    plain = federate(grid, given)
    for _ in range(2):
        turned = federate(Shuffling(grid.folders.values()), given)
        assert (turned.weights == plain.weights).all()
        assert (turned.score.confusion == plain.score.confusion).all()


def test_the_proximal_weight_reaches_the_nodes_and_holds_them_back(grid):
    start = parameters_of(CharRNN(4, hidden=8, embedding=6, dropout=0.0, seed=0))

    def moved(strategy, **options):
        outcome = federate(grid, config(strategy, rounds=1, options=options))
        return np.linalg.norm(outcome.weights - start)

    free = moved("fedavg")
    assert moved("fedprox", proximal_mu=0) == free
    assert moved("fedprox") != free  # the default is no silent nothing
    assert moved("fedprox", proximal_mu=10) < 0.5 * free


@pytest.mark.parametrize("strategy", ["fedavgm", "fedadam", "fedyogi"])
def test_the_servers_settings_change_the_result(grid, strategy):
    name = "server_momentum" if strategy == "fedavgm" else "eta"
    plain = federate(grid, config(strategy, rounds=3))
    other = federate(grid, config(strategy, rounds=3, options={name: 0.9}))
    assert (plain.weights != other.weights).any()


@pytest.mark.parametrize("strategy", ["fedmedian", "krum", "multikrum"])
def test_one_node_that_sends_nonsense_spoils_no_robust_strategy(grid, strategy):
    def lie(message, reply):
        if message.metadata.message_type == "train" and message.metadata.dst_node_id == 2:
            arrays = reply.content["arrays"]
            for name, array in arrays.items():
                arrays[name] = type(array)(-100 * array.numpy())
        return reply

    grid.tamper = lie
    assert federate(grid, config(strategy, rounds=10)).accuracy > 0.6
    assert federate(grid, config("fedavg", rounds=10)).accuracy < 0.5  # or else that proves little
