"""The report as people see it: in a browser, light and dark, wide and on a phone."""

import json
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe

from fedrnn.config import RunConfig
from fedrnn.learning.checkpoint import load
from fedrnn.learning.embedded import names
from fedrnn.reporting import compare, report
from fedrnn.reporting.record import read
from tests.made_runs import make_run

SCRIPT = "<script>alert(1)</script>"
ODD = [
    "", " ", "'", "O'Brien-Smith", "Łukasz Żółć", "Παπαδόπουλος", "Ковальчук", "Հակոբյան",
    "გელაშვილი", "\uff21\uff22🙂c", "x" * 70,
    "\t van\u00a0der  Berg ", "éa\u0301", "שלום", "サトウ", SCRIPT,
]  # fmt: skip
CHARTS = {
    "accuracy": 4, "loss": 4, "confusion": 16, "split": 6, "timeline": 9, "traffic": 6, "memory": 3,
    "celsius": 3, "throttled": 42, "memory-free-mb": 3, "swap-used-mb": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def page_file(tmp_path_factory) -> Path:
    return report.write(make_run(tmp_path_factory.mktemp("runs") / "run"))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> Path:
    """A run in which whatever is named by others is named like a script."""
    folder = make_run(
        tmp_path_factory.mktemp("runs") / "run", nodes=(SCRIPT, "pi2"), labels=(SCRIPT, "Polish")
    )
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["owners"][SCRIPT]["owner"] = manifest["nodes"][SCRIPT]["os"] = SCRIPT
    manifest["job"] = SCRIPT
    (folder / "manifest.json").write_text(json.dumps(manifest))
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    event = json.loads(lines[3])
    event["nodes"], event["errors"] = {}, {SCRIPT: SCRIPT, "pi2": "</svg>" + SCRIPT}
    (folder / "metrics.jsonl").write_text("\n".join([*lines[:3], json.dumps(event), *lines[4:]]))
    return report.write(folder)


def test_every_chart_has_its_data(page_file, show):
    page = show(page_file)
    seen = page.evaluate(
        """names => Object.fromEntries(names.map(name => [name,
          [...document.querySelectorAll(`#${name} svg [id*="-data-"]`)].filter(one => {
            const box = one.getBoundingClientRect();
            return box.width > 1 || box.height > 1;
          }).length]))""",
        list(CHARTS),
    )
    assert seen == CHARTS


@pytest.fixture(scope="module")
def full_size(tmp_path_factory) -> Path:
    """A run whose network is that of every run that is not told otherwise."""
    default = {"hidden": RunConfig.hidden, "embedding": RunConfig.embedding}
    folder = tmp_path_factory.mktemp("runs") / "run"
    return report.write(make_run(folder, rounds=2, labels=tuple(names()), **default))


def test_the_box_answers_as_torch_does(full_size, show):
    assert len(read(full_size.parent).labels) == 18
    known = sorted({name for rows in names().values() for name in rows})
    asked = [*ODD, *known[:: len(known) // 1000][: 1000 - len(ODD)]]
    assert len(asked) == 1000
    _compare(show(full_size), full_size.parent, asked)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_the_box_answers_for_every_cell(tmp_path, show, cell):
    path = report.write(make_run(tmp_path / "run", rounds=2, cell=cell))
    _compare(show(path), path.parent, ["Kowalski", "Papadopoulos", "Ng", ""])


def _compare(page, folder, asked):
    told = page.evaluate("names => names.map(name => fedrnn.predict(name))", asked)
    for name, ours, torchs in zip(asked, told, load(folder).predict(asked), strict=True):
        mine = {one["label"]: one["probability"] for one in ours}
        assert mine == pytest.approx(dict(torchs), abs=1e-4), name
        assert [one["probability"] for one in ours] == sorted(mine.values(), reverse=True)


def test_a_name_is_typed_and_answered_by_keyboard_alone(page_file, show):
    page = show(page_file)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "name"
    page.keyboard.press("Control+A")
    page.keyboard.type("Nowak")
    likeliest, probability = load(page_file.parent).predict(["Nowak"])[0][0]
    first = page.locator("#answers li").first.inner_text().split("\n")
    assert first == [likeliest, f"{100 * probability:.0f} %"]
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.locator("#name").input_value() == page.evaluate(
        "document.activeElement.dataset.name"
    )
    page.locator("#name").fill("漢字")
    assert "predict" in page.locator("#note").inner_text()
    assert page.locator("#answers li").count() == 0


def test_every_detail_opens_by_keyboard(page_file, show):
    page = show(page_file)
    for detail in page.locator("details").all():
        detail.locator("summary").focus()
        page.keyboard.press("Enter")
        assert detail.evaluate("one => one.open")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 360])
def test_axe_finds_nothing_to_complain_of(page_file, show, scheme, width):
    page = show(page_file, width, scheme)
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_light_and_dark_differ_in_the_charts_too(page_file, show):
    colours = {
        scheme: show(page_file, scheme=scheme).evaluate(
            """() => [document.body, document.querySelector('#accuracy svg text')]
              .map(one => getComputedStyle(one)).map(one => one.fill + one.backgroundColor)"""
        )
        for scheme in ("light", "dark")
    }
    assert all(a != b for a, b in zip(colours["light"], colours["dark"], strict=True))


@pytest.mark.parametrize("which", ["page_file", "hostile"])
def test_nothing_overflows_on_a_phone(request, show, which):
    page = show(request.getfixturevalue(which), 360)
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") == 360


@pytest.mark.parametrize("width", [1200, 360])
def test_runs_side_by_side_are_as_good_a_page(tmp_path, show, width):
    runs = [make_run(tmp_path / SCRIPT.replace("/", "_")), make_run(tmp_path / "b", rounds=36)]
    page = show(compare.write(runs), width)
    assert page.locator('figure svg [id*="-data-"]').count() == 6
    assert page.evaluate("document.documentElement.scrollWidth") == width
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_it_prints_on_paper(page_file, show):
    page = show(page_file)
    page.emulate_media(media="print")
    assert not page.locator("#name").is_visible()
    assert page.locator("#accuracy svg").is_visible()
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_markup_from_outside_is_text(hostile, show):
    page = show(hostile)  # a script that ran would open a dialog: the fixture tells
    scripts = page.evaluate("[...document.scripts].map(one => one.type)")
    assert scripts == ["application/json", ""]
    assert SCRIPT in page.locator("th[scope=row]").first.inner_text()
    assert SCRIPT[:19] in page.locator("#split svg").text_content()
    page.locator("#name").fill(SCRIPT)
    assert SCRIPT in page.locator("#answers").inner_text()
    assert read(hostile.parent).labels[0] == SCRIPT
