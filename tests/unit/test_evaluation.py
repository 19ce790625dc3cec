import numpy as np
import pytest
import torch

from fedrnn.learning.data import Examples
from fedrnn.learning.evaluation import (
    BINS,
    Score,
    accuracy,
    calibration_error,
    evaluate,
    macro_f1,
    macro_recall,
    scored,
    worst,
)
from fedrnn.learning.model import CharRNN
from fedrnn.learning.text import encode

CONFUSION = np.array([[8, 2, 0], [1, 1, 0], [0, 0, 0]])


def test_figures_of_a_known_matrix():
    assert accuracy(CONFUSION) == pytest.approx(9 / 12)
    assert macro_recall(CONFUSION) == pytest.approx(
        (0.8 + 0.5) / 2
    )  # a label without rows: left out
    # F1 of a: precision 8/9, recall 8/10; of b: 1/3 and 1/2.
    harmonic = [2 / (9 / 8 + 10 / 8), 2 / (3 + 2)]
    assert macro_f1(CONFUSION) == pytest.approx(sum(harmonic) / 2)
    assert worst("abc", CONFUSION, 3) == [("b", 0.5), ("a", 0.8)]


def test_nothing_to_evaluate_is_no_error():
    empty = np.zeros((3, 3), dtype=np.int64)
    assert accuracy(empty) == macro_recall(empty) == macro_f1(empty) == 0.0
    assert calibration_error(Score.nothing(3).calibration) == 0.0
    assert worst("abc", empty, 3) == []


def test_evaluate_equals_a_plain_loop_and_ignores_dropout():
    random = np.random.default_rng(0)
    names = ["".join(random.choice(list("abcxyz"), random.integers(1, 20))) for _ in range(1200)]
    targets = torch.from_numpy(random.integers(0, 4, 1200))
    data = Examples(*map(torch.from_numpy, encode(names)), targets)
    model = CharRNN(4, hidden=8, dropout=0.9)
    score = evaluate(model, data, 4)
    confusion = np.zeros((4, 4), dtype=int)
    loss = 0.0
    with torch.no_grad():
        for name, target in zip(names, targets.tolist(), strict=True):
            logits = model(*map(torch.from_numpy, encode([name])))[0]
            confusion[target, int(logits.argmax())] += 1
            loss -= float(logits.log_softmax(0)[target])
    assert (score.confusion == confusion).all()
    assert score.loss_sum == pytest.approx(loss, rel=1e-4)


def test_an_empty_part_scores_zero():
    ids, lengths = map(torch.from_numpy, encode([]))
    data = Examples(ids, lengths, torch.zeros(0, dtype=torch.int64))
    score = evaluate(CharRNN(4), data, 4)
    assert not score.confusion.any()
    assert score.loss_sum == 0


def test_the_calibration_error_is_that_of_the_definition():
    random = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(500, 4, generator=random)
    targets = torch.randint(0, 4, (500,), generator=random)
    confidence, answer = logits.softmax(1).max(1)
    expected = 0.0
    for low in range(BINS):
        inside = (confidence >= low / BINS) & (confidence < (low + 1) / BINS)
        if inside.any():
            right = (answer == targets)[inside].float().mean()
            expected += float(inside.float().mean() * (right - confidence[inside].mean()).abs())
    found = scored(logits, targets)
    assert calibration_error(found.calibration) == pytest.approx(expected, abs=1e-5)
    assert found.calibration[0].sum() == 500
    sure = scored(torch.tensor([[1000.0, 0.0]] * 10), torch.zeros(10, dtype=torch.int64))
    assert calibration_error(sure.calibration) == 0.0  # confidence 1 has a bin, too


def test_scores_of_nodes_add_up_to_that_of_their_names_together():
    random = torch.Generator().manual_seed(1)
    logits = torch.randn(300, 3, generator=random)
    targets = torch.randint(0, 3, (300,), generator=random)
    parts = [scored(logits[a:b], targets[a:b]) for a, b in ((0, 100), (100, 110), (110, 300))]
    together = scored(logits, targets)
    added = sum(parts, Score.nothing(3))
    assert (added.confusion == together.confusion).all()
    assert added.figures() == pytest.approx(together.figures())
