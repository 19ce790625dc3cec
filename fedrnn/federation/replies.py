"""What is wrong with what a node has answered: a sentence, or nothing if all is well.

A node may be broken, or somebody else's: what it sends is looked at before anything is done with
it. A lie that looks like an honest answer passes: docs/security.md says what that can do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from typing import Any, cast

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict

from fedrnn.datasite.layout import MAX_LABELS
from fedrnn.federation.health import FIGURES
from fedrnn.learning.data import PARTS
from fedrnn.learning.evaluation import BINS

LARGEST = 1e6
"""No loss, weight or gradient of a network that learns comes near it."""
_OF_TRAIN = {"num-examples", "loss", "compute-seconds", "rss-mb"}
_OF_QUERY = {*PARTS, "rss-mb"}
_OF_EVALUATION = {"withheld", "num-examples", "confusion", "calibration", "loss-sum", "rss-mb"}
_OF_EVALUATION |= set(FIGURES)
MAX_LABEL = 255  # characters: it is the name of a file
_HEADER = 4096  # bytes of a .npy file beside its numbers, at most
Names = Mapping[str, int]


def fault(sent: Message, reply: Message, names: Names) -> str:
    """Return why ``reply`` cannot be the answer to ``sent`` of a node with ``names`` by part.

    No ``names`` stands for a node of which nothing is known yet.
    """
    kind = sent.metadata.message_type
    try:
        if kind == "query":
            return _query(reply.content)
        if kind == "evaluate":
            part = str(sent.content.config_records["config"]["part"])
            labels = cast(list[str], sent.content.config_records["config"]["labels"])
            return _evaluation(reply.content, len(labels), names.get(part, 0))
        return _update(kind, sent.content, reply.content, names.get("train", 0))
    except Exception as error:  # whatever it has thought of, the run goes on
        return f"it cannot be read ({type(error).__name__}: {str(error)[:200]})"


def array_fault(name: str, array: Array, shape: tuple[int, ...] | None = None) -> str:
    """Return why an array of numbers cannot be used, where it must have a shape: as this one."""
    if array.dtype not in ("float32", "float64"):
        return f"{name} is of {array.dtype}"
    if shape is not None and tuple(array.shape) != shape:
        return f"{name} has the shape {tuple(array.shape)} and not {shape}"
    if len(array.data) > 8 * math.prod(array.shape) + _HEADER:
        return f"{name} is larger than its shape"
    values = array.numpy()
    if values.dtype != array.dtype or values.shape != tuple(array.shape):
        return f"{name} is not what it says it is"
    if not np.isfinite(values).all():
        return f"{name} has values that are not finite"
    if values.size and (largest := float(np.abs(values).max())) > LARGEST:
        return f"{name} has values as large as {largest:.1g}"
    return ""


def _query(content: RecordDict) -> str:
    labels = content.config_records["config"]["labels"]
    if not (isinstance(labels, list) and labels and all(isinstance(x, str) for x in labels)):
        return "it names no labels"
    if len(labels) > MAX_LABELS or any(len(str(label)) > MAX_LABEL for label in labels):
        return f"it names over {MAX_LABELS} labels, or one of over {MAX_LABEL} characters"
    if len(set(labels)) < len(labels):
        return "it names a label twice"
    metrics = content.metric_records["metrics"]
    if odd := _unknown(metrics, _OF_QUERY):
        return odd
    if not all(_are_counts(metrics[part], len(labels)) for part in PARTS):
        return "its counts are not one per label"
    return _no_number(metrics, but=PARTS)


def _update(kind: str, sent: RecordDict, content: RecordDict, rows: int) -> str:
    metrics = content.metric_records["metrics"]
    if odd := _unknown(metrics, {*_OF_TRAIN, "stale"}) or _no_number(metrics):
        return odd
    if kind == "train.gradient" and metrics.get("stale"):
        return _stale(sent, content, metrics)
    examples, loss = metrics["num-examples"], cast(float, metrics["loss"])
    if not isinstance(examples, int) or not 1 <= examples <= (rows or examples):
        return f"it says that it trained on {examples} names and has {rows}"
    if not 0 <= loss <= LARGEST:
        return f"its loss is {loss}"
    if kind == "train.gradient":
        batch = cast(int, sent.config_records["config"]["batch"])
        # All batches of a node are as large; that is near what was asked for. It is its weight.
        if examples > 2 * batch:
            return f"it says that it trained on {examples} names, and was asked for {batch}"
    if kind == "train":
        return _weights(sent.array_records["arrays"], content, metrics)
    faults = (
        array_fault(name, array)
        for arrays in content.array_records.values()
        for name, array in arrays.items()
        if array.dtype.startswith("float")
    )
    return next(filter(None, faults), "")


def _stale(sent: RecordDict, content: RecordDict, metrics: MetricRecord) -> str:
    """A node that has lost the weights on which a delta stands says so, and nothing else."""
    if sent.config_records["config"]["base"] == 0:
        return "it was sent all weights, and says that it lacks them"
    if content.array_records or "loss" in metrics or metrics["num-examples"] != 0:
        return "it says that it cannot answer, and answers"
    return ""


def _weights(sent: ArrayRecord, content: RecordDict, metrics: MetricRecord) -> str:
    """Flower's strategies throw a whole round away where the replies' records differ in a name."""
    if set(metrics) != _OF_TRAIN or len(content.metric_records) != 1:
        return f"its metrics are {', '.join(metrics)}"
    if list(content.array_records) != ["arrays"]:
        return "it has no arrays, or more than one record of them"
    arrays = content.array_records["arrays"]
    if missing := sorted(set(sent) - set(arrays)):
        return f"{', '.join(missing)} is missing"
    if unknown := sorted(set(arrays) - set(sent)):
        return f"{', '.join(unknown)} is none of the model's"
    faults = (array_fault(name, array, tuple(sent[name].shape)) for name, array in arrays.items())
    return next(filter(None, faults), "")


def _evaluation(content: RecordDict, labels: int, names: int) -> str:
    metrics = content.metric_records["metrics"]
    if odd := _unknown(metrics, _OF_EVALUATION):
        return odd
    confusion = metrics["confusion"]
    if not _are_counts(confusion, labels**2):
        return "its confusion matrix is not one of counts"
    if (seen := sum(cast(list[int], confusion))) > names:
        return f"it says that it looked at {seen} names and has {names}"
    calibration = np.asarray(metrics["calibration"], dtype=np.float64)
    if calibration.shape != (3 * BINS,) or not _are_sane(calibration):
        return "its calibration is not one of counts"
    if odd := _no_number(metrics, but=("confusion", "calibration")):
        return odd
    if not 0 <= cast(float, metrics["loss-sum"]) < LARGEST**2:
        return f"its loss is {metrics['loss-sum']}"
    return ""


def _unknown(metrics: MetricRecord, known: Set[str]) -> str:
    """Say which metrics nobody has asked for: they would be kept and written down."""
    unknown = [name for name in metrics if name not in known]
    return f"nobody has asked for its {', '.join(unknown[:5])}"[:200] if unknown else ""


def _no_number(metrics: MetricRecord, but: Sequence[str] = ()) -> str:
    """Say which metric is not one finite number, as all are ``but`` those that are lists."""
    for name, value in metrics.items():
        if name not in but and (isinstance(value, list) or not math.isfinite(value)):
            return f"its {name} is {str(value)[:200]}"
    return ""


def _are_counts(values: Any, length: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) == length
        and all(isinstance(value, int) and 0 <= value < 2**40 for value in values)
    )


def _are_sane(values: np.ndarray[Any, np.dtype[np.float64]]) -> bool:
    return bool(np.isfinite(values).all() and (values >= 0).all() and (values < LARGEST**2).all())
