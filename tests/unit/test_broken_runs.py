"""A report of a run that was cut off, or whose files are damaged or none of a run."""

import json
from pathlib import Path

import pytest

from fedrnn import report as command
from fedrnn.reporting import report
from tests.made_runs import edit_rounds, make_run


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "run")


@pytest.mark.parametrize("left", [0, 1, 7])
def test_a_run_that_was_cut_off_is_shown_for_what_there_is(run, left):
    for name in ("summary.json", "config.json", "model.safetensors"):
        (run / name).unlink()
    edit_rounds(run, lambda event: event["round"] <= left)
    lines = (run / "metrics.jsonl").read_text().splitlines()
    events = [line for line in lines if '"event": "evaluation"' not in line]
    (run / "metrics.jsonl").write_text("\n".join(events) + '\n{"event": "rou')
    page = report.write(run).read_text()
    assert "it was cut off, or still goes on" in page
    assert "lines that cannot be read: 1" in page
    assert 'id="model"' not in page
    assert ("no round was done" in page) == (left == 0)


def test_a_run_of_which_only_the_manifest_is_left_has_a_page(run):
    for path in run.iterdir():
        if path.name != "manifest.json":
            path.unlink()
    assert "no round was done" in report.write(run).read_text()


@pytest.mark.parametrize("name", ["summary.json", "config.json", "model.safetensors"])
def test_a_broken_file_is_named_and_the_rest_is_shown(run, name):
    (run / name).write_bytes(b'{"accuracy": 0.')
    page = report.write(run).read_text()
    assert f"{name} cannot be read" in page and 'id="accuracy"' in page


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("metrics.jsonl", {"event": "round"}),
        ("metrics.jsonl", {"event": "round", "round": 3, "seconds": 0.1, "nodes": None}),
        ("metrics.jsonl", {"event": "round", "round": "3", "seconds": 0.1, "nodes": {}}),
        ("metrics.jsonl", {"event": "nodes", "nodes": None}),
        ("metrics.jsonl", {"event": "nodes", "nodes": {"pi1": 3}}),
        ("metrics.jsonl", {"event": "evaluation", "part": "validation", "round": 3}),
        ("summary.json", {"nodes": None}),
        ("summary.json", {"accuracy": "high"}),
        ("summary.json", {"confusion": [[1]], "nodes": {"pi1": None}}),
        ("summary.json", {"nodes": {}, "bytes_up": {}}),
        ("manifest.json", {"nodes": ["pi1"], "run": {"strategy": "unheard of"}}),
        ("manifest.json", {"job": "a", "owners": {"pi1": None}, "asked": [], "files": 3}),
        ("config.json", {"labels": 7}),
    ],
)
@pytest.mark.parametrize("asked", ["one", "two"])
def test_a_file_of_json_that_is_no_runs_is_named(tmp_path, run, capsys, name, line, asked):
    if name == "metrics.jsonl":
        lines = (run / name).read_text().splitlines()
        kept = [one for one in lines if f'"event": "{line["event"]}"' not in one]
        (run / name).write_text("\n".join([*kept, json.dumps(line)]))
    else:
        (run / name).write_text(json.dumps(line))
    folders = [run] if asked == "one" else [run, make_run(tmp_path / "other", rounds=2)]
    code = command.main([str(folder) for folder in folders])
    told = capsys.readouterr()
    page = told.out.strip() and Path(told.out.strip()).read_text()
    assert name in (page if code == 0 else told.err) and "Traceback" not in told.err


def test_no_run_is_refused_in_a_sentence(tmp_path, capsys):
    assert command.main([str(tmp_path / "nothing")]) == 2
    assert "is no folder of a run" in capsys.readouterr().err
