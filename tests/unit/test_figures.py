"""The figures that pages quote as today's are those that the benches have measured."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "bench" / "results"
WIRE, DESIGN = "docs/performance.md", "docs/architecture.md"
# Page; its words, with the figure as #; which of whose figures that is.
QUOTED = [
    ("README.md", "Three bare virtual nodes take # s", "provision", "bare", "ours"),
    ("README.md", "a run with nothing to do # times", "provision", "unchanged", "ratio"),
    ("README.md", "A training sends and takes # MB a node", "learning", "bytes a node", "ours"),
    ("README.md", "takes # times a bare SSH echo", "wire", "echo round", "ratio"),
    ("README.md", "the same round takes # times as long", "wire", "flower round", "ratio"),
    (WIRE, "an approved job on each node | # ms", "wire", "echo round", "ours"),
    (WIRE, "which echoes the same bytes | # ms", "wire", "echo round", "rival"),
    (WIRE, "gloo, one bucket | # ms", "wire", "same exchange", "rival"),
    (WIRE, "own SuperLink and SuperNodes | # s", "wire", "flower round", "rival"),
    (WIRE, "and # MB a node in all", "learning", "bytes a node", "ours"),
    (WIRE, "has its peak at # MB today", "wire", "resident", "ours"),
    (WIRE, "where torch alone takes # MB", "wire", "resident", "rival"),
    (WIRE, "It spends # ms of CPU", "wire", "controller CPU a node and round", "ours"),
    (WIRE, "the round takes # ms, as long", "wire", "100 echo workers", "ours"),
    (DESIGN, "whoever asks (`--engine`) | # s", "wire", "flower round", "rival"),
]
# README's table of accuracy and macro-recall: how a row begins, and whose figures it has.
LEARNT = [
    ("central training", "central #", "ours"),
    ("ten nodes, each with some of every language", "ten nodes iid #", "ours"),
    ("three nodes that share no language", "three nodes by language #", "ours"),
    ("two nodes that share no language", "two nodes #", "ours"),
    ("ten nodes that share no language", "ten nodes by language #", "ours"),
    ("fifty nodes, Dirichlet 0.1", "fifty nodes at Dirichlet 0.1 #", "ours"),
    ("Flower's FedAvg", "two nodes # beside FedAvg", "rival"),
    ("Flower's FedProx", "two nodes # beside FedProx", "rival"),
    ("always the commonest language", "central #", "rival"),
]


def measured(bench: str, figure: str, which: str, unit: str) -> float:
    """Give what a bench has written of a figure, milliseconds as seconds where those are asked."""
    rows = json.loads((RESULTS / f"{bench}.json").read_text())
    (row,) = (row for row in rows if row["figure"] == figure)
    return row[which] / (1000 if (row["unit"], unit) == ("ms", "s") else 1)


def agrees(quoted: str, value: float) -> bool:
    """Whether a value is rounded to what is quoted; zeros at a whole number's end are rounding."""
    whole, _, fraction = quoted.replace(",", "").partition(".")
    places = len(fraction) or len(whole.rstrip("0")) - len(whole)
    return abs(float(f"{whole}.{fraction}") - value) <= 0.51 * 10.0**-places


@pytest.mark.parametrize(("page", "words", "bench", "figure", "which"), QUOTED)
def test_a_page_quotes_what_was_measured(page, words, bench, figure, which):
    before, after = (re.escape(part).replace(r"\ ", r"\s+") for part in words.split("#"))
    found = re.findall(rf"{before}([\d.,]*\d){after}\b", (ROOT / page).read_text())
    assert len(found) == 1, f"{page} has not once: {words}"
    value = measured(bench, figure, which, words.split("#")[1].split()[0])
    assert agrees(found[0], value), f"{page} quotes {found[0]}, {bench}.json has {value}"


@pytest.mark.parametrize(("begin", "figure", "which"), LEARNT)
def test_the_table_of_what_is_learnt_has_what_was_measured(begin, figure, which):
    rows = re.findall(r"(?m)^\| (.+) \| (\S+) % \| (\S+) % \|$", (ROOT / "README.md").read_text())
    assert len(rows) == len(LEARNT)
    (row,) = (row for row in rows if row[0].startswith(begin))
    for quoted, kind in zip(row[1:], ("accuracy", "macro-recall"), strict=True):
        value = measured("learning", figure.replace("#", kind), which, "%")
        assert agrees(quoted, value), f"README.md quotes {quoted} of {begin}, not {value}"


@pytest.mark.parametrize(
    ("quoted", "value", "same"),
    [("27", 27.3, True), ("31", 27.3, False), ("5,600", 5637, True), ("5,600", 5700, False),
     ("4.0", 3.95, True), ("3.4", 3.95, False), ("73.5", 73.6, False)],
)  # fmt: skip
def test_what_is_quoted_is_told_from_what_is_not(quoted, value, same):
    assert agrees(quoted, value) is same
