import numpy as np
import pytest
import torch

from fedrnn.learning.data import Examples
from fedrnn.learning.evaluation import accuracy, evaluate, macro_recall, worst
from fedrnn.learning.model import CharRNN
from fedrnn.learning.text import encode

CONFUSION = np.array([[8, 2, 0], [1, 1, 0], [0, 0, 0]])


def test_figures_of_a_known_matrix():
    assert accuracy(CONFUSION) == pytest.approx(9 / 12)
    assert macro_recall(CONFUSION) == pytest.approx(
        (0.8 + 0.5) / 2
    )  # a label without rows: left out
    assert worst("abc", CONFUSION, 3) == [("b", 0.5), ("a", 0.8)]


def test_nothing_to_evaluate_is_no_error():
    empty = np.zeros((3, 3), dtype=np.int64)
    assert accuracy(empty) == macro_recall(empty) == 0.0
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
