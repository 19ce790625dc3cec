"""What a run was asked to do: one frozen record, checked when it is made."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

CELLS = ("rnn", "gru", "lstm", "bigru")
Options = Mapping[str, float]
OPTIONS: dict[str, Options] = {
    "gradient": {},
    "fedavg": {},
    "fedprox": {"proximal_mu": 0.01},
    "fedavgm": {"server_learning_rate": 1.0, "server_momentum": 0.5},
    "fedadam": {"eta": 0.05, "beta_1": 0.9, "beta_2": 0.99, "tau": 1e-3},
    "fedyogi": {"eta": 0.02, "beta_1": 0.9, "beta_2": 0.99, "tau": 1e-3},
    "fedmedian": {},
    "fedtrimmedavg": {"beta": 0.2},
    "krum": {"num_malicious_nodes": 1},
    "multikrum": {"num_malicious_nodes": 1, "num_nodes_to_select": 2},
}
"""The strategies, and by the names of Flower's own arguments what each of them may be given."""
STRATEGIES = tuple(OPTIONS)
DEFAULT_ROUNDS = {name: 300 if name == "gradient" else 30 for name in STRATEGIES}
"""Rounds after which a strategy has converged on the embedded data."""
_GRADIENT = ("batch", "lr")
_AVERAGING = ("local_epochs", "local_batch", "local_lr")
_ALL = (
    "dropout",
    "logit_adjustment",
    "evaluate_every",
    "checkpoint_every",
    "timeout",
    "sample",
)


def check_split(split: str) -> tuple[float, int | None] | None:
    """Return A and K of ``dirichlet:A`` or ``dirichlet:A:K``, None for the other splits.

    ``own`` is no split: it says that the nodes hold data of their own.

    Raises:
        ValueError: ``split`` is none of ``language``, ``iid``, ``dirichlet:A`` with A > 0 and
            ``dirichlet:A:K`` with a whole K > 0.
    """
    if split in ("language", "iid", "own"):
        return None
    kind, *words = split.split(":")
    try:
        concentration, names = float(words[0]), [int(word) for word in words[1:]]
    except (IndexError, ValueError):
        concentration, names = math.nan, []
    good = 0 < concentration < math.inf and all(number > 0 for number in names)
    if kind != "dirichlet" or not good or len(words) > 2:
        raise ValueError(
            f"split {split!r} is not known: use language, iid, dirichlet:A with A above 0 (for "
            "example dirichlet:0.5), or dirichlet:A:K for nodes that draw K names each"
        )
    return concentration, names[0] if names else None


def parse_settings(strategy: str, words: Sequence[str]) -> dict[str, Any]:
    """Return values for ``RunConfig`` of words such as ``lr=0.02``, or ``eta=0.01`` for fedadam.

    Raises:
        ValueError: a word is no ``name=number``, or this strategy has no such setting.
    """
    names = (_GRADIENT if strategy == "gradient" else _AVERAGING) + _ALL
    values: dict[str, Any] = {}
    options: dict[str, float] = {}
    for word in words:
        name, _, text = word.partition("=")
        try:
            number = int(text) if text.strip("+-").isdecimal() else float(text)
        except ValueError:
            raise ValueError(f"{word!r} is not understood: write NAME=NUMBER") from None
        if name in OPTIONS[strategy]:
            options[name] = number
        elif name in names:
            values[name] = number
        else:
            known = ", ".join((*OPTIONS[strategy], *names))
            raise ValueError(f"strategy {strategy} has no setting {name!r}: it has {known}")
    return {**values, "options": options}


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Everything that decides the result of a run, and the deadline of a round.

    ``batch`` is in names per round, summed over the nodes; ``timeout`` in seconds; ``sample`` is
    the fraction of the nodes that take part in a round, others each time. ``lr`` is the
    peak rate of the server's AdamW; ``local_lr``, ``local_batch`` and ``local_epochs`` belong to
    the strategies that train on the node, which are all but gradient; ``options`` are the
    strategy's own, those not given as in ``OPTIONS``. ``logit_adjustment`` is the weight of the
    labels' log frequencies in the loss, None for what the labels call for; ``evaluate_every`` is
    in rounds, None for twelve evaluations in a run; ``checkpoint_every``, in rounds too, decides
    the result as well, since the nodes then let go of what rounding took, None for 50 (a twelfth of
    a run of the strategies that train on the node). ``data_seed``
    decides which names are test names and is the same for every run that one wants to compare;
    ``seed`` decides the rest.

    Raises:
        ValueError: a value is out of range; the sentence says which, and what is allowed.
    """

    rounds: int = 300
    strategy: str = "gradient"
    seed: int = 0
    data_seed: int = 0
    split: str = "language"
    nodes: tuple[str, ...] = ()
    cell: str = "bigru"
    embedding: int = 32
    hidden: int = 80
    dropout: float = 0.5
    batch: int = 1024
    lr: float = 2e-2
    local_epochs: int = 1
    local_batch: int = 64
    local_lr: float = 0.1
    options: Options = dataclasses.field(default_factory=dict)
    logit_adjustment: float | None = None
    evaluate_every: int | None = None
    checkpoint_every: int | None = None
    timeout: float = 60.0
    sample: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "nodes", tuple(self.nodes))
        for name in (
            "rounds", "embedding", "hidden", "batch", "local_epochs", "local_batch",
            "evaluate_every", "checkpoint_every",
        ):  # fmt: skip
            value = getattr(self, name)
            if name in ("evaluate_every", "checkpoint_every") and value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} is {value!r}: it must be a whole number of at least 1")
        for name in ("seed", "data_seed"):
            value = getattr(self, name)
            if not isinstance(value, int) or not 0 <= value < 2**31:
                raise ValueError(f"{name} is {value!r}: it must be a whole number of at least 0")
        for name in ("lr", "local_lr", "timeout"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ValueError(f"{name} is {value!r}: it must be above 0")
        if not 0 < self.sample <= 1:
            raise ValueError(f"sample is {self.sample!r}: it must be above 0 and at most 1")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout!r}: it must be at least 0 and below 1")
        if not 0 <= (self.logit_adjustment or 0.0) <= 1:
            raise ValueError(f"logit_adjustment is {self.logit_adjustment!r}: it must be 0 to 1")
        if self.strategy not in STRATEGIES:
            raise ValueError(
                f"strategy {self.strategy!r} is not known: use one of {', '.join(STRATEGIES)}"
            )
        object.__setattr__(self, "options", self._checked_options())
        if self.cell not in CELLS:
            raise ValueError(f"cell {self.cell!r} is not known: use one of {', '.join(CELLS)}")
        check_split(self.split)

    def _checked_options(self) -> Options:
        """Return all options of the strategy, each of its default's type."""
        known = OPTIONS[self.strategy]
        for name, value in self.options.items():
            if name not in known:
                has = ", ".join(known) or "none"
                raise ValueError(f"strategy {self.strategy} has no option {name!r}: it has {has}")
            whole = isinstance(known[name], int)
            if not 0 <= value < math.inf or (whole and value != int(value)):
                kind = "a whole number" if whole else "a number"
                raise ValueError(f"{name} is {value!r}: it must be {kind} of at least 0")
        return {
            name: type(default)(self.options.get(name, default)) for name, default in known.items()
        }

    @property
    def evaluation_rounds(self) -> int:
        """So many rounds lie between two evaluations: a twelfth of the run by default."""
        return self.evaluate_every or max(1, self.rounds // 12)

    def is_checkpoint(self, round_: int) -> bool:
        """Tell whether a checkpoint lies behind a round; none behind the last."""
        epochs = max(1, self.rounds // 12)  # a round of the other strategies is one or more
        every = self.checkpoint_every or (50 if self.strategy == "gradient" else epochs)
        return 0 < round_ < self.rounds and round_ % every == 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain values: fit for JSON and for a Flower ``ConfigRecord``.

        An option ``eta`` is ``options.eta``, as Flower flattens its configuration; None is left
        out.
        """
        values = {**dataclasses.asdict(self), "nodes": list(self.nodes)}
        options = values.pop("options")
        values.update({f"options.{name}": value for name, value in options.items()})
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunConfig:
        """Make a config of ``values``; what is missing keeps its default.

        Raises:
            ValueError: a key is not known, or a value is out of range.
        """
        plain: dict[str, Any] = {}
        for key, value in values.items():
            if key.startswith("options."):
                plain.setdefault("options", {})[key.removeprefix("options.")] = value
            else:
                plain[key] = value
        unknown = sorted(set(plain) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise ValueError(f"the run's configuration has unknown keys: {', '.join(unknown)}")
        return cls(**plain)
