"""The node's side: answers a Flower server with gradients, weights and counts, never with rows.

Everything about the run travels in each message's ``config`` record; the private data is the
folder named by the environment variable ``FEDRNN_DATA``, split by ``FEDRNN_DATA_SEED``. Messages
and their records:

============== ====================================== ==========================================
type           arrays                                 reply
============== ====================================== ==========================================
query          none                                   config ``labels``; metrics: a count per
                                                      label for train, validation, test
train.gradient ``weights`` (base 0), or ``delta`` and  ``values`` and ``scales``, as ``codec`` has
               ``scales`` since round ``base``         them, and ``rest``, ``rest-scales`` where to
                                                      ``settle``; no arrays where the metric
                                                      ``stale`` is 1 or ``loss`` is not finite
train          the model, by parameter name           the model after local epochs
evaluate       the model, by parameter name           metrics: confusion, calibration, loss-sum,
                                                      withheld, and those of ``health``
============== ====================================== ==========================================

What strategies may add to the config is honoured: FedProx's ``proximal-mu``; ``logit-shift``,
which is added to the logits in training; ``settle``, which sends what rounding took at once.
"""

from __future__ import annotations

import logging
import math
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import cast

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from fedrnn.federation.codec import Quantised, compress, dequantise, pack, quantise, unpack
from fedrnn.federation.health import health
from fedrnn.learning.data import (
    MIN_BATCH,
    PARTS,
    Batches,
    DataError,
    Examples,
    Part,
    counts,
    examples,
    read_folder,
)
from fedrnn.learning.evaluation import evaluate as score
from fedrnn.learning.model import CharRNN, set_parameters, shapes
from fedrnn.learning.training import gradient, local_sgd, seed_dropout

app = ClientApp()
log = logging.getLogger("fedrnn.client")

_VIEW = "fedrnn-view"
_ROUND = "fedrnn-round"


@dataclass(frozen=True)
class _Settings:
    """The part of a message's config that names the model and the data: a key for the caches."""

    labels: tuple[str, ...]
    cell: str
    embedding: int
    hidden: int
    dropout: float
    data_seed: int

    @classmethod
    def of(cls, config: ConfigRecord) -> _Settings:
        return cls(
            labels=tuple(cast(list[str], config["labels"])),
            cell=str(config["cell"]),
            embedding=_whole(config, "embedding"),
            hidden=_whole(config, "hidden"),
            dropout=_number(config, "dropout"),
            data_seed=_data_seed(config),
        )


@app.query()
def query(message: Message, context: Context) -> Message:
    """Reply how many names this node has, by label and part."""
    names = read_folder(_folder())
    table = counts(names, _data_seed(_config(message)))
    labels = sorted(names)
    metrics = MetricRecord({p: [table[p][label] for label in labels] for p in PARTS})
    metrics["rss-mb"] = _rss_mb()
    content = RecordDict({"config": ConfigRecord({"labels": labels}), "metrics": metrics})
    return Message(content, reply_to=message)


@app.train("gradient")
def train_gradient(message: Message, context: Context) -> Message:
    """Reply the gradient of one batch at the server's weights, as int8 with error feedback.

    The weights that this node holds and what its messages still owe live in ``context.state``.
    A delta against other weights than those is answered with ``stale``.
    """
    started = time.perf_counter()
    config = _config(message)
    settings = _Settings.of(config)
    round_ = _whole(config, "round")
    model = _model(settings)
    sizes = [int(np.prod(shape)) for shape in shapes(model).values()]
    state = _receive(
        message.content.array_records["arrays"], _whole(config, "base"), context, sizes
    )
    if state is None:
        return _reply(message, None, {"stale": 1, "num-examples": 0, "rss-mb": _rss_mb()})
    weights, residual = state
    set_parameters(model, weights)
    data, batches = _batches(_folder(), settings, _whole(config, "batch"), _whole(config, "seed"))
    seed_dropout(_whole(config, "seed"), _whole(config, "node"), round_)
    index = batches.at(round_)
    flat, loss = gradient(model, *data.at(index), _shift(config))
    finite = np.isfinite(flat).all()
    metrics = {
        "stale": 0,
        "num-examples": len(index),
        "loss": loss if finite else math.nan,
        "compute-seconds": time.perf_counter() - started,
        "rss-mb": _rss_mb(),
    }
    if not finite:
        log.warning("round %d: the gradient is not finite (loss %s): not sent", round_, loss)
        return _reply(message, None, metrics)
    sent, residual = compress(flat, residual, sizes)
    arrays = _arrays(values=pack(sent.values), scales=sent.scales)
    if "settle" in config:  # a checkpoint comes next, and a run taken up there owes nothing
        rest = quantise(residual, sizes)
        arrays["rest"], arrays["rest-scales"] = Array(pack(rest.values)), Array(rest.scales)
        residual = np.zeros_like(residual)
    context.state[_VIEW] = _arrays(weights=weights, residual=residual)
    context.state[_ROUND] = ConfigRecord({"round": round_})
    return _reply(message, arrays, metrics)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Reply the model after local epochs of SGD, for Flower's own strategies."""
    started = time.perf_counter()
    config = _config(message)
    settings = _Settings.of(config)
    round_ = _whole(config, "server-round")
    seed = _whole(config, "seed")
    model = _model(settings)
    _load(model, message.content.array_records["arrays"])
    data, batches = _batches(_folder(), settings, _whole(config, "local-batch"), seed)
    seed_dropout(seed, 0, round_)
    steps = batches.per_epoch * _whole(config, "local-epochs")
    loss = local_sgd(
        model,
        data,
        batches,
        first=(round_ - 1) * steps + 1,
        steps=steps,
        lr=_number(config, "local-lr"),
        proximal_mu=_number(config, "proximal-mu") if "proximal-mu" in config else 0.0,
        shift=_shift(config),
    )
    metrics = {
        "num-examples": len(data.targets),
        "loss": loss,
        "compute-seconds": time.perf_counter() - started,
        "rss-mb": _rss_mb(),
    }
    return _reply(message, ArrayRecord(model.state_dict()), metrics)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Reply the counts of a ``Score`` on the asked part, row by row.

    Of fewer than ``MIN_BATCH`` names it would tell too much: all zeros then, and ``withheld`` 1.
    """
    config = _config(message)
    settings = _Settings.of(config)
    model = _model(settings)
    _load(model, message.content.array_records["arrays"])
    data = _examples(_folder(), settings)[cast(Part, config["part"])]
    withheld = len(data.targets) < MIN_BATCH
    if withheld:
        log.warning("%s: %d names are too few to evaluate", config["part"], len(data.targets))
        data = data.at(np.zeros(0, dtype=np.int64))
    result = score(model, data, len(settings.labels))
    metrics: dict[str, int | float | list[int] | list[float]] = {
        "withheld": int(withheld),
        "num-examples": len(data.targets),
        "confusion": result.confusion.reshape(-1).tolist(),
        "calibration": result.calibration.reshape(-1).tolist(),
        "loss-sum": result.loss_sum,
        "rss-mb": _rss_mb(),
        **health(),
    }
    return _reply(message, None, metrics)


def _receive(
    arrays: ArrayRecord, base: int, context: Context, sizes: list[int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """Return this round's weights [P] and the residual [P], None when the delta does not fit."""
    if base == 0:
        weights = arrays["weights"].numpy().astype(np.float32)
        return weights, np.zeros_like(weights)
    if _VIEW not in context.state or context.state.config_records[_ROUND]["round"] != base:
        return None
    held = context.state.array_records[_VIEW]
    values = unpack(arrays["delta"].numpy(), sum(sizes))
    delta = dequantise(Quantised(values, arrays["scales"].numpy()), sizes)
    return held["weights"].numpy() + delta, held["residual"].numpy()


def _config(message: Message) -> ConfigRecord:
    return message.content.config_records["config"]


def _data_seed(config: ConfigRecord) -> int:
    """Return what decides which names are test names: the owner's word, not the message's.

    Counts under many seeds would tell which names a node has.
    """
    asked = _whole(config, "data-seed")
    own = os.environ.get("FEDRNN_DATA_SEED")
    if own is not None and int(own) != asked:
        raise DataError(
            f"this node's data is split by the seed {own}, and this run asks for {asked}: "
            "dataset_seed must be the same for all nodes and the run"
        )
    return asked


def _whole(config: ConfigRecord, key: str) -> int:
    return int(cast(int, config[key]))


def _number(config: ConfigRecord, key: str) -> float:
    return float(cast(float, config[key]))


def _shift(config: ConfigRecord) -> torch.Tensor | None:
    if "logit-shift" not in config:
        return None
    return torch.tensor(cast(list[float], config["logit-shift"]), dtype=torch.float32)


def _arrays(**values: NDArray[np.float32] | NDArray[np.uint8]) -> ArrayRecord:
    return ArrayRecord({name: Array(value) for name, value in values.items()})


def _reply(
    message: Message,
    arrays: ArrayRecord | None,
    metrics: Mapping[str, int | float | list[int] | list[float]],
) -> Message:
    content = RecordDict({"metrics": MetricRecord(dict(metrics))})
    if arrays is not None:
        content["arrays"] = arrays
    return Message(content, reply_to=message)


def _folder() -> str:
    folder = os.environ.get("FEDRNN_DATA")
    if not folder:
        raise DataError("FEDRNN_DATA is not set: it must name the folder with this node's data")
    return folder


def _load(model: CharRNN, arrays: ArrayRecord) -> None:
    """Copy arrays by parameter name into the model; float64, which some strategies send, too."""
    values = [arrays[name].numpy().reshape(-1) for name in shapes(model)]
    set_parameters(model, np.concatenate(values).astype(np.float32))


# The worker lives for a whole run: it reads its data and builds the model once. The size of the
# caches is for tests, where one process plays several nodes.
@lru_cache(maxsize=64)
def _examples(folder: str, settings: _Settings) -> dict[Part, Examples]:
    return examples(read_folder(Path(folder)), settings.labels, settings.data_seed)


@lru_cache(maxsize=64)
def _batches(folder: str, settings: _Settings, size: int, seed: int) -> tuple[Examples, Batches]:
    data = _examples(folder, settings)["train"]
    return data, Batches(data.lengths, size, seed)


@lru_cache(maxsize=8)
def _model(settings: _Settings) -> CharRNN:
    # One thread: the batches are too small to gain from more, and each costs memory.
    torch.set_num_threads(1)
    s = settings
    return CharRNN(len(s.labels), s.cell, s.embedding, s.hidden, s.dropout)


def _rss_mb() -> float:
    """Return the peak resident memory of this process in MB, 0 where the kernel does not tell."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0.0
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0
