"""What the files of a run must have for a report: what is not asked for here is not looked at."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from fedrnn.config import RunConfig


def _settings(values: dict[str, Any]) -> dict[str, Any]:
    try:
        RunConfig.from_dict(values)
    except TypeError as error:  # what is no number has no order
        raise ValueError(str(error)) from error
    return values


Settings = Annotated[dict[str, Any], AfterValidator(_settings)]


class Shape(BaseModel):
    """A number is no text here, and keys that nobody reads may be anything."""

    model_config = ConfigDict(strict=True)


class Holder(Shape):  # noqa: D101 - the names are those of the files
    labels: list[str]
    train: int = 0
    names: dict[str, int] = {}


class Held(Shape):  # noqa: D101
    labels: list[str]
    nodes: dict[str, Holder]


class Trained(Shape):  # noqa: D101
    loss: float = 0
    compute_seconds: float = 0
    rss_mb: float = 0


class Moved(Shape):  # noqa: D101
    up: int
    down: int
    reconnects: int = 0
    seconds: float = 0


class Round(Shape):  # noqa: D101
    round: int
    seconds: float
    nodes: dict[str, Trained]
    traffic: dict[str, Moved] = {}
    errors: dict[str, str] = {}
    drawn: list[str] = []


class Board(Shape):  # noqa: D101
    accuracy: float = 0
    examples: int = 0
    celsius: float = 0
    throttled: float = 0
    memory_free_mb: float = 0
    swap_used_mb: float = 0


class Evaluation(Shape):  # noqa: D101
    part: str
    round: int
    accuracy: float
    loss: float
    by_node: dict[str, Board] = {}


class Manifest(Shape):  # noqa: D101
    job: str = ""
    sha256: str = ""
    engine: str = ""
    files: dict[str, str] = {}
    nodes: dict[str, dict[str, Any] | None] = {}
    owners: dict[str, dict[str, Any]] = {}
    controller: dict[str, Any] | None = None
    asked: dict[str, Any] | None = None
    taken_up: list[dict[str, Any]] = []
    run: Settings | None = None


class Config(Shape):  # noqa: D101
    labels: list[str] = []
    cell: str = ""
    hidden: int = 0
    embedding: int = 0
    run: Settings | None = None


class Tested(Shape):  # noqa: D101
    accuracy: float | None = None


class Ended(Shape):  # noqa: D101
    dropped_updates: int = 0
    test: Tested | None = None


class Summary(Tested):  # noqa: D101
    macro_recall: float | None = None
    macro_f1: float | None = None
    calibration_error: float | None = None
    seconds_total: float = 0
    bytes_up: int = 0
    bytes_down: int = 0
    problem: str = ""
    model_sha256: str = ""
    jobs: dict[str, str] = {}
    nodes: dict[str, Ended] = {}
    confusion: list[list[int]] | None = None


FILES: dict[str, type[Shape]] = {
    "manifest.json": Manifest,
    "summary.json": Summary,
    "config.json": Config,
}
EVENTS: dict[str, type[Shape]] = {"nodes": Held, "round": Round, "evaluation": Evaluation}


def misfit(shape: type[Shape], values: Any) -> str:
    """Return where values are not as they must be and why, nothing where they are."""
    try:
        shape.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return ""
