import tomllib
from pathlib import Path

import pytest
from flwr.app import ConfigRecord

from fedrnn.config import (
    DEFAULT_ROUNDS,
    OPTIONS,
    STRATEGIES,
    RunConfig,
    check_split,
    parse_settings,
)

ROOT = Path(__file__).parents[2]


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
        ({"strategy": "fedsgd"}, "strategy 'fedsgd' is not known: use one of gradient, fedavg"),
        ({"logit_adjustment": -0.1}, "logit_adjustment is -0.1"),
        ({"strategy": "krum", "options": {"mu": 1}}, "krum has no option 'mu': it has num_mal"),
        ({"options": {"eta": 0.1}}, "strategy gradient has no option 'eta': it has none"),
        (
            {"strategy": "krum", "options": {"num_malicious_nodes": 1.5}},
            "num_malicious_nodes is 1.5: it must be a whole number",
        ),
        ({"strategy": "fedprox", "options": {"proximal_mu": -1}}, "proximal_mu is -1"),
        ({"cell": "transformer"}, "cell 'transformer' is not known"),
        ({"split": "dirichlet:0"}, "split 'dirichlet:0' is not known"),
        ({"timeout": 0}, "timeout is 0"),
        ({"sample": 0}, "sample is 0: it must be above 0"),
        ({"sample": 1.1}, "sample is 1.1"),
    ],
)
def test_a_value_out_of_range_is_refused_in_a_clear_sentence(values, sentence):
    with pytest.raises(ValueError) as caught:
        RunConfig(**values)
    assert sentence in str(caught.value)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_config_survives_a_flower_record(strategy):
    options = dict.fromkeys(OPTIONS[strategy], 1)
    config = RunConfig(
        rounds=7, nodes=("pi1", "pi2"), split="dirichlet:0.5", strategy=strategy, options=options
    )
    record = ConfigRecord({k: v for k, v in config.to_dict().items() if v != []})
    assert RunConfig.from_dict(dict(record)) == config
    assert dict(config.options) == options


def test_options_that_are_not_given_have_their_default():
    config = RunConfig(strategy="fedadam", options={"eta": 1})
    assert config.options == {**OPTIONS["fedadam"], "eta": 1.0}
    assert type(RunConfig(strategy="krum").options["num_malicious_nodes"]) is int


def test_settings_are_sorted_into_those_of_the_run_and_those_of_the_strategy():
    words = ["eta=0.3", "local_epochs=2", "logit_adjustment=0"]
    config = RunConfig(strategy="fedadam", **parse_settings("fedadam", words))
    assert (config.options["eta"], config.local_epochs, config.logit_adjustment) == (0.3, 2, 0)


@pytest.mark.parametrize(
    ("strategy", "word", "sentence"),
    [
        ("gradient", "local_lr=1", "gradient has no setting 'local_lr': it has batch, lr, drop"),
        ("fedprox", "lr=1", "fedprox has no setting 'lr': it has proximal_mu, local_epochs"),
        ("fedavg", "seed=1", "no setting 'seed'"),
        ("gradient", "lr", "'lr' is not understood: write NAME=NUMBER"),
        ("gradient", "lr=fast", "write NAME=NUMBER"),
    ],
)
def test_a_setting_that_would_do_nothing_is_refused(strategy, word, sentence):
    with pytest.raises(ValueError) as caught:
        parse_settings(strategy, [word])
    assert sentence in str(caught.value)


def test_an_unknown_key_is_named():
    with pytest.raises(ValueError, match="unknown keys: epochs"):
        RunConfig.from_dict({"epochs": 3})


@pytest.mark.parametrize(
    "split",
    [
        "dirichlet:",
        "dirichlet:nan",
        "dirichlet:inf",
        "x:1",
        "",
        "IID",
        "dirichlet:1:0",
        "dirichlet:1:2.5",
        "dirichlet:1:2:3",
        "iid:3",
    ],
)
def test_a_split_that_is_not_known_is_refused(split):
    with pytest.raises(ValueError, match="is not known"):
        check_split(split)


def test_flower_may_set_what_a_run_may_be_asked():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    declared = project["tool"]["flwr"]["app"]["config"]
    assert declared.pop("out")
    assert declared == {k: v for k, v in RunConfig().to_dict().items() if v != []}


def test_every_strategy_has_a_default_number_of_rounds():
    assert set(DEFAULT_ROUNDS) == set(STRATEGIES)
    assert check_split("dirichlet:0.5") == (0.5, None)
    assert check_split("dirichlet:0.5:200") == (0.5, 200)
    assert check_split("iid") is None
