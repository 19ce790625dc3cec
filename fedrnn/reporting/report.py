"""`report.html`: one page that tells a run, without a network and for any screen."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from fedrnn.printable import printable
from fedrnn.reporting import pictures, story
from fedrnn.reporting.commands import commands
from fedrnn.reporting.faults import faults
from fedrnn.reporting.page_model import page_model
from fedrnn.reporting.pictures import Picture
from fedrnn.reporting.record import Record, read
from fedrnn.reporting.style import MOST_NODES
from fedrnn.reporting.timeline import timeline

NAME = "report.html"
PLOTS = "plots"
MOST_FAULTS = 50
"""For more of them no reader has the patience."""
TEMPLATES = Path(__file__).parent / "templates"
SAME = "The same data, seed and nodes come to the same model, bit for bit."
EXAMPLES = {"Polish": "Kowalski", "Greek": "Papadopoulos", "Finnish": "Virtanen"}


def write(folder: Path) -> Path:
    """Write the report of a run's folder beside what it tells of; return its path.

    Raises:
        ValueError: the folder holds no run.
        OSError: it could not be written; it names the file.
    """
    record = read(folder)
    times = timeline(record)
    some = record.only(times.slowest(MOST_NODES))
    learning, matrix = pictures.learning(some), pictures.confusion(record)
    nodes = pictures.of_nodes(some, times)
    met = faults(record)
    plots = record.folder / PLOTS
    plots.mkdir(exist_ok=True)
    for picture in [*learning, *([matrix] if matrix else []), *nodes]:
        picture.save(plots)
    page = render(
        "report.html.j2",
        run=record.folder.name,
        sentence=story.sentence(record),
        figures=story.figures(record),
        problems=record.problems,
        model=page_model(record),
        examples=[name for label, name in EXAMPLES.items() if label in record.labels],
        charts={
            "learning": shown(learning),
            "confusion": shown([matrix])[0] if matrix else None,
            "nodes": shown(nodes),
        },
        mistakes=story.mistakes(record),
        which=pictures.which(some),
        nodes=story.nodes(some),
        node_figures=story.NODE_FIGURES,
        faults=met[:MOST_FAULTS],
        more_faults=len(met[MOST_FAULTS:]),
        job=story.job(some),
        commands=commands(record),
        notes=_notes(record),
        manifest=json.dumps(some.manifest, indent=1, ensure_ascii=False),
    )
    path = record.folder / NAME
    path.write_text(page, encoding="utf-8")
    return path


def render(template: str, **values: Any) -> str:
    """Return a page with everything from outside escaped."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_safe,
    )
    script = (TEMPLATES / "classify.js").read_text(encoding="utf-8")
    digest = hashlib.sha256(script.encode()).digest()
    return environment.get_template(template).render(
        css=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),  # noqa: S704 - ours
        script=Markup(script),  # noqa: S704 - ours
        script_sha256=Markup(base64.b64encode(digest).decode()),  # noqa: S704 - base64
        **values,
    )


def _safe(value: Any) -> Any:
    """Show what turns or hides text as what it is; jinja2 escapes markup afterwards."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return "\n".join(printable(line, most=None) for line in value.split("\n"))
    return value


def shown(made: list[Picture]) -> list[dict[str, Any]]:
    """Return what a template asks of charts."""
    return [
        {
            "name": one.name,
            "title": one.title,
            "says": one.says,
            "svg": Markup(one.inline),  # noqa: S704 - matplotlib's, which escapes; `inline` as well
        }
        for one in made
    ]


def _notes(record: Record) -> list[str]:
    """Return what must be known to come to the same model."""
    notes = [SAME]
    changed = (record.manifest.get("controller") or {}).get("changed_files") or []
    if changed:
        files = "one changed file" if len(changed) == 1 else f"{len(changed)} changed files"
        notes.append(f"The checkout had {files} that no commit holds.")
    if sha256 := record.summary.get("model_sha256"):
        notes.append(f"SHA-256 of model.safetensors: {sha256}")
    return notes
