"""What a node answers, believed only as far as it speaks for itself and of what it was asked.

A node may be broken, or not the one that it says to be. Nothing of its answer is shown, counted or
written before it has passed here.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import tarfile
import tempfile
from pathlib import Path, PurePosixPath
from typing import Any

from fedrnn.datasite.layout import FINAL, JOB, MAX_LABELS, SENDER
from fedrnn.datasite.policy import FINGERPRINT

MAX_TEXT = 4_000  # characters of anything that a node says in words
MAX_NUMBER = 1 << 53  # what JSON, and a figure on a screen, can hold
MAX_RESULTS = 256 << 20
MAX_RESULT_FILES = 20_000
PROTOCOL = re.compile(r"v\d{1,3}")  # PySyft's folder between a sender and his jobs
STATUSES = ("sent", "pending", "approved", "running", *FINAL)


class AnswerError(ValueError):
    """A node's answer is refused; the text names its owner and what is wrong with it."""


def description(data: bytes, owner: str) -> dict[str, Any]:
    """Return what a node says of its data set, with plain texts and counts alone.

    Raises AnswerError when it is somebody else's or has another form.
    """
    told = _table(data, owner, "description")
    if told.get("owner") != owner:
        raise AnswerError(
            f"{owner}'s node describes the data of {_short(told.get('owner'))}: two nodes may have "
            "changed places; compare their addresses and host keys"
        )
    labels, mock = told.get("labels"), told.get("mock")
    node, running = told.get("node"), told.get("running")
    fits = (
        _are(str, told.get("dataset"), told.get("schema"))
        and isinstance(labels, dict)
        and 0 < len(labels) <= MAX_LABELS
        and all(_counts(n) for n in labels.values())
        and _counts(told.get("rows"))
        and told["rows"] == sum(labels.values())
        and isinstance(mock, dict)
        and mock.keys() == labels.keys()
        and all(isinstance(rows, list) and _are(str, *rows) for rows in mock.values())
        and _is_software(node)
        and (running is None or _is_holder(running))
    )
    if not fits or not _are(str, *(labels or ())):
        raise AnswerError(f"{owner}'s node describes its data in a form that is not ours")
    known = ("dataset", "schema", "rows", "labels", "mock", "owner", "node", "running")
    return {field: told.get(field) for field in known}


def identity(data: bytes, owner: str) -> str | None:
    """Return the identity that a node's description shows, "" for none, None by an older gate.

    Raises AnswerError.
    """
    told = _table(data, owner, "description")
    return str(told["identity"]) if "identity" in told else None


def state(data: bytes, owner: str, job: str) -> dict[str, Any]:
    """Return the state of the job that was asked for. Raises AnswerError for any other answer."""
    told = _table(data, owner, "state")
    if told.get("job") != job:
        other = _short(told.get("job"))
        raise AnswerError(f"{owner}'s node answers for job {other}, not for {job}")
    held, code, digest = told.get("held_by"), told.get("return_code"), told.get("sha256")
    memory = told.get("memory_mb", {})
    fits = (
        told.get("status") in STATUSES
        and _are((str, type(None)), told.get("reason"), told.get("approval"))
        and (code is None or _is_number(code))
        and (digest is None or (isinstance(digest, str) and FINGERPRINT.match(digest)))
        and (held is None or _is_holder(held))
        and isinstance(memory, dict)
        and _are(str, *memory)
        and all(_is_number(mb, float) for mb in memory.values())
    )
    if not fits:
        raise AnswerError(f"{owner}'s node tells the state of {job} in a form that is not ours")
    known = ("job", "status", "reason", "approval", "return_code", "sha256", "held_by")
    return {
        **{field: told.get(field) for field in known},
        "memory_mb": memory,
        "worker": told.get("worker") is True,
    }


def unpack(data: bytes, box: Path, owner: str, sender: str, job: str = "") -> None:
    """Lay out what a node shares, in its owner's part of `box`, all of it or nothing.

    That is the public part of its data sets or, with a job, what it shares of that one. Raises
    AnswerError for anything else: a node never writes another owner's files, or over what was
    submitted to it.
    """
    if len(data) > MAX_RESULTS:
        raise AnswerError(f"{owner}'s node sends {len(data) >> 20} MiB of results")
    files: dict[PurePosixPath, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            for member in tar:
                path = PurePosixPath(member.name)
                plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse()
                if not (plain and _is_shared(path, owner, sender, job)) or path in files:
                    raise AnswerError(
                        f"{owner}'s node sends {_short(member.name)}, which it was not asked for"
                    )
                if len(files) >= MAX_RESULT_FILES:
                    raise AnswerError(f"{owner}'s node sends over {MAX_RESULT_FILES} files")
                content = tar.extractfile(member)
                files[path] = content.read() if content else b""
    except AnswerError:
        raise
    except Exception as error:  # whatever a hostile stream makes of the tar reader
        raise AnswerError(f"{owner}'s node sends results that are no tar: {error!r}") from None
    _lay_out(files, box, owner)


def _lay_out(files: dict[PurePosixPath, bytes], box: Path, owner: str) -> None:
    """Write the files aside first: names that no disk takes, or that collide, show there."""
    with tempfile.TemporaryDirectory(dir=box, prefix=".") as fresh:
        try:
            for path, content in files.items():
                target = Path(fresh, path)
                target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                target.write_bytes(content)
            if files:  # each is below the owner's folder
                shutil.copytree(Path(fresh, owner), box / owner, dirs_exist_ok=True)
        except (OSError, ValueError, shutil.Error) as error:
            told = f"{_short(error)}: is there room in {box}?"
            raise AnswerError(f"what {owner}'s node sends cannot be written: {told}") from None


def _is_shared(path: PurePosixPath, owner: str, sender: str, job: str) -> bool:
    parts = path.parts
    if path.is_absolute() or ".." in parts or "\0" in str(path) or parts[:1] != (owner,):
        return False
    if not job:
        return parts[1:3] == ("public", "syft_datasets") and len(parts) > 4
    review = ("app_data", "job", "review", sender)
    of_job = len(parts) > 7 and PROTOCOL.fullmatch(parts[5]) is not None and parts[6] == job
    return parts[1:5] == review and of_job


def _table(data: bytes, owner: str, what: str) -> dict[str, Any]:
    try:
        told = json.loads(data)
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        raise AnswerError(f"{owner}'s node sends a {what} that is no JSON object")
    return told


def _is_holder(told: Any) -> bool:
    """Tell whether this names a job: its names go into a command that a person may paste."""
    fields = ("job", "sender", "since")
    if not isinstance(told, dict) or not _are(str, *(told.get(field) for field in fields)):
        return False
    return bool(JOB.match(told["job"]) and SENDER.match(told["sender"]))


def _is_software(told: Any) -> bool:
    """Tell whether this is what `datasite.software` says: texts, and a table of packages."""
    if not isinstance(told, dict):
        return False
    packages = told.get("packages", {})
    texts = [value for name, value in told.items() if name != "packages"]
    if not isinstance(packages, dict) or not _are(dict, *packages.values()):
        return False
    texts += [text for package in packages.values() for pair in package.items() for text in pair]
    return _are((str, type(None)), *told, *packages, *texts)


def _counts(value: Any) -> bool:
    return _is_number(value) and value >= 0


def _is_number(value: Any, kind: type = int) -> bool:
    """Tell whether this is an int, or of `kind`: no truth value, not NaN, not without measure."""
    known = isinstance(value, (int, kind)) and not isinstance(value, bool)
    return known and abs(value) <= MAX_NUMBER


def _are(kind: Any, *values: Any) -> bool:
    """Tell whether all values are of a kind, and no text is longer than a person reads."""
    return all(
        isinstance(v, kind) and not (isinstance(v, str) and len(v) > MAX_TEXT) for v in values
    )


def _short(value: Any) -> str:
    return ascii(value)[:80]
