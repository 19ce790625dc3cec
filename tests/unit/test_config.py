import pytest
from flwr.app import ConfigRecord

from fedrnn.config import DEFAULT_ROUNDS, STRATEGIES, RunConfig, check_split


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"rounds": 0}, "rounds is 0: it must be a whole number of at least 1"),
        ({"rounds": -3}, "rounds is -3"),
        ({"rounds": 1.5}, "rounds is 1.5"),
        ({"rounds": True}, "rounds is True"),
        ({"seed": -1}, "seed is -1"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"strategy": "fedsgd"}, "strategy 'fedsgd' is not known: use gradient or fedavg"),
        ({"cell": "transformer"}, "cell 'transformer' is not known"),
        ({"split": "dirichlet:0"}, "split 'dirichlet:0' is not known"),
        ({"timeout": 0}, "timeout is 0"),
    ],
)
def test_a_value_out_of_range_is_refused_in_a_clear_sentence(values, sentence):
    with pytest.raises(ValueError) as caught:
        RunConfig(**values)
    assert sentence in str(caught.value)


def test_a_config_survives_a_flower_record():
    config = RunConfig(rounds=7, nodes=("pi1", "pi2"), split="dirichlet:0.5", lr=0.02)
    record = ConfigRecord({k: v for k, v in config.to_dict().items() if v != []})
    assert RunConfig.from_dict(dict(record)) == config


def test_an_unknown_key_is_named():
    with pytest.raises(ValueError, match="unknown keys: epochs"):
        RunConfig.from_dict({"epochs": 3})


@pytest.mark.parametrize(
    "split", ["dirichlet:", "dirichlet:nan", "dirichlet:inf", "x:1", "", "IID"]
)
def test_a_split_that_is_not_known_is_refused(split):
    with pytest.raises(ValueError, match="is not known"):
        check_split(split)


def test_every_strategy_has_a_default_number_of_rounds():
    assert set(DEFAULT_ROUNDS) == set(STRATEGIES)
    assert check_split("dirichlet:0.5") == 0.5
    assert check_split("iid") is None
