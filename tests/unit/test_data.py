import numpy as np
import pytest
import torch

from fedrnn.learning.data import (
    MIN_BATCH,
    PARTS,
    Batches,
    DataError,
    counts,
    examples,
    part,
    read_folder,
)


def write(folder, **labels):
    folder.mkdir(exist_ok=True)
    for label, text in labels.items():
        (folder / f"{label}.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def test_a_folder_is_read_normalised_once_each_and_sorted(tmp_path):
    write(tmp_path, Polish="Nowak\r\nnowak\n\nŁoś\n", Georgian="\ufeffგელა\n123\n")
    (tmp_path / "README").write_text("not data")
    (tmp_path / "._Polish.txt").write_bytes(b"\xff")
    assert read_folder(tmp_path) == {"Georgian": ["gela"], "Polish": ["los", "nowak"]}


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ({}, "is empty"),
        ({"Polish": ""}, "Polish.txt has no name in it"),
        ({"Polish": " \n123\n"}, "Polish.txt has no name in it"),
        ({"Polish": b"Nowak\n\xff\n"}, "Polish.txt is not UTF-8 in line 2"),
        ({"Polish": b"\xffNowak\n"}, "Polish.txt is not UTF-8 in line 1"),
        ({"Foo": "a\n", "foo": "b\n"}, "Foo.txt and foo.txt are two spellings"),
        ({"New Zealand": "a\n", "new_zealand": "b\n"}, "two spellings"),
    ],
)
def test_a_folder_that_cannot_be_used_is_named(tmp_path, labels, sentence):
    folder = write(tmp_path / "data", **labels)
    with pytest.raises(DataError) as caught:
        read_folder(folder)
    assert sentence in str(caught.value)
    assert str(folder) in str(caught.value)
    # Not even the chained exception may carry private bytes.
    assert caught.value.__cause__ is None
    assert "Nowak" not in str(caught.value)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_folder(tmp_path / "nowhere")


def test_parts_are_80_10_10_and_depend_on_name_and_seed_alone():
    drawn = [part(f"name{i}", 0) for i in range(10_000)]
    assert drawn == [part(f"name{i}", 0) for i in range(10_000)]
    assert drawn != [part(f"name{i}", 1) for i in range(10_000)]
    shares = [drawn.count(p) / len(drawn) for p in PARTS]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.015)
    # Fixed for ever: models that were trained yesterday are compared with today's.
    fixed = {
        "nowak": "train",
        "smith": "train",
        "aho": "train",
        "garcia": "train",
        "meyer": "train",
        "kovac": "test",
        "tamm": "train",
        "jansen": "train",
        "rossi": "test",
        "popov": "train",
    }
    assert {name: part(name, 0) for name in fixed} == fixed


def test_examples_and_counts_agree_and_a_foreign_label_is_refused():
    names = {"A": [f"a{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(300)], "B": ["bee"]}
    table = counts(names, 0)
    split = examples(names, ["B", "A"], 0)
    for key in PARTS:
        targets = split[key].targets
        assert (targets == 1).sum() == table[key]["A"]
        assert (targets == 0).sum() == table[key]["B"]
    assert sum(len(split[p].targets) for p in PARTS) == 301
    with pytest.raises(DataError, match="labels A are not in this run"):
        examples(names, ["B"], 0)


def test_an_epoch_has_every_row_once_in_near_equal_batches_of_similar_lengths():
    lengths = torch.randint(2, 20, (3870,), generator=torch.Generator().manual_seed(0))
    batches = Batches(lengths, 85, seed=1)
    rows = [batches.at(n) for n in range(1, batches.per_epoch + 1)]
    assert sorted(np.concatenate(rows).tolist()) == list(range(3870))
    sizes = {len(r) for r in rows}
    assert max(sizes) - min(sizes) <= 1
    assert abs(max(sizes) - 85) <= 2
    padded = sum(int(lengths[torch.from_numpy(r)].max()) * len(r) for r in rows)
    assert padded < 1.15 * int(lengths.sum())


def test_a_batch_depends_on_seed_and_number_alone():
    lengths = torch.randint(2, 20, (500,), generator=torch.Generator().manual_seed(0))
    one, two, other = (Batches(lengths, 64, seed=s) for s in (1, 1, 2))
    in_order = [one.at(n).tolist() for n in range(1, 41)]
    backwards = [two.at(n).tolist() for n in range(40, 0, -1)][::-1]
    assert in_order == backwards
    assert in_order != [other.at(n).tolist() for n in range(1, 41)]
    assert in_order[0] not in in_order[one.per_epoch : 2 * one.per_epoch]


@pytest.mark.parametrize("rows", [16, 17, 31, 33, 47, 100])
def test_no_batch_is_below_the_minimum(rows):
    batches = Batches(torch.full((rows,), 5), 16, seed=0)
    assert min(len(batches.at(n)) for n in range(1, 50)) >= MIN_BATCH


def test_too_few_names_are_refused():
    with pytest.raises(DataError, match="15 names, fewer than 16"):
        Batches(torch.full((15,), 5), 85, seed=0)
