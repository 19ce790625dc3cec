import numpy as np
import pytest

from fedrnn.learning.text import ALPHABET, MAX_LENGTH, VOCABULARY, encode, normalise


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Kowalski", "kowalski"),
        ("  Łódź\t", "lodz"),
        ("Παπαδόπουλος", "papadopoylos"),
        ("O'Neill-Smith", "o'neill-smith"),
        ("van  der\nBerg", "van der berg"),
        ("-'x'-", "x"),
        ("😀 Ünal 3", "unal"),
        ("\ud800abc\x00", "abc"),
        ("", ""),
        ("…!?", ""),
        ("a" * 1000, "a" * MAX_LENGTH),
        ("abcdefghijklmnopqrs tuv", "abcdefghijklmnopqrs"),
    ],
)
def test_normalise(text, expected):
    assert normalise(text) == expected


def test_any_unicode_ends_in_the_alphabet_and_normalising_twice_changes_nothing():
    points = [chr(p) for p in range(0, 0x11_0000, 7)]
    for start in range(0, len(points), 5):
        name = normalise("".join(points[start : start + 5]))
        assert set(name) <= set(ALPHABET)
        assert len(name) <= MAX_LENGTH
        assert normalise(name) == name


def test_encode_pads_with_zero_and_gives_an_empty_name_one_step():
    ids, lengths = encode(["Ab", "", "z" * 50])
    assert ids.dtype == lengths.dtype == np.int64
    assert ids.shape == (3, MAX_LENGTH)
    assert lengths.tolist() == [2, 1, MAX_LENGTH]
    assert ids[0].tolist() == [1, 2] + [0] * 18
    assert not ids[1].any()
    assert ids.max() < VOCABULARY


def test_encode_of_nothing():
    ids, lengths = encode([])
    assert ids.shape[0] == lengths.shape[0] == 0
