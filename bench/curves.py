"""The picture of the learning table: accuracy against rounds, bytes and seconds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot

from bench.runs import Result

PICTURE = Path(__file__).parents[1] / "docs" / "learning.svg"
AXES = {"round": "rounds", "megabytes": "MB a node, both ways", "seconds": "CPU seconds, all nodes"}


def draw(ways: Mapping[str, list[Result]], central: list[Result]) -> None:
    """Draw the validation accuracy of each way, the mean over its runs, and central training's."""
    matplotlib.rcParams["svg.hashsalt"] = "fedrnn"  # the same picture for the same figures
    figure, axes = pyplot.subplots(1, 3, figsize=(11, 3.6), sharey=True, layout="constrained")
    reached = statistics.fmean(result.validation for result in central)
    for axis, (field, label) in zip(axes, AXES.items(), strict=True):
        for way, results in ways.items():
            points = list(zip(*(result.curve for result in results), strict=True))
            across = [statistics.fmean(getattr(p, field) for p in several) for several in points]
            height = [statistics.fmean(p.accuracy for p in several) for several in points]
            axis.plot(across, height, marker=".", label=way)
        axis.axhline(reached, color="grey", linestyle="--", label="central training")
        axis.set_xlabel(label)
        axis.set_xlim(left=0)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("validation accuracy, %")
    axes[0].legend(loc="lower right")
    figure.suptitle("Two nodes that share no language")
    figure.savefig(PICTURE, metadata={"Date": None})
    pyplot.close(figure)
    print(PICTURE)
