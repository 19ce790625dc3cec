"""The folder of a run, read back: also that of a run which was cut off, for what there is."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from safetensors import SafetensorError
from safetensors.numpy import load_file

from fedrnn.reporting.shapes import EVENTS, FILES, misfit

Values = dict[str, Any]


@dataclass(frozen=True)
class Record:
    """What a run has left. Of a run that was cut off, `summary` or more may be empty.

    `rounds` and `evaluations` are events in their order, `problems` say what could not be read.
    `left_out` counts the nodes of which `nodes` does not speak: see `only`.
    """

    folder: Path
    manifest: Values
    summary: Values
    config: Values
    held: Values
    rounds: list[Values]
    evaluations: list[Values]
    weights: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    left_out: int = 0

    @property
    def run(self) -> Values:
        """The settings of the run; none of a run of an earlier version without a model."""
        return dict(self.manifest.get("run") or self.config.get("run") or {})

    @property
    def engine(self) -> str:
        """What carried the run: see `--engine`."""
        return str(self.manifest.get("engine", "ssh"))

    @property
    def labels(self) -> list[str]:
        """The labels in the order of the network's outputs."""
        return list(self.held.get("labels") or self.config.get("labels") or [])

    @property
    def confusion(self) -> list[list[int]]:
        """The confusion matrix; empty where there is none, or none of these labels."""
        table: list[list[int]] = self.summary.get("confusion") or []
        sizes = {len(self.labels), len(table), *map(len, table)}
        return table if len(sizes) == 1 else []

    @property
    def nodes(self) -> list[str]:
        """The names of the nodes that took part."""
        return list(self.held.get("nodes") or self.manifest.get("nodes") or {})

    def only(self, names: list[str]) -> Self:
        """Return the record for a page that has no room for more nodes than these."""

        def some(told: Values) -> Values:
            by_node = {part: told[part] for part in ("nodes", "owners") if told.get(part)}
            return {**told, **{
                part: {name: of[name] for name in names if name in of}
                for part, of in by_node.items()
            }}  # fmt: skip

        left_out = len(self.nodes) - len(names)
        return replace(self, manifest=some(self.manifest), held=some(self.held), left_out=left_out)

    @property
    def validation(self) -> list[Values]:
        """The evaluations on the validation part."""
        return [event for event in self.evaluations if event["part"] == "validation"]


def read(folder: Path) -> Record:
    """Return what is in the folder of a run.

    Raises:
        ValueError: it is none; the sentence says so.
    """
    folder = folder.resolve()
    if not (folder / "manifest.json").is_file():
        raise ValueError(
            f"{folder} is no folder of a run: it has no manifest.json. Runs lie in runs/, and "
            "runs/latest is the last one"
        )
    problems: list[str] = []
    manifest, summary, config = (
        _json(folder / f"{name}.json", problems) for name in ("manifest", "summary", "config")
    )
    events = _events(folder / "metrics.jsonl", problems)
    held = next((event for event in events if event["event"] == "nodes"), {})
    return Record(
        folder,
        manifest,
        summary,
        config,
        held,
        [event for event in events if event["event"] == "round"],
        [event for event in events if event["event"] == "evaluation"],
        _weights(folder / "model.safetensors", problems),
        problems,
    )


def _json(path: Path, problems: list[str]) -> Values:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        problems.append(f"{path.name} cannot be read: {error}")
        return {}
    if why := misfit(FILES[path.name], values):
        problems.append(f"{path.name} is not as a run writes it: {why}")
        return {}
    return dict(values)


def _events(path: Path, problems: list[str]) -> list[Values]:
    """Return the events; a line that was cut short is left out."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        problems.append(f"{path.name} cannot be read: {error.strerror}")
        return []
    events, broken = [], 0
    for line in lines:
        try:
            event = json.loads(line)
            fits = not misfit(EVENTS[event["event"]], event)
        except (ValueError, KeyError, TypeError):
            fits = False
        if fits:
            events.append(event)
        else:
            broken += 1
    if broken:
        problems.append(f"{path.name}: lines that cannot be read: {broken}")
    return events


def _weights(path: Path, problems: list[str]) -> dict[str, Any]:
    try:
        return load_file(path)
    except FileNotFoundError:
        return {}
    except (OSError, SafetensorError) as error:
        problems.append(f"{path.name} cannot be read: {error}")
        return {}
