"""The live view of a run: on terminals of any size, without one, quiet and as JSON."""

from __future__ import annotations

import io
import json
import math
from types import SimpleNamespace

import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.metadata import (
    parse_experiment_plugin_data,
    parse_session_start_info_plugin_data,
)

from fedrnn.config import RunConfig
from fedrnn.federation.server_app import federate
from fedrnn.reporting import results
from fedrnn.reporting.live import ASCII_BARS, View, sparkline
from fedrnn.reporting.progress import Display
from fedrnn.reporting.tables import FIGURES

SMALL = RunConfig(rounds=12, hidden=8, embedding=6, batch=96, lr=3e-2)


def a_round(number: int, **nodes: float) -> dict:
    told = {
        name: {"loss": loss, "compute_seconds": 0.05, "rss_mb": 281.0, "num_examples": 5}
        for name, loss in nodes.items()
    }
    return {"event": "round", "round": number, "rounds": 300, "loss": 1.2, "seconds": 0.1,
            "nodes": told, "errors": {}}  # fmt: skip


def evaluation(accuracy: float, **celsius: float) -> dict:
    by_node = {
        name: {"celsius": heat, "throttled": 4.0, "memory_free_mb": 400.0, "swap_used_mb": 7.0}
        for name, heat in celsius.items()
    }
    return {"event": "evaluation", "part": "validation", "round": 1, "accuracy": accuracy,
            "by_node": by_node}  # fmt: skip


def drawn(view: View, width: int, encoding: str = "utf-8") -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
    console = Console(file=file, width=width, force_terminal=True, color_system=None)
    console.print(view)
    file.flush()
    return file.buffer.getvalue().decode(encoding)


@pytest.fixture
def view() -> View:
    view = View(300)
    view.take(evaluation(0.3, pi1=52.0), 1.0)
    view.take(a_round(100, pi1=0.712, pi2=0.9), 9.5)
    view.take(a_round(101, pi1=0.734), 9.6)
    view.take(evaluation(0.6, pi1=55.0), 9.7)
    return view


def test_a_row_per_node_says_how_it_is(view):
    rows = {line.split()[0]: line.split() for line in drawn(view, 100).splitlines()}
    first = [
        "pi1",
        "trains",
        "0.734",
        "0.050",
        "s",
        "281",
        "MB",
        "55",
        "C",
        "now",
        "400",
        "MB",
        "7",
        "MB",
    ]
    assert rows["pi1"] == first
    assert rows["pi2"][:3] == ["pi2", "away", "-"]
    assert "round 101 of 300  20 s left" in drawn(view, 100)
    assert "▅█  accuracy 60.0 %" in drawn(view, 100)


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_it_fits_a_terminal_of_any_width_and_of_ascii_alone(view, width, encoding):
    view.take(a_round(102, **{"<script>[b]" + 40 * "x": 0.5, "pi1": math.nan}), 9.9)
    text = drawn(view, width, encoding)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "pi1" in text and "102" in text


def test_a_thousand_nodes_leave_the_other_lines_on_the_screen(view, monkeypatch):
    monkeypatch.setenv("LINES", "25")
    many = {f"node{number:03}": 0.5 for number in range(1000)}
    view.take(a_round(102, **many), 9.9)
    view.nodes["node700"]["train"]["compute_seconds"] = 9.0
    away = sorted({"pi1", "pi2"} & view.nodes.keys())
    lines = drawn(view, 80).splitlines()
    assert len(lines) == 24
    assert [line.split()[0] for line in lines[1:4]] == [*away, "node700"]
    assert lines[-4].startswith("and 983 nodes more") and "round 102 of 300" in lines[-3]


def test_many_nodes_are_told_in_few_lines(capsys):
    display = Display(300)
    display.members({f"node{number:03}" for number in range(1000)})
    display.event(a_round(1), 0)
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if "is left out" in line]) == 20
    assert "and 980 nodes more are left out in round 1" in lines[20]


def test_traffic_that_nobody_counts_is_not_told(view, capsys):
    assert "9.6 MB" in drawn(view, 100)
    view.take(a_round(102, pi1=0.5), 0.0)
    line = next(line for line in drawn(view, 100).splitlines() if "accuracy" in line)
    assert line.rstrip().endswith("accuracy 60.0 %")
    Display(300).event(a_round(12, pi1=0.5), 0)
    assert "s/round" in (told := capsys.readouterr().out) and "MB" not in told


def test_a_sparkline_grows_from_zero():
    assert sparkline([0.0, 0.5, 1.0]) == "▁▅█"
    assert sparkline([0.0, 1.0], ASCII_BARS) == "_@"
    assert len(sparkline([0.5] * 99)) == 24


@pytest.fixture
def shown(make_grid, capsys):
    """What a display printed of a real run, by its options."""

    def show(**options: bool) -> str:
        grid = make_grid(["Finnish", "Greek"], ["Polish"])
        display = Display(SMALL.rounds, **options)
        display.phase("2 nodes found")
        with display:
            federate(grid, SMALL, lambda event: display.event(event, 1000))
            display.say("pi2 is left out")
        summary = {"accuracy": 0.5, "loss": math.nan}
        if options:
            display.summary(summary, [], "runs/now")
        return capsys.readouterr().out

    return show


def test_without_a_terminal_rounds_are_plain_lines(shown):
    lines = shown().splitlines()
    assert len([line for line in lines if "of 12  loss" in line]) == 12
    assert all("\x1b" not in line for line in lines) and "s left" in lines[-2]


def test_json_is_one_object_a_line_and_nothing_else(shown):
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    events = [json.loads(line, parse_constant=refuse) for line in shown(as_json=True).splitlines()]
    kinds = [event["event"] for event in events]
    assert kinds[:2] == ["message", "nodes"] and kinds.count("round") == 12
    assert events[-1] == {
        "event": "summary", "folder": "runs/now", "accuracy": 0.5, "loss": None
    }  # fmt: skip


def test_quiet_says_what_must_be_known_and_where_the_results_are(shown):
    lines = shown(quiet=True).splitlines()
    assert len(lines) == 2 and "pi2 is left out" in lines[0] and lines[1] == "runs/now"


@pytest.mark.parametrize("width", [40, 80])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_tables_of_a_run_fit_and_take_names_as_names(width, encoding):
    odd = "[/x]Français"
    seen = odd.encode(encoding, "replace").decode(encoding)
    test = {"examples": 1100, **dict.fromkeys(FIGURES, 0.5)}
    node = {"test": test, "dropped_updates": 3}
    summary = {
        **test, "bytes_up": 2e6, "bytes_down": 5e6, "rounds": 300, "seconds_total": 31.0,
        "round_seconds": {"median": 0.1}, "nodes": {odd: node, 30 * "long": node},
        "comparison": {"gradient, federated": {**test, "seconds": 9.0}},
    }  # fmt: skip
    described = {"dataset": odd, "rows": 3, "labels": [odd, "Greek"], "mock": {odd: [odd]}}
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
    display = Display(300)
    display.console = Console(file=file, width=width, highlight=False, soft_wrap=True)
    display.nodes([SimpleNamespace(name=odd, described=described)], {odd: odd})
    display.summary(summary, [(odd, 0.2), ("Greek", 0.3)], "runs/" + 20 * "é")
    file.flush()
    text = file.buffer.getvalue().decode(encoding)
    assert max(len(line) for line in text.splitlines()) <= width
    assert f"worst              {seen} 20 %" in text and text.count(seen) >= 2
    assert "2.0 MB up, 5.0 MB" in text
    assert "50.0 %" in text and ("calibration" in text.split("accuracy")[1]) == (width == 80)


def test_tensorboard_reads_what_a_run_wrote(make_grid, tmp_path, monkeypatch):
    monkeypatch.setattr(results, "RUNS", tmp_path)
    folder = results.RunFolder.new({})
    grid = make_grid(["Finnish", "Greek"], ["Polish"])
    outcome = federate(grid, SMALL, folder.event, {1: "pi1", 2: "pi2"})
    folder.save_model(SMALL, outcome)
    folder.finish(SMALL, outcome, {"memory_mb": {"pi1": 1, "pi2": 2}})
    read = EventAccumulator(str(folder.path / "tensorboard"), size_guidance={"images": 0})
    read.Reload()
    tags = read.Tags()
    assert {"loss/train", "accuracy/validation", "accuracy/test", "loss/pi1", "compute_seconds/pi2",
            "accuracy/pi1"} <= set(tags["scalars"])  # fmt: skip
    told = [event.value for event in read.Scalars("loss/train")]
    assert told == pytest.approx(outcome.losses) and len(told) == SMALL.rounds
    image = read.Images("confusion")[0]
    assert image.encoded_image_string.startswith(b"\x89PNG") and image.width > 300
    told = read.PluginTagToContent("hparams")
    start = parse_session_start_info_plugin_data(told["_hparams_/session_start_info"])
    assert start.hparams["hidden"].number_value == 8
    assert start.hparams["strategy"].string_value == "gradient"
    assert start.hparams["nodes"].string_value == "pi1, pi2"
    experiment = parse_experiment_plugin_data(told["_hparams_/experiment"])
    figures = {info.name.tag for info in experiment.metric_infos}
    assert "accuracy/test" in figures and figures <= set(tags["scalars"])


def test_only_who_was_drawn_can_be_missing(capsys):
    display = Display(300)
    display.members({"pi1", "pi2", "pi3"})
    display.event({**a_round(1, pi1=1.0), "drawn": ["pi1", "pi2"]}, 0)
    display.event({**a_round(2, pi3=1.0), "drawn": ["pi3"]}, 0)
    display.event({**a_round(3, pi2=1.0), "drawn": ["pi2"]}, 0)
    told = [line for line in capsys.readouterr().out.splitlines() if " is " in line]
    assert len(told) == 2
    assert "pi2 is left out from round 1" in told[0] and "pi2 is back in round 3" in told[1]
    assert display.view.nodes["pi1"]["state"] == "waits"
