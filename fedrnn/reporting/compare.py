"""Several runs side by side: what they were asked, what they cost, how good they became."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fedrnn.reporting import charts, story
from fedrnn.reporting.charts import Line
from fedrnn.reporting.pictures import Picture
from fedrnn.reporting.record import Record, read
from fedrnn.reporting.report import PLOTS, render, shown
from fedrnn.reporting.tables import FIGURES, percent, words

NAME = "compare.html"
Table = list[tuple[str, list[str]]]


def write(folders: list[Path], out: Path | None = None) -> Path:
    """Write a page that compares runs, beside the first of them; return its path.

    Raises:
        ValueError: a folder holds no run, or one is named twice.
        OSError: it could not be written; it names the file.
    """
    records = [read(folder) for folder in folders]
    places = [record.folder for record in records]
    if twice := [place for place in places if places.count(place) > 1]:
        raise ValueError(f"{twice[0]} is named twice")
    names = [place.name for place in places]
    runs = {
        name if names.count(name) == 1 else str(record.folder): record
        for name, record in zip(names, records, strict=True)
    }
    path = out or next(iter(runs.values())).folder.parent / NAME
    made = [
        Picture("by-round", "Accuracy by round", "On names kept for validation.",
                charts.overlay(runs, _by_round, "round")),
        Picture("by-second", "Accuracy by time", "Seconds of rounds, without the evaluations.",
                charts.overlay(runs, _by_second, "seconds")),
        Picture("by-byte", "Accuracy by traffic", "Megabytes of all nodes, both ways.",
                charts.overlay(runs, _by_megabyte, "MB")),
    ]  # fmt: skip
    plots = path.parent / f"{path.stem}-{PLOTS}"
    plots.mkdir(parents=True, exist_ok=True)
    for picture in made:
        picture.save(plots)
    page = render(
        "compare.html.j2",
        runs=list(runs),
        charts=shown(made),
        differ=settings(runs),
        figures=figures(runs),
        problems=[f"{name}: {one}" for name, run in runs.items() for one in run.problems],
    )
    path.write_text(page, encoding="utf-8")
    return path


def settings(runs: dict[str, Record]) -> Table:
    """Return the settings that differ, each with a value per run."""
    asked = [run.run for run in runs.values()]
    names = sorted({name for one in asked for name in one})
    rows = [(name, [_plain(one.get(name)) for one in asked]) for name in names]
    return [(name.replace("_", " "), values) for name, values in rows if len(set(values)) > 1]


def figures(runs: dict[str, Record]) -> Table:
    """Return what the runs came to, each figure with a value per run."""
    records = list(runs.values())
    rows = [(words(name), [percent(run.summary.get(name)) for run in records]) for name in FIGURES]
    return [
        *rows,
        ("rounds", [str(len(run.rounds)) for run in records]),
        ("in all", [story.duration(story.seconds(run)) for run in records]),
        ("moved", ["-" if (mb := story.moved(run)) is None else f"{mb:.1f} MB" for run in records]),
        ("nodes", [str(len(run.nodes)) for run in records]),
    ]


def _plain(value: Any) -> str:
    return "-" if value is None else ", ".join(map(str, value)) if isinstance(value, list) else str(
        value
    )  # fmt: skip


def _by_round(run: Record) -> Line:
    return [e["round"] for e in run.validation], [e["accuracy"] for e in run.validation]


def _by_second(run: Record) -> Line:
    ends = np.cumsum([event["seconds"] for event in run.rounds]).tolist()
    return _at(run, {e["round"]: end for e, end in zip(run.rounds, ends, strict=True)})


def _by_megabyte(run: Record) -> Line:
    return _at(run, {
        event["round"]: sum(node["up"] + node["down"] for node in event["traffic"].values()) / 1e6
        for event in run.rounds if event.get("traffic")
    })  # fmt: skip


def _at(run: Record, costs: dict[int, float]) -> Line:
    """Return accuracy against what the rounds before had cost."""
    known = [event for event in run.validation if event["round"] in costs]
    return [costs[event["round"]] for event in known], [event["accuracy"] for event in known]
