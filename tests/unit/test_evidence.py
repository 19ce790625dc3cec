"""That the figures are earned: what must fail fails, and what must not be learned is not."""

import numpy as np
import pytest

from fedrnn.config import RunConfig
from fedrnn.federation import client_app
from fedrnn.federation.server_app import federate
from fedrnn.learning.checkpoint import Checkpoint
from fedrnn.learning.data import examples, part, read_folder
from fedrnn.learning.evaluation import evaluate, recalls
from fedrnn.learning.model import set_parameters

SMALL = {"hidden": 16, "embedding": 8, "batch": 96, "lr": 3e-2, "local_batch": 32}
LABELS = ["Finnish", "Georgian", "Greek", "Polish"]
STRATEGIES = {"gradient": 60, "fedavg": 6}  # and their rounds


def config(strategy, **changes):
    return RunConfig(**{**SMALL, "strategy": strategy, "rounds": STRATEGIES[strategy], **changes})


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_shuffled_labels_drop_accuracy_to_chance(make_grid, strategy):
    grid = make_grid(LABELS, LABELS)
    assert federate(grid, config(strategy)).accuracy > 0.9
    draw = np.random.default_rng(0)
    for folder in grid.folders.values():
        files = sorted(folder.glob("*.txt"))
        lines = sorted({line for file in files for line in file.read_text().splitlines()})
        draw.shuffle(lines)
        for number, file in enumerate(files):
            file.write_text("\n".join(lines[number::4]))
    # A quarter, give or take what 150 test names allow.
    assert 0.1 < federate(fresh(grid), config(strategy)).accuracy < 0.4


def fresh(grid):
    """The same nodes with workers that have not read their data yet."""
    client_app._examples.cache_clear()
    client_app._batches.cache_clear()
    for node in grid.folders:
        grid.restart(node)
    return grid


def test_leaving_a_node_out_loses_its_languages_and_no_others(make_grid):
    grid = make_grid(["Finnish", "Greek"], ["Polish"], ["Georgian"])
    whole = federate(grid, config("gradient"))
    grid.down = {3}
    without = federate(grid, config("gradient"))
    assert without.labels == ("Finnish", "Greek", "Polish")
    # Asked about everybody's test names, the model knows all languages but those of the absent.
    model = without.model.build()
    set_parameters(model, without.weights)
    found, kept = {}, dict(zip(whole.labels, recalls(whole.confusion), strict=True))
    for folder in grid.folders.values():
        for label, names in read_folder(folder).items():
            tested = [name for name in names if part(name, 0) == "test"]
            answers = Checkpoint(model, without.model).predict(tested)
            found[label] = sum(ranked[0][0] == label for ranked in answers) / len(tested)
    assert found["Georgian"] == 0 and kept["Georgian"] > 0.9
    assert all(found[label] > 0.9 for label in without.labels)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_name_of_the_test_part_is_never_learned(make_grid, strategy):
    grid = make_grid(["Finnish", "Greek"], ["Polish"])
    given = config(strategy, rounds=STRATEGIES[strategy] // 6)
    planted = {p: next(n for n in candidates() if part(n, 0) == p) for p in ("test", "train")}
    file = grid.folders[2] / "Polish.txt"
    before = file.read_text()
    without = federate(grid, given)
    file.write_text(f"{before}\n{planted['test']}\n")
    with_canary = federate(fresh(grid), given)
    assert with_canary.confusion.sum() == without.confusion.sum() + 1  # it was there
    assert (with_canary.weights == without.weights).all()
    file.write_text(f"{before}\n{planted['train']}\n")
    assert (federate(fresh(grid), given).weights != without.weights).any()


def candidates():
    return (f"zzxq{a}{b}zz" for a in "abcdefgh" for b in "abcdefgh")


def test_the_sum_of_the_nodes_counts_is_the_score_on_all_their_names(make_grid):
    grid = make_grid(["Finnish", "Greek"], ["Polish"], ["Georgian", "Polish"])
    outcome = federate(grid, config("gradient", rounds=20))
    model = outcome.model.build()
    set_parameters(model, outcome.weights)
    scores = [
        evaluate(model, examples(read_folder(folder), outcome.labels, 0)["test"], 4)
        for folder in grid.folders.values()
    ]
    for node, score in zip(outcome.scores.values(), scores, strict=True):
        assert (node.confusion == score.confusion).all()
    confusion = sum(score.confusion for score in scores)
    assert (outcome.confusion == confusion).all()
    assert outcome.accuracy == confusion.trace() / confusion.sum()
    assert outcome.score.calibration[0].sum() == confusion.sum()


def test_the_model_kept_is_the_best_on_validation(make_grid):
    """From round 5 on all nodes answer nonsense: the last round is not the best."""

    def spoil(message, reply):
        kind, told = message.metadata.message_type, message.content["config"]
        if kind == "train" and told["server-round"] >= 5:
            arrays = reply.content["arrays"]
            for name, array in arrays.items():
                arrays[name] = type(array)(-array.numpy())
        return reply

    grid = make_grid(LABELS, LABELS)
    grid.tamper = spoil
    found = federate(grid, config("fedavg", rounds=8, evaluate_every=1))
    accuracies = {round_: accuracy for round_, accuracy, _ in found.validation}
    assert found.rounds == 8 and found.chosen < 5
    assert accuracies[found.chosen] == max(accuracies.values()) > accuracies[8]
    shorter = federate(
        fresh(grid), config("fedavg", rounds=found.chosen, evaluate_every=found.chosen)
    )
    assert (shorter.weights == found.weights).all()
    assert shorter.accuracy == found.accuracy
