"""Folders of runs, made up: of any size, without the time that a run takes."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fedrnn.config import RunConfig
from fedrnn.learning.checkpoint import ModelConfig, save
from fedrnn.learning.model import parameters_of


def make_run(
    folder: Path,
    rounds: int = 24,
    nodes: tuple[str, ...] = ("pi1", "pi2", "pi3"),
    labels: tuple[str, ...] = ("Finnish", "Greek", "Polish", "Zulu"),
    *,
    straggler: int = 0,
    cell: str = "bigru",
    hidden: int = 24,
    embedding: int = 8,
    seed: int = 0,
    approval: str = "auto",
) -> Path:
    """Write what a run leaves; node number `straggler` is three times as slow as the others.

    `approval` is how the datasites have come to approve the job: `auto`, or `manual`.
    """
    draw = random.Random(seed)
    folder.mkdir(parents=True)
    config = RunConfig(rounds=rounds, cell=cell, seed=seed, hidden=hidden, embedding=embedding)
    model = ModelConfig(tuple(labels), cell, config.embedding, config.hidden)
    weights = 3 * parameters_of(model.build(seed))
    sha256 = save(folder, weights, model, {"run": config.to_dict()})
    held = {
        name: {label: draw.randint(200, 900) for label in labels[n % 2 :: 2]}
        for n, name in enumerate(nodes)
    }
    events: list[dict[str, Any]] = [_nodes(held, labels)]
    for number in range(1, rounds + 1):
        events.append(_round(number, rounds, nodes, straggler, draw))
        if number % max(1, rounds // 12) == 0:
            events.append(_evaluation(number, rounds, nodes, "validation"))
    events.append(_evaluation(rounds, rounds, nodes, "test"))
    _lines(folder / "metrics.jsonl", events)
    confusion = np.full((len(labels), len(labels)), 3) + 90 * np.eye(len(labels), dtype=int)
    _write(folder / "manifest.json", _manifest(nodes, config, approval))
    _write(folder / "summary.json", {
        "accuracy": 0.725, "macro_recall": 0.71, "macro_f1": 0.7, "calibration_error": 0.04,
        "rounds": rounds, "seconds_total": 61.5, "interrupted": False, "model_sha256": sha256,
        "bytes_up": 30_000_000, "bytes_down": 60_000_000, "reconnects": 1, "problem": "",
        "jobs": dict.fromkeys(nodes, "done"), "strategy": "gradient", "split": "language",
        "round_seconds": {"p10": 0.1, "median": 0.12, "p90": 0.2},
        "nodes": {name: {"rows": 1000, "dropped_updates": 0, "test": {"accuracy": 0.7}}
                  for name in nodes},
        "labels": list(labels), "confusion": confusion.tolist(),
    })  # fmt: skip
    return folder


def _nodes(held: dict[str, dict[str, int]], labels: tuple[str, ...]) -> dict[str, Any]:
    nodes = {
        name: {"rows": sum(names.values()), "train": 800, "validation": 100, "test": 100,
               "labels": sorted(names), "names": names}
        for name, names in held.items()
    }  # fmt: skip
    return {"event": "nodes", "labels": list(labels), "nodes": nodes}


def _round(
    number: int, rounds: int, nodes: tuple[str, ...], straggler: int, draw: random.Random
) -> dict[str, Any]:
    compute = [0.03 + 0.01 * draw.random() for _ in nodes]
    compute[straggler % len(nodes)] *= 3
    traffic = {
        name: {"up": 40_000 * number, "down": 90_000 * number, "reconnects": int(number > 9),
               "seconds": compute[n] + 0.004}
        for n, name in enumerate(nodes)
    }  # fmt: skip
    answers = {
        name: {"stale": 0.0, "num_examples": 100.0, "loss": 2.9 - 2 * number / rounds,
               "compute_seconds": compute[n], "rss_mb": 280.0 + n}
        for n, name in enumerate(nodes)
    }  # fmt: skip
    return {"event": "round", "round": number, "rounds": rounds, "loss": 2.9 - 2 * number / rounds,
            "seconds": max(compute) + 0.01, "nodes": answers, "errors": {},
            "traffic": traffic}  # fmt: skip


def _evaluation(number: int, rounds: int, nodes: tuple[str, ...], part: str) -> dict[str, Any]:
    reached = 0.7 * number / rounds
    by_node = {
        name: {"accuracy": reached + 0.01 * n, "loss": 1.0, "examples": 100, "celsius": 50.0 + n,
               "throttled": float(0x50005 if n == 0 and 2 * number > rounds else 0),
               "memory_free_mb": 400.0, "swap_used_mb": 12.0}
        for n, name in enumerate(nodes)
    }  # fmt: skip
    return {"event": "evaluation", "part": part, "round": number, "accuracy": reached,
            "macro_recall": reached, "macro_f1": reached, "calibration_error": 0.05,
            "loss": 3 - 2 * reached, "examples": 300, "nodes": len(nodes),
            "by_node": by_node}  # fmt: skip


def _manifest(nodes: tuple[str, ...], config: RunConfig, approval: str) -> dict[str, Any]:
    packages = {f"package{n}": {"version": "1.2.3", "record_sha256": "b" * 64} for n in range(90)}
    packages["torch"] = {"version": "2.9.1", "record_sha256": "c" * 64}
    node = {"os": "Debian GNU/Linux 13 (trixie)", "kernel": "6.12", "machine": "aarch64",
            "python": "3.13.5", "packages": packages}  # fmt: skip
    return {
        "job": "train-1", "sha256": "a" * 64,
        "files": {"code/main.py": "d" * 64, "run.sh": "e" * 64},
        "controller": {"commit": "f" * 40, "changed_files": [], **node},
        "nodes": dict.fromkeys(nodes, node),
        "owners": {name: {"owner": f"{name}@lab.local", "approval": approval, "sha256": "a" * 64}
                   for name in nodes},
        "run": config.to_dict(),
        "asked": {"local": None, "compare": False, "min_nodes": None,
                  "inventory": "/home/me/fedrnn/inventory/lab"},
    }  # fmt: skip


def _lines(path: Path, events: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(event) + "\n" for event in events))


def _write(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=1))


def edit(path: Path, change: Callable[[Any], object]) -> None:
    """Let `change` edit a file of a run that is JSON."""
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def edit_rounds(folder: Path, change: Callable[[Any], object]) -> None:
    """Let `change` edit each round as `edit_events` does."""
    edit_events(folder, "round", change)


def edit_events(folder: Path, kind: str, change: Callable[[Any], object]) -> None:
    """Let `change` edit each event of a kind, and drop those for which it returns False."""
    events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    kept = [e for e in events if e["event"] != kind or change(e) is not False]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in kept))
