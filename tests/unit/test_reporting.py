"""What a run leaves for people: tables, a picture, a summary."""

import csv
import gc
import io
import json
import resource
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from rich.console import Console

from fedrnn.config import RunConfig
from fedrnn.federation.server_app import federate
from fedrnn.learning.data import counts, read_folder
from fedrnn.reporting import results, tables
from fedrnn.reporting.split import save_split

ROOT = Path(__file__).parents[2]
SMALL = RunConfig(rounds=12, hidden=8, embedding=6, batch=96, lr=3e-2)
NAMES = {1: "pi1", 2: "pi2"}


@pytest.fixture
def grid(make_grid):
    return make_grid(["Finnish", "Greek"], ["Greek", "Polish"])


def test_the_split_is_a_table_and_a_picture_of_who_holds_what(grid, tmp_path):
    held = {NAMES[n]: read_folder(folder) for n, folder in grid.folders.items()}
    parts = {name: counts(labels, 0) for name, labels in held.items()}
    labels = ("Finnish", "Greek", "Polish")
    save_split(tmp_path, labels, parts)
    with (tmp_path / "split.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        for node in ("pi1", "pi2"):
            assert int(row[node]) == len(held[node].get(row["label"], []))
    before = (tmp_path / "split.svg").read_bytes()
    text = " ".join(ElementTree.fromstring(before).itertext()).split()
    assert {"pi1", "pi2", "Finnish", str(len(held["pi1"]["Finnish"]))} <= set(text)
    save_split(tmp_path, labels, parts)
    assert (tmp_path / "split.svg").read_bytes() == before


def test_odd_labels_can_be_drawn(tmp_path, recwarn):
    labels = ("$\\frac{", "日本", "<b>&", "x\u202ey")
    gc.collect()  # what earlier tests have left open is reported when its memory is freed
    recwarn.clear()
    save_split(tmp_path, labels, {"p$1$": {"train": dict.fromkeys(labels, 3)}, "p2": {}})
    assert "日本" in "".join(ElementTree.parse(tmp_path / "split.svg").getroot().itertext())
    assert not recwarn.list


def test_a_full_disk_as_a_run_is_taken_up_leaves_it_as_it_was(tmp_path):
    (tmp_path / "manifest.json").write_text('{"job": "train-1"}')
    (tmp_path / "metrics.jsonl").touch()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with pytest.raises(OSError, match="manifest"):
            results.RunFolder.again(tmp_path, {"job": "train-2"}, 3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert json.loads((tmp_path / "manifest.json").read_text()) == {"job": "train-1"}


@pytest.fixture
def finished(grid, tmp_path, monkeypatch):
    monkeypatch.setattr(results, "RUNS", tmp_path)
    outcome = federate(grid, SMALL, names=NAMES)
    outcome.dropped = {"pi2": 3}
    folder = results.RunFolder.new({})
    folder.save_model(SMALL, outcome)
    row = {**outcome.score.figures(), "seconds": 2.0}
    measured = {"memory_mb": {"pi1": 1, "pi2": 2}, "comparison": {"central, same network": row}}
    folder.finish(SMALL, outcome, measured)
    return outcome, json.loads((tmp_path / "latest" / "summary.json").read_text())


def test_the_summary_has_every_figure_for_each_node_and_for_all(finished):
    outcome, summary = finished
    for figure, value in outcome.score.figures().items():
        if figure != "loss":
            assert summary[figure] == value
    assert summary["model_of_round"] == outcome.chosen
    assert summary["nodes"]["pi2"]["dropped_updates"] == 3
    for name, score in outcome.scores.items():
        told = summary["nodes"][name]["test"]
        assert told["confusion"] == score.confusion.tolist()
        assert told["macro_f1"] == score.figures()["macro_f1"]
    tested = [node["test"]["examples"] for node in summary["nodes"].values()]
    assert sum(tested) == sum(map(sum, summary["confusion"]))


def test_the_tables_fit_a_terminal_and_tell_the_same(finished):
    _, summary = finished
    console = Console(width=80, record=True, file=io.StringIO())
    for table in (tables.nodes(summary, console), tables.comparison(summary, console)):
        console.print(table)
    text = console.export_text()
    assert "macro-recall" in text and "dropped" in text and "…" not in text
    assert f"{100 * summary['nodes']['pi1']['test']['accuracy']:.1f} %" in text
    assert "central, same network" in text


def test_of_many_nodes_the_worst_have_a_row(finished):
    _, summary = finished
    one = summary["nodes"]["pi1"]
    summary["nodes"] = {
        f"node{n:03}": {**one, "test": {**one["test"], "accuracy": (n * 7 % 1000) / 1000}}
        for n in range(1000)
    }
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(tables.nodes(summary, console))
    lines = console.export_text().splitlines()
    rows = [line.split()[0] for line in lines if line.startswith("node") and "%" in line]
    assert len(rows) == 20 and all(int(name[4:]) * 7 % 1000 < 20 for name in rows)
    assert "and 980 nodes more" in lines[-1]


def test_the_picture_of_the_split_has_the_nodes_that_hold_most(tmp_path):
    parts = {f"node{n:03}": {"train": {"Greek": n}} for n in range(1000)}
    save_split(tmp_path, ("Greek",), parts)
    assert len((tmp_path / "split.csv").read_text().splitlines()[0].split(",")) == 1001
    text = " ".join(ElementTree.parse(tmp_path / "split.svg").getroot().itertext())
    assert "node980" in text and "node979" not in text


def test_jobs_are_left_behind_where_a_node_was_out_of_reach_at_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "RUNS", tmp_path)
    ends = {"a": {"pi1": "done"}, "b": {"pi1": "done", "pi2": "unknown: it does not answer"}}
    for name, jobs in ends.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.jsonl").touch()
        (tmp_path / name / "manifest.json").write_text(json.dumps({"job": f"train-{name}"}))
        (tmp_path / name / "summary.json").write_text(json.dumps({"jobs": jobs}))
    (tmp_path / "begun").mkdir()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "manifest.json").write_text(json.dumps({"job": "train-damaged"}))
    (tmp_path / "damaged" / "summary.json").write_text("{")
    assert results.left_behind() == {"train-b"}


def test_the_job_of_a_run_that_was_killed_is_left_behind_and_not_that_of_one_at_work(
    tmp_path, monkeypatch
):
    """As a run, and as one that is taken up, whose folder has the summary of before."""
    monkeypatch.setattr(results, "RUNS", tmp_path)
    begin = (
        "import signal, sys; from pathlib import Path;"
        "from fedrnn.reporting.results import RunFolder;"
        "folder = RunFolder(Path(sys.argv[1]), {'job': 'train-a'});"
        "print('begun', flush=True); signal.pause()"
    )
    folder = tmp_path / "a"
    folder.mkdir()
    for end_before in ("done", "unknown: the node does not answer"):
        (folder / "summary.json").write_text(json.dumps({"jobs": {"pi1": end_before}}))
        command = [sys.executable, "-c", begin, folder]
        run = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        try:
            assert run.stdout.readline() == b"begun\n"
            at_work = results.left_behind()
        finally:
            run.kill()
            run.communicate()
        assert at_work == set() and results.left_behind() == {"train-a"}
