"""`--compare`: what else the same rows give, where pooling them is nobody's secret."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch

from fedrnn.config import DEFAULT_ROUNDS, RunConfig
from fedrnn.federation.outcome import Outcome
from fedrnn.federation.strategies import FederationError
from fedrnn.learning import ngrams
from fedrnn.learning.checkpoint import ModelConfig
from fedrnn.learning.data import Batches, Part, by_part, examples
from fedrnn.learning.evaluation import Score, evaluate, scored
from fedrnn.learning.model import parameters_of, set_parameters
from fedrnn.learning.optimiser import AdamW, schedule
from fedrnn.learning.training import gradient, seed_dropout

Names = Mapping[str, Sequence[str]]
Rows = dict[str, dict[str, float]]
OWN_DATA = (
    "--compare pools all names on this machine, and the names of these nodes are their own: it is "
    "for the embedded names and for --local"
)


def pool(shares: Mapping[str, Names], told: Mapping[str, Mapping[str, int]]) -> dict[str, set[str]]:
    """Return label to names of all shares of the embedded names, by node name.

    Raises:
        FederationError: what a node has told, label to rows, is not what its share has.
    """
    pooled: dict[str, set[str]] = {}
    for node, rows in told.items():
        if dict(rows) != {label: len(names) for label, names in shares[node].items()}:
            raise FederationError(f"{node} does not hold its share of them. {OWN_DATA}")
        for label, names in shares[node].items():
            pooled.setdefault(label, set()).update(names)
    return pooled


def compare(
    pooled: Mapping[str, set[str]],
    config: RunConfig,
    outcome: Outcome,
    federated: Callable[[RunConfig], Outcome],
    say: Callable[[str], None],
) -> Rows:
    """Return figures and seconds of the rivals by their name; Ctrl-C returns those there are.

    Each chooses by the validation part and is told by the test part. ``federated`` trains over
    the nodes.
    """
    names = {label: sorted(members) for label, members in sorted(pooled.items())}
    rows: Rows = {}

    def measure(name: str, rival: Callable[[], Score | None]) -> None:
        say(f"to compare: {name}")
        started = time.monotonic()
        if score := rival():
            rows[name] = {**score.figures(), "seconds": time.monotonic() - started}

    torch.set_num_threads(1)  # as on a node: the batches are too small to gain from more
    length = config.rounds / DEFAULT_ROUNDS[config.strategy]
    # As long as this run is, in proportion to what each strategy needs.
    alone = _sized(config, "gradient", length)
    fedavg = _sized(config, "fedavg", length)
    try:
        measure("central, same network", lambda: central(names, alone, outcome))
        measure("central, 1-4-grams", lambda: central_ngrams(names, config, outcome.labels))
        if config.strategy != "fedavg":
            measure("fedavg, federated", lambda: federated(fedavg).score)
    except KeyboardInterrupt:
        say("the comparison ends here")
    except FederationError as error:
        say(f"no comparison with it: {error}")
    return rows


def _sized(config: RunConfig, strategy: str, length: float) -> RunConfig:
    if strategy == config.strategy:
        return config
    rounds = max(1, round(length * DEFAULT_ROUNDS[strategy]))
    return replace(config, strategy=strategy, rounds=rounds, options={})


def central(names: Names, config: RunConfig, outcome: Outcome) -> Score:
    """Return the test score of the outcome's network trained on all names at one place.

    Batches, schedule and optimiser are those of one gradient a round.
    """
    model: ModelConfig = outcome.model
    parts = examples(names, model.labels, config.data_seed)
    batches = Batches(parts["train"].lengths, config.batch, config.seed)
    shift = torch.tensor(outcome.logit_shift)
    network = model.build(config.seed)
    weights = best = parameters_of(network)
    optimiser, highest = AdamW(len(weights)), -1.0
    every = config.evaluation_rounds
    for number in range(1, config.rounds + 1):
        seed_dropout(config.seed, 0, number)
        slope, _ = gradient(network, *parts["train"].at(batches.at(number)), shift)
        rate = config.lr * schedule(number - 1, config.rounds)
        weights = optimiser.step(weights, slope, rate)
        set_parameters(network, weights)
        if number % every == 0 or number == config.rounds:
            score = evaluate(network, parts["validation"], len(model.labels))
            if (reached := score.figures()["accuracy"]) >= highest:
                highest, best = reached, weights
    set_parameters(network, best)
    return evaluate(network, parts["test"], len(model.labels))


def central_ngrams(names: Names, config: RunConfig, labels: Sequence[str]) -> Score:
    """Return the test score of logistic regression on character n-grams of all names."""
    known = by_part(names, labels, config.data_seed)

    def score(model: ngrams.NGrams, key: Part) -> Score:
        texts, targets = known[key]
        with torch.no_grad():
            return scored(model(*model.features(texts)), torch.tensor(targets))

    texts, targets = known["train"]
    trained = (
        ngrams.fit(texts, torch.tensor(targets), len(labels), strength)
        for strength in ngrams.STRENGTHS
    )
    best = max(trained, key=lambda model: score(model, "validation").figures()["accuracy"])
    return score(best, "test")
