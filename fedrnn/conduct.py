"""A run from its first round to its folder, whatever engine carries it."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fedrnn.compare import compare, pool
from fedrnn.engine import Engine
from fedrnn.federation.outcome import Outcome
from fedrnn.federation.server_app import federate
from fedrnn.federation.state import RunState
from fedrnn.federation.strategies import FederationError
from fedrnn.learning.evaluation import worst
from fedrnn.plan import Plan
from fedrnn.reporting import report
from fedrnn.reporting.progress import Display
from fedrnn.reporting.results import RunFolder, controller_software


def train(engine: Engine, plan: Plan, display: Display, started: float) -> int:
    """Do the rounds over an engine and print what came of it; return the exit code.

    The run counts as begun at ``started``, on the clock of ``time.monotonic``.
    """
    config, former = plan.config, plan.former
    manifest: dict[str, Any] = {
        **engine.manifest,
        "engine": plan.engine,
        "controller": controller_software(),
        "run": config.to_dict(),
        "asked": plan.asked,
    }
    if former:
        folder = RunFolder.again(former.folder, manifest, former.state.round)
        display.phase(
            f"taken up after round {former.state.round} of {config.rounds}: {folder.path}"
        )
    else:
        folder = RunFolder.new(manifest)
    before = former.spent if former else {}

    def keep(state: RunState, outcome: Outcome) -> None:
        rest = {
            "asked": plan.asked,
            "spent": _spent(engine, started, before),
            "job": engine.manifest["job"],
            "sha256": engine.manifest["sha256"],
        }
        try:
            folder.checkpoint(config, state, outcome, rest)
        except OSError as error:
            display.say(
                f"no checkpoint of round {state.round}: {error.filename}: {error.strerror}. Make "
                "room: the run goes on, and the checkpoint before stays as it was"
            )

    def observe(event: dict[str, Any]) -> None:
        traffic = engine.traffic()
        if event["event"] == "round":
            event["traffic"] = {name: asdict(told) for name, told in traffic.items()}
        folder.event(event)
        display.event(event, sum(t.up + t.down for t in traffic.values()))

    problem = ""
    training = time.monotonic()
    display.members(engine.names.values())
    with display:
        try:
            outcome = federate(
                engine.grid,
                config,
                observe,
                engine.names,
                keep,
                former.state if former else None,
                plan.min_nodes,
            )
        except FederationError as error:
            if error.outcome is None:
                raise
            outcome, problem = error.outcome, str(error)
    folder.save_model(config, outcome)  # before anything else can go wrong
    spent = {**_spent(engine, started, before), "problem": problem}
    try:
        _conclude(engine, plan, display, folder, outcome, spent, time.monotonic() - training)
    except KeyboardInterrupt:
        where = _shown(folder.path)
        print(f"\nStopped before all was written; the model is in {where}", file=sys.stderr)
        return 130
    if problem:
        print(f"\nStopped early: {problem}{_resumable(folder)}", file=sys.stderr)
        return 1
    return 130 if outcome.interrupted else 0


def _conclude(
    engine: Engine,
    plan: Plan,
    display: Display,
    folder: RunFolder,
    outcome: Outcome,
    spent: dict[str, Any],
    seconds: float,
) -> None:
    """Compare what was learnt in ``seconds`` with its rivals, and write and show the summary."""
    config = plan.config
    if plan.shares and outcome.score:
        pooled = pool(plan.shares, {name: engine.rows[name] for name in outcome.rows})
        ours = {**outcome.score.figures(), "seconds": seconds}
        rivals = compare(
            pooled,
            config,
            outcome,
            lambda c: federate(engine.grid, c, names=engine.names),
            display.phase,
        )
        spent["comparison"] = {f"{config.strategy}, federated": ours, **rivals}
    measured = {"engine": plan.engine, **spent, **engine.measure(outcome)}
    summary = folder.finish(config, outcome, measured)
    if not (spent["problem"] or outcome.interrupted):
        folder.forget_checkpoint()
    confusion = outcome.confusion
    weak = [] if confusion is None else worst(outcome.labels, confusion, 3)
    display.summary(summary, weak, _shown(folder.path))
    _report(folder.path, display)


def _spent(engine: Engine, started: float, before: Mapping[str, float]) -> dict[str, Any]:
    """Return what the run has cost up to now and ``before``: bytes, reconnects, seconds."""
    traffic = engine.traffic().values()
    now = {
        "bytes_up": sum(t.up for t in traffic),
        "bytes_down": sum(t.down for t in traffic),
        "reconnects": sum(t.reconnects for t in traffic),
        "seconds_total": round(time.monotonic() - started, 1),
    }
    return {name: before.get(name, 0) + value for name, value in now.items()}


def _report(folder: Path, display: Display) -> None:
    """Write the page that shows the run; the run is worth more than it."""
    try:
        display.phase(f"report: {_shown(report.write(folder))}")
    except OSError as error:
        display.say(f"no report: {error.filename}: {error.strerror}. Make room, then run python -m "
                    f"fedrnn.report {_shown(folder)}")  # fmt: skip


def _resumable(folder: RunFolder) -> str:
    """Return what can be done where a run has ended before its time."""
    if not folder.has_checkpoint:
        return ""
    return f"\nOnce that is mended: python -m fedrnn.run --resume {_shown(folder.path)}"


def _shown(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
