"""Rows stay on the node: markers in the data are in nothing that a controller gets to see.

What leaves by design: the labels, which are the names of the files, counts, gradients, and what an
approved job writes to `outputs/`. Those are the controls: the same search finds them.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import INVENTORY, Lab, ansible_playbook, must
from governed import BOX, NODE, VAR, governed
from recorder import Recorder, recorded, where

from fedrnn import run

ROW = "zyxqvorow"  # a row of every label; the others are no rows, but nobody's business either
MARKERS = (ROW, "zyxqvohidden", "zyxqvonotes", "zyxqvofolder", "zyxqvobytes")
LABEL = "Labelmarkish"
SOURCE = "/home/pi/marked"
DATA = f"{BOX}/private/syft_datasets/names"
KEPT = f"{VAR}/.kept"  # of a file that is broken for a while
PLANT = f"""
rm -rf {SOURCE}; mkdir -p {SOURCE}/zyxqvofolder; cd {SOURCE}
cp /var/lib/fedrnn/share/*/*.txt .
seq -f name%.0f 40 | tr 0-9 a-j > {LABEL}.txt
for f in *.txt; do echo {ROW} >> $f; done
echo {ROW} | tee .zyxqvohidden.txt zyxqvonotes.csv zyxqvofolder/Zyxqvofolder.txt
"""
READ_ROW = f"""
import glob, os
rows = [l.strip() for f in glob.glob(os.environ["FEDRNN_DATA"] + "/*.txt") for l in open(f)]
row = next(r for r in rows if {ROW[:6]!r} + "row" == r)
"""
FAILING = {  # what a job does, and what its sender is told
    "raise ValueError(row)": "ValueError in code/",
    "int(row)": "ValueError in code/",
    "{}[row]": "KeyError in code/",
    "raise type(row, (Exception,), {})(row)": "an exception in code/",
    "import sys; print(row); print(row, file=sys.stderr); sys.exit(row)": "it ended with the exit",
    "exec(compile('raise RuntimeError', row, 'exec'))": "RuntimeError in code/",
    "b'\\xff'.decode()": "UnicodeDecodeError in code/",
    "raise ExceptionGroup(row, [OSError(row)])": "",
}  # fmt: skip


@pytest.fixture(scope="module")
def planted(lab: Lab) -> Iterator[Lab]:
    """The node's own names with a marker in every label, and files beside that are no data."""
    deploy = ("--limit", NODE, "--tags", "dataset", "playbooks/cluster.yml")
    done = lab.ssh(NODE, f"sudo sh -ec {shlex.quote(PLANT)}")
    assert done.returncode == 0, done.stderr
    try:
        must(ansible_playbook("-e", f"dataset_source={SOURCE}", *deploy))
        found = lab.ssh(NODE, f"sudo sh -c 'grep -l {ROW} {DATA}/*.txt | wc -l'").stdout
        assert int(found) >= 3, "the marker is not in the data: nothing would be looked for"
        yield lab
    finally:
        must(ansible_playbook(*deploy))
        lab.ssh(NODE, f"sudo rm -r {SOURCE}")


def assert_clean(recorder: Recorder, printed: str) -> None:
    seen = list(recorder.seen(printed))
    assert {marker: found for marker in MARKERS if (found := where(marker, seen))} == {}


@pytest.mark.usefixtures("planted")
def test_no_row_and_no_other_file_leaves_by_a_run(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """By describe, submit, status, attach, results; the label does, so that the search finds it."""
    with recorded(tmp_path) as recorder:
        assert run.main(["--inventory", str(INVENTORY), "--nodes", NODE, "--rounds", "30"]) == 0
        with governed(Lab(), tmp_path) as node:
            assert node.node.datasets[0].mock_files
    printed = "".join(capfd.readouterr())
    assert_clean(recorder, printed)
    found = where(LABEL.lower(), recorder.seen(printed))
    for place in ("channel", "packets", "name of a file", str(tmp_path / "runs")):
        assert any(entry.startswith(place) for entry in found), (place, found)
    assert sum(map(len, recorder.streams.values())) > 30 * 30_000, "no gradient was recorded"


@pytest.mark.usefixtures("planted")
def test_no_row_leaves_by_an_exception_or_by_what_a_job_prints(
    lab: Lab, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its owner reads it: so it was there to leave."""
    with recorded(tmp_path) as recorder, governed(lab, tmp_path) as node:
        names = {node.submit(READ_ROW + work + "\n", "row"): work for work in FAILING}
        node.owner("; sudo fedrnn-owner ".join(f"approve {name}" for name in names))
        for name, work in names.items():
            state = node.wait(name, "failed")
            assert str(state["reason"]).startswith(FAILING[work]), (work, state)
        assert len(node.node.jobs) == len(names)
    said = lab.ssh(NODE, "; ".join(f"sudo fedrnn-owner show {name}" for name in names)).stdout
    assert said.count(f"| {ROW}") + said.count(f": {ROW}") >= 5, said
    assert_clean(recorder, "".join(capfd.readouterr()))


@pytest.mark.usefixtures("planted")
def test_no_row_leaves_by_a_training_file_that_is_not_utf8(
    lab: Lab, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = f"{DATA}/{LABEL}.txt"
    keep = f"sudo sh -c 'cp -p {file} {KEPT}; echo zyxqvobytes >> {file}; "
    lab.ssh(NODE, keep + f'printf "zyxqvobytes\\377\\n" >> {file}\'')
    try:
        with recorded(tmp_path) as recorder:
            assert run.main(["--inventory", str(INVENTORY), "--nodes", NODE, "--rounds", "3"]) == 1
    finally:
        lab.ssh(NODE, f"sudo sh -c 'cp -p {KEPT} {file}; rm {KEPT}'")
    printed = "".join(capfd.readouterr())
    assert f"{LABEL}.txt is not UTF-8" in printed.replace("\n", "")
    assert_clean(recorder, printed)


@pytest.mark.usefixtures("planted")
def test_an_output_that_holds_a_row_leaves_so_the_tests_above_can_fail(
    lab: Lab, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Outputs are what an owner shares who approves a job: he has read its code."""
    with recorded(tmp_path) as recorder, governed(lab, tmp_path) as node:
        name = node.start(READ_ROW + "open('outputs/row.txt', 'w').write(row)\n", "output")
        assert node.outputs(name) == {"row.txt": ROW}
    places = where(ROW, recorder.seen("".join(capfd.readouterr())))
    assert {place.split()[0].rstrip(":") for place in places} > {"channel", "packets"}
