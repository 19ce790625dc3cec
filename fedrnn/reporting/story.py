"""What a run comes to in words: its sentence, its figures, its nodes, who let it run."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedrnn.reporting.record import Record
from fedrnn.reporting.tables import percent

Row = dict[str, Any]


def accuracy(record: Record) -> tuple[float | None, str]:
    """Return the best known accuracy and on what: test names, or validation names before."""
    if (value := record.summary.get("accuracy")) is not None:
        return float(value), "names that no node trained on"
    if record.validation:
        return float(record.validation[-1]["accuracy"]), "validation names"
    return None, ""


def seconds(record: Record) -> float:
    """Return what the run took, of one that was cut off its rounds."""
    rounds = sum(event["seconds"] for event in record.rounds)
    return float(record.summary.get("seconds_total", rounds))


def moved(record: Record) -> float | None:
    """Return the megabytes that the run moved, both ways; None where nobody counted."""
    if whole := record.summary.get("bytes_up", 0) + record.summary.get("bytes_down", 0):
        return float(whole) / 1e6
    last = record.rounds[-1].get("traffic") if record.rounds else None
    return float(sum(node["up"] + node["down"] for node in last.values())) / 1e6 if last else None


def sentence(record: Record) -> str:
    """Return the run in one sentence."""
    count, done = len(record.nodes), len(record.rounds)
    who = f"{count} nodes" if count != 1 else "One node"
    if shared := _sharing(record):
        who += f" {shared}"
    if not done:
        return f"{who} came together, and no round was done."
    asked = record.run.get("rounds", done)
    whole = f"{done} rounds" if done != 1 else "one round"
    rounds = whole if done >= asked else f"{done} of {asked} rounds"
    text = f"{who} trained for {rounds} in {duration(seconds(record))}"
    value, which = accuracy(record)
    if value is None:
        return f"{text}; nothing was measured yet."
    return f"{text}: the model is right on {percent(value)} of the {which}."


def _sharing(record: Record) -> str:
    """Return how labels are spread, where that is worth a word."""
    held = [set(node["labels"]) for node in record.held.get("nodes", {}).values()]
    if len(held) < 2:
        return ""
    if len(set().union(*held)) == sum(map(len, held)):
        return "without a label in common"
    return ""


def duration(time: float) -> str:
    """Return seconds as people say them."""
    if time < 120:
        return f"{time:.0f} s"
    minutes = time / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def figures(record: Record) -> list[Row]:
    """Return the three figures at the top."""
    value, _ = accuracy(record)
    shown = "-" if value is None else f"{100 * value:.1f}"
    rounds = [event["seconds"] for event in record.rounds]
    median = f"{1e3 * np.median(rounds):.0f}" if rounds else "-"
    megabytes = moved(record)
    each = "-" if megabytes is None else f"{megabytes / max(1, len(record.nodes)):.1f}"
    return [
        {"name": "Accuracy", "value": shown, "unit": "%"},
        {"name": "A round (median)", "value": median, "unit": "ms"},
        {"name": "Moved per node", "value": each, "unit": "MB"},
    ]


NODE_FIGURES = ("training names", "accuracy, test", "median compute", "most memory")


def nodes(record: Record) -> list[Row]:
    """Return a row per node: name, system, and its NODE_FIGURES."""
    systems = record.manifest.get("nodes") or {}
    rows = []
    for name in record.nodes:
        told = record.summary.get("nodes", {}).get(name, {})
        held = record.held.get("nodes", {}).get(name, {})
        test = (told.get("test") or {}).get("accuracy")
        here = [event["nodes"][name] for event in record.rounds if name in event["nodes"]]
        compute = [node["compute_seconds"] for node in here if "compute_seconds" in node]
        memory = max((node["rss_mb"] for node in here if "rss_mb" in node), default=None)
        rows.append({
            "name": name,
            "system": _system(systems.get(name) or {}),
            "figures": [
                f"{held['train']:,}" if "train" in held else "-",
                percent(test),
                f"{1e3 * np.median(compute):.0f} ms" if compute else "-",
                f"{memory:.0f} MB" if memory else "-",
            ],
        })  # fmt: skip
    return rows


def _system(node: Row) -> str:
    torch = (node.get("packages") or {}).get("torch") or {}
    parts = [node.get("os"), node.get("machine"), node.get("python") and f"Python {node['python']}"]
    if torch.get("version"):
        parts.append(f"torch {torch['version']}")
    return ", ".join(str(part) for part in parts if part)


NOBODY = {
    "superlink": "Nobody was asked: --without-governance. SuperNodes run what they are sent.",
    "simulation": "Nobody was asked: the nodes were simulated, their data are the embedded names.",
}
APPROVALS = {"auto": "approved by the operator's allow-list", "manual": "approved by its owner"}


def job(record: Record) -> Row | None:
    """Return the job and what the owners decided; None of a run without one."""
    told = record.manifest
    if "job" not in told:
        return None
    ends = record.summary.get("jobs", {})
    owners = [
        {
            "node": name,
            "owner": one.get("owner") or "",
            "decision": _decision(one, told.get("sha256")),
            "end": ends.get(name, "not recorded"),
        }
        for name, one in (told.get("owners") or {}).items()
    ]
    return {
        "name": told["job"],
        "sha256": told.get("sha256", "not recorded"),
        "files": told.get("files") or {},
        "owners": owners,
        "nobody": NOBODY.get(record.engine, "The run has not recorded whom it asked."),
    }


def _decision(one: Row, sha256: str | None) -> str:
    approval = one.get("approval")
    said = APPROVALS.get(str(approval), f"approved ({approval})" if approval else "not recorded")
    return f"{said}, for this code" if sha256 and one.get("sha256") == sha256 else said


def mistakes(record: Record, most: int = 10) -> list[tuple[str, str, int]]:
    """Return the commonest mistakes: the true label, the answer, and how many names."""
    found = [
        (record.labels[truth], record.labels[answer], count)
        for truth, row in enumerate(record.confusion)
        for answer, count in enumerate(row)
        if truth != answer and count
    ]
    return sorted(found, key=lambda one: -one[2])[:most]
