"""What the datasite lays out for the gate: each researcher's folder, and nothing of others."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedrnn.datasite.layout import Site, split_key
from fedrnn.datasite.policy import MAX_REASON

if TYPE_CHECKING:
    from syft_job import JobInfo

MAX_REFUSALS = 100  # of a sender, told until newer ones take their place


def mirror(home: Path, top: Path, folder: Path, may_read: Callable[[Path], bool]) -> None:
    """Make `folder` hold the files of `home` below `top` that `may_read` grants, no others.

    `may_read` is asked by path relative to `home`, as `folder` is laid out.
    """
    wanted = set()
    for path in top.rglob("*"):
        relative = path.relative_to(home)
        try:
            if path.is_file() and not path.is_symlink() and may_read(relative):
                _copy(path, folder / relative)
                wanted.add(relative)
        except Exception as error:  # one file never keeps another from being published
            print(f"{relative} is not published: {error!r}", flush=True)
    for path in (folder / top.relative_to(home)).rglob("*"):
        if not path.is_dir() and path.relative_to(folder) not in wanted:
            path.unlink()


def publish_states(
    folder: Path, jobs: Mapping[str, JobInfo], state: Callable[[JobInfo], dict[str, Any]]
) -> None:
    """Write a file per open job; of one that has ended, the last stays."""
    for name, job in jobs.items():
        try:
            told = state(job)
        except Exception as error:  # one job never keeps another from being published
            told = {"job": name, "status": str(job.status), "reason": f"no more is known: {error}"}
        place(json.dumps(told).encode(), folder / f"{name}.json")


def publish_refusals(site: Site, researchers: Iterable[str], refused: Mapping[str, str]) -> None:
    """Tell senders that are known why a job of theirs did not arrive."""
    for name, reason in refused.items():
        with contextlib.suppress(ValueError):
            sender, job = split_key(name)
            known = sender in researchers
            if known and not (site.published(sender) / "jobs" / f"{job}.json").exists():
                publish_refusal(site, name, reason)


def publish_refusal(site: Site, key: str, reason: str) -> None:
    """Tell a sender that a job is refused, whatever was said of it before."""
    sender, job = split_key(key)
    folder = site.published(sender) / "jobs"
    told = {"job": job, "status": "refused", "reason": reason[:MAX_REASON]}
    place(json.dumps(told).encode(), folder / f"{job}.json")
    _forget_refusals(folder)


def _forget_refusals(folder: Path) -> None:
    refused = [file for file in folder.glob("*.json") if _published(file) == "refused"]
    for file in sorted(refused, key=lambda file: file.stat().st_mtime)[:-MAX_REFUSALS]:
        file.unlink()


def place(content: bytes, target: Path) -> None:
    """Write a file whole or not at all, and only when it differs.

    The gate reads it by the group of the folder, which the umask lets read.
    """
    if target.is_file() and target.read_bytes() == content:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.new")
    fresh.write_bytes(content)
    fresh.replace(target)


def _copy(source: Path, target: Path) -> None:
    """Place a file, and read neither when size and time say that they are the same."""
    there = source.stat()
    if target.is_file():
        here = target.stat()
        if (here.st_size, here.st_mtime_ns) == (there.st_size, there.st_mtime_ns):
            return
    place(source.read_bytes(), target)
    os.utime(target, ns=(there.st_mtime_ns, there.st_mtime_ns))


def _published(target: Path) -> str | None:
    try:
        status: str | None = json.loads(target.read_text()).get("status")
    except (OSError, ValueError):
        return None
    return status
