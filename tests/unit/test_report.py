"""What a report says of a run: whole, cut off, broken, or one in which much went wrong."""

import html
import re
import time

import pytest

from fedrnn import report as command
from fedrnn.federation import health as board
from fedrnn.reporting import compare, report, story, throttling
from fedrnn.reporting.faults import faults
from fedrnn.reporting.glance import checks
from fedrnn.reporting.record import read
from fedrnn.reporting.timeline import timeline
from tests.made_runs import edit, edit_events, edit_rounds, make_run


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "run")


def test_the_page_needs_nothing_but_itself(run):
    page = report.write(run).read_text()
    addresses = set(re.findall(r"https?://[^\"' <)]+", page))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "<link" not in page and "src=" not in page
    plots = {path.name for path in (run / "plots").iterdir()}
    assert {"accuracy.png", "accuracy.svg", "timeline.png", "confusion-matrix.svg"} <= plots


def test_the_sentence_and_the_figures_are_those_of_the_summary(run):
    record = read(run)
    assert story.sentence(record) == (
        "3 nodes trained for 24 rounds in 62 s: the model is right on 72.5 % of the names that no "
        "node trained on."
    )
    values = [figure["value"] for figure in story.figures(record)]
    assert values[0] == "72.5" and values[2] == "30.0"


def test_the_straggler_is_named_and_the_others_wait_for_it(tmp_path):
    times = timeline(read(make_run(tmp_path / "run", straggler=1)))
    assert times.straggler == ("pi2", 1.0)
    compute, wire, waiting = (times.totals["pi1"][n] for n in range(3))
    assert waiting > compute > times.totals["pi2"][2] and wire == pytest.approx(24 * 0.004)


def test_what_nobody_counted_is_not_told_as_nothing(run):
    edit(run / "summary.json", lambda summary: summary.update(bytes_up=0, bytes_down=0))
    edit_rounds(run, lambda event: event.update(traffic={}))
    record = read(run)
    assert story.figures(record)[2]["value"] == "-" and timeline(record).totals["pi1"][1] == 0
    page = report.write(run).read_text()
    assert "wire and waiting" in page and 'id="traffic"' not in page
    assert dict(compare.figures({"run": record}))["moved"] == ["-"]


def test_a_node_that_was_away_is_told_with_the_reason_and_when_it_came_back(run):
    def away(event):
        if 5 <= event["round"] <= 7:
            del event["nodes"]["pi2"]
            event["errors"]["pi2"] = "pi2: no reply in time"

    edit_rounds(run, away)
    first = faults(read(run))[0]
    assert (first.to, first.when, first.what) == ("pi2", "rounds 5 to 7", "pi2: no reply in time")
    assert first.did == "left out, and taken back in round 8"


def test_a_node_that_was_not_drawn_was_not_away(run):
    def sample(event):
        event["drawn"] = ["pi1", "pi3"] if event["round"] % 2 else ["pi1", "pi2"]
        event["nodes"] = {name: event["nodes"][name] for name in event["drawn"]}
        if event["round"] == 9:
            del event["nodes"]["pi3"]

    edit_rounds(run, sample)
    away = [(one.to, one.when) for one in faults(read(run)) if one.when.startswith("round")]
    assert away == [("pi3", "round 9")]


def test_dropped_updates_lost_connections_and_a_resumed_run_are_told(run):
    edit(run / "summary.json", lambda s: s["nodes"]["pi3"].update(dropped_updates=4))
    edit(run / "manifest.json", lambda m: m.update(taken_up=[{"after_round": 12}]))
    told = " ".join(f"{one.to} {one.what} {one.did}" for one in faults(read(run)))
    assert "pi3 4 updates" in told and "--resume" in told and "pi1 a lost connection" in told


def test_a_thousand_nodes_make_a_page_of_the_slowest(tmp_path):
    names = tuple(f"node{number}" for number in range(1000))
    folder = make_run(tmp_path / "run", nodes=names, straggler=700)
    edit_rounds(folder, lambda event: all(event["nodes"].pop(name) for name in names[:200]))
    started = time.process_time()
    path = report.write(folder)
    assert time.process_time() - started <= 10 and path.stat().st_size <= 2e6
    page = html.unescape(path.read_text())
    assert page.count("Shown: the 20 slowest of 1,000 nodes.") >= 8
    assert page.count('<th scope="row">node700</th>') == 2  # its figures, its owner
    assert "The others wait for node700: it is the slowest in 100 % of the rounds" in page
    assert "And 1,150 more: metrics.jsonl" in page


def test_one_node_and_one_round_make_a_page(tmp_path):
    page = report.write(make_run(tmp_path / "run", rounds=1, nodes=("pi1",))).read_text()
    assert "One node trained for one round" in page


@pytest.mark.parametrize(
    ("approval", "said"),
    [("auto", "approved by the operator's allow-list"), ("manual", "approved by its owner")],
)
def test_the_page_says_who_let_the_job_run(tmp_path, approval, said):
    page = report.write(make_run(tmp_path / "run", rounds=1, approval=approval)).read_text()
    assert html.unescape(page).count(f"{said}, for this code") == 3


@pytest.mark.parametrize(
    ("engine", "nobody"),
    [
        ("superlink", "Nobody was asked: --without-governance."),
        ("simulation", "Nobody was asked: the nodes were simulated"),
    ],
)
def test_the_page_says_that_nobody_was_asked(run, engine, nobody):
    def change(manifest):
        manifest.update(engine=engine)
        del manifest["owners"], manifest["nodes"]

    edit(run / "manifest.json", change)
    page = report.write(run).read_text()
    assert nobody in page and "bit for bit" in page
    assert "approved" not in page and "The files of the code, with their hashes" in page


def test_a_board_tells_what_its_kernel_does(tmp_path, monkeypatch):
    monkeypatch.setattr(board, "ROOT", tmp_path)
    assert board.health() == {}
    for name, text in {
        "sys/class/thermal/thermal_zone0/temp": "48312\n",
        "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
        "proc/meminfo": "MemTotal: 948304 kB\nMemAvailable:  512000 kB\nSwapTotal: 1048576 kB\n"
        "SwapFree:        1024000 kB\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert board.health() == {
        "celsius": 48.312, "throttled": 0x50005, "memory-free-mb": 500.0, "swap-used-mb": 24.0,
    }  # fmt: skip
    (tmp_path / "run/systemd").mkdir(parents=True)
    (tmp_path / "run/systemd/container").write_text("podman\n")
    assert board.health() == {}


def test_what_slowed_a_board_down_is_told_in_words(run):
    page = html.unescape(report.write(run).read_text())
    told = "What held at evaluations: pi1 under-voltage, 50 %; pi1 throttled, 50 %."
    assert told in page and (run / "plots" / "throttled.png").exists()

    def change(event):
        for name, flags in {"pi1": 0.0, "pi2": float(0x80000)}.items():
            event["by_node"][name]["throttled"] = flags
        del event["by_node"]["pi3"]["throttled"]

    edit_events(run, "evaluation", change)
    flags = throttling.throttling(read(run))
    assert list(flags) == ["pi1", "pi2"]
    assert "pi2 soft limit of temperature, at none, but since" in throttling.words(flags)
    assert throttling.words({"pi1": {4: 0}}).startswith("No board")


def test_the_conditions_of_a_board_are_those_that_preflight_tells():
    known = {checks.UNDER_VOLTAGE: "under-voltage", **checks.THROTTLED}
    assert known == throttling.CONDITIONS


def test_runs_are_compared_by_what_differs(tmp_path, capsys):
    runs = [make_run(tmp_path / "a"), make_run(tmp_path / "b", rounds=36, seed=3)]
    assert command.main([*map(str, runs), "--out", str(tmp_path / "both.html")]) == 0
    page = (tmp_path / "both.html").read_text()
    records = {run.name: read(run) for run in runs}
    differ = dict(compare.settings(records))
    assert differ == {"rounds": ["24", "36"], "seed": ["0", "3"]}
    assert dict(compare.figures(records))["accuracy"] == ["72.5 %", "72.5 %"]
    for name in ("by-round", "by-second", "by-byte"):
        assert (tmp_path / "both-plots" / f"{name}.png").exists() and f'id="{name}"' in page
        assert page.count(f'id="{name}-data-') == 2


def test_a_run_named_twice_or_none_is_refused(run, tmp_path, capsys):
    assert command.main([str(run), str(run)]) == 2
    assert command.main([str(run), str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert "named twice" in told and "no folder of a run" in told
