"""The folder of a run: `runs/<time>/`, and `runs/latest`, which points to it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from fedrnn.checkout import ROOT, RUNS
from fedrnn.config import RunConfig
from fedrnn.datasite.datasite import software
from fedrnn.datasite.layout import FINAL
from fedrnn.federation.outcome import Outcome
from fedrnn.federation.state import RunState
from fedrnn.learning.checkpoint import put, save
from fedrnn.learning.evaluation import Score
from fedrnn.reporting import checkpoint
from fedrnn.reporting.heatmap import heatmap
from fedrnn.reporting.split import save_split
from fedrnn.reporting.tables import FIGURES


class RunFolder:
    """Writes what a run leaves, as it goes: manifest and events at once, the rest at the end."""

    def __init__(self, path: Path, manifest: dict[str, Any], round_: int = 0) -> None:
        """Write to a folder that holds ``round_`` rounds of a run already."""
        self.path = path
        events = self._events(round_) if round_ else []
        self._seconds: list[float] = [e["seconds"] for e in events if e["event"] == "round"]
        put(path / "metrics.jsonl", "".join(json.dumps(e) + "\n" for e in events).encode())
        self._metrics = (path / "metrics.jsonl").open("a+", buffering=1)
        with contextlib.suppress(OSError):  # a share of the network may have none
            fcntl.flock(self._metrics, fcntl.LOCK_SH)  # until this process ends, in whatever way
        (path / "summary.json").unlink(missing_ok=True)  # of before it was taken up
        self._write("manifest.json", manifest)
        self._board = SummaryWriter(str(path / "tensorboard"), purge_step=round_ + 1)
        self._sha256 = ""

    @classmethod
    def new(cls, manifest: dict[str, Any]) -> RunFolder:
        """Make a folder of its own for a run that begins."""
        stamp = f"{datetime.now():%Y-%m-%dT%H-%M-%S}"
        path = RUNS / stamp
        number = 2
        while path.exists():
            path = RUNS / f"{stamp}-{number}"
            number += 1
        path.mkdir(parents=True)
        return cls(path, manifest)

    @classmethod
    def again(cls, path: Path, manifest: dict[str, Any], round_: int) -> RunFolder:
        """Take the folder of a run up after a round: what came later did not happen."""
        try:
            former = json.loads((path / "manifest.json").read_text())
        except (OSError, ValueError):  # what the run needs is in its checkpoint
            former = {}
        last = {"after_round": round_, "from_job": former.get("job", "unknown")}
        return cls(path, {**manifest, "taken_up": [*former.get("taken_up", []), last]}, round_)

    def _events(self, round_: int) -> list[dict[str, Any]]:
        """Return the events up to a round; a line that was cut short is later than any."""
        events = []
        for line in (self.path / "metrics.jsonl").read_text().splitlines():
            try:
                events.append(json.loads(line))
            except ValueError:
                break
        return [event for event in events if event.get("round", 0) <= round_]

    @property
    def has_checkpoint(self) -> bool:
        """Tell whether a run can be taken up from here."""
        return (self.path / checkpoint.NAME).exists()

    def checkpoint(
        self, config: RunConfig, state: RunState, outcome: Outcome, rest: dict[str, Any]
    ) -> None:
        """Write what `former.read` takes for `--resume`, and the model so far.

        Raises OSError with the file's name; the checkpoint before is then as it was.
        """
        arrays, values = state.pack()
        checkpoint.write(self.path, arrays, {**values, "rest": rest})
        self.save_model(config, outcome)

    def forget_checkpoint(self) -> None:
        """The run has come to its end: there is nothing to resume."""
        checkpoint.remove(self.path)

    def event(self, event: dict[str, Any]) -> None:
        """Add one event to `metrics.jsonl` and to the TensorBoard files.

        Figures that the disk has no room for are lost; the run is worth more.
        """
        with contextlib.suppress(OSError):
            self._event(event)

    def _event(self, event: dict[str, Any]) -> None:
        self._metrics.write(json.dumps(event, allow_nan=True) + "\n")
        if event["event"] == "round":
            self._seconds.append(event["seconds"])
            self._board.add_scalar("loss/train", event["loss"], event["round"])
            for name, node in event["nodes"].items():
                for figure in {"loss", "compute_seconds"} & node.keys():
                    self._board.add_scalar(f"{figure}/{name}", node[figure], event["round"])
        if event["event"] == "evaluation":
            for figure in ("accuracy", "macro_recall", "macro_f1", "calibration_error", "loss"):
                tag = f"{figure}/{event['part']}"
                self._board.add_scalar(tag, event[figure], event["round"])
            for name, node in event["by_node"].items():
                for figure in {"accuracy", "celsius", "memory_free_mb"} & node.keys():
                    self._board.add_scalar(f"{figure}/{name}", node[figure], event["round"])

    def save_model(self, config: RunConfig, outcome: Outcome) -> None:
        """Write the model and point `runs/latest` here."""
        self._sha256 = save(self.path, outcome.weights, outcome.model, {"run": config.to_dict()})
        beside = RUNS / ".latest"
        beside.unlink(missing_ok=True)
        beside.symlink_to(self.path.name)
        beside.replace(RUNS / "latest")

    def finish(
        self, config: RunConfig, outcome: Outcome, measured: dict[str, Any]
    ) -> dict[str, Any]:
        """Write the summary and return it.

        `measured` is what only the cluster knows: bytes, seconds, memory by node, jobs, and what
        the run was compared with.
        """
        memory = measured.pop("memory_mb")
        figures = outcome.score.figures() if outcome.score else dict.fromkeys(FIGURES)
        summary = {
            **{name: figures[name] for name in FIGURES},
            "rounds": outcome.rounds,
            "model_of_round": outcome.chosen,
            "interrupted": outcome.interrupted,
            "strategy": config.strategy,
            "options": dict(config.options),
            "logit_shift": outcome.logit_shift,
            "split": config.split,
            "seed": config.seed,
            "model_sha256": self._sha256,
            "round_seconds": quantiles(self._seconds),
            **measured,
            "nodes": {
                name: {
                    "rows": rows,
                    "rss_mb_max": memory[name],
                    "dropped_updates": outcome.dropped.get(name, 0),
                    "test": _details(outcome.scores.get(name)),
                }
                for name, rows in outcome.rows.items()
            },
            "labels": list(outcome.labels),
            "confusion": None if outcome.confusion is None else outcome.confusion.tolist(),
            "calibration": outcome.score.calibration.tolist() if outcome.score else None,
        }
        self._write("summary.json", summary)
        self._metrics.close()
        self._show_board(config, outcome)
        self._board.close()
        save_split(self.path, outcome.labels, outcome.counts)
        return summary

    def _show_board(self, config: RunConfig, outcome: Outcome) -> None:
        """Add settings and confusion matrix to the TensorBoard files, where there is room."""
        with contextlib.suppress(OSError):
            settings = {**config.to_dict(), "nodes": ", ".join(outcome.rows)}
            # Not add_hparams, which makes a run of its own beside this one.
            writer: Any = self._board.file_writer
            told = {f"{name}/test": 0 for name in FIGURES}
            for summary in hparams(settings, told):  # type: ignore[no-untyped-call]
                writer.add_summary(summary)
            if outcome.confusion is not None:
                drawn = heatmap(outcome.labels, outcome.labels, outcome.confusion, right=True)
                self._board.add_figure("confusion", drawn, outcome.chosen)

    def _write(self, name: str, content: dict[str, Any]) -> None:
        put(self.path / name, (json.dumps(content, indent=1) + "\n").encode())


def _details(score: Score | None) -> dict[str, Any] | None:
    """Return a node's figures on its test part; None where it gave none."""
    if score is None or not score.examples:
        return None
    return {
        "examples": score.examples,
        **score.figures(),
        "confusion": score.confusion.tolist(),
        "calibration": score.calibration.tolist(),
    }


def quantiles(seconds: list[float]) -> dict[str, float]:
    """Return `p10`, `median` and `p90` in seconds; NaN-free zeros for no rounds."""
    if not seconds:
        return {"p10": 0.0, "median": 0.0, "p90": 0.0}
    p10, median, p90 = np.quantile(seconds, [0.1, 0.5, 0.9]).tolist()
    return {"p10": p10, "median": median, "p90": p90}


def left_behind() -> set[str]:
    """Return the jobs of runs here that were killed, or at whose end a node did not answer."""
    jobs = set()
    for path in RUNS.glob("*/manifest.json"):
        with contextlib.suppress(OSError, ValueError, KeyError):  # what is damaged tells nothing
            if _is_at_work(path.parent):
                continue
            summary, ends = path.with_name("summary.json"), {"its node": "unknown: it was killed"}
            if summary.exists():
                ends = json.loads(summary.read_text())["jobs"]
            if not set(FINAL).issuperset(ends.values()):
                jobs.add(json.loads(path.read_text())["job"])
    return jobs


def _is_at_work(folder: Path) -> bool:
    """Tell whether a process still writes into the folder of a run. Raises OSError."""
    with (folder / "metrics.jsonl").open("r+") as metrics:
        try:
            fcntl.flock(metrics, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def controller_software() -> dict[str, Any]:
    """Return what the controller is: commit of the checkout, and what a node tells of itself."""
    return {
        "commit": _git("rev-parse", "HEAD"),
        "changed_files": _git("status", "--porcelain").splitlines(),
        **software(),
    }


def _git(*words: str) -> str:
    try:
        asked = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
    except OSError:
        return "git is not installed"
    return asked.stdout.strip() if asked.returncode == 0 else "no git checkout"
