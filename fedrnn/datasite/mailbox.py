"""From the mailbox, which the gate fills, into PySyft's inbox, which only the owner writes."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

import yaml

from fedrnn.datasite.layout import CANCEL, MAX_BYTES, Site, split_key
from fedrnn.datasite.policy import fingerprint, manifest
from fedrnn.datasite.storage import Storage, sync

MAX_DEPTH = 16
MAX_CONFIG = 64 << 10
STALE_SECONDS = 600  # a gate lays a parcel down in far less


def contents(site: Site) -> tuple[list[Path], list[Path]]:
    """Return the parcels and the senders' notes to cancel, those that are there now.

    The notes are read first: the job of a note has been in the mailbox before it.
    """
    notes = sorted(site.mailbox.glob(f"*{CANCEL}"))
    parcels = sorted(p for p in site.mailbox.iterdir() if p.suffix != CANCEL)
    return parcels, notes


def receive(site: Site, storage: Storage, parcels: Iterable[Path]) -> dict[str, str]:
    """Copy parcels into the inbox of their sender; return what was refused, and why, by name.

    Only a job of a name that was never used and that PySyft can read arrives: nothing that was
    reviewed is ever written again, and nothing lies there that no owner can see.
    """
    refused = {}
    known = site.config()["researchers"]
    for parcel in parcels:
        try:
            sender, _ = split_key(parcel.name)
            if sender not in known:
                raise ValueError(f"{sender} is no researcher of this datasite")
            _receive(site, storage, parcel)
        except Exception as error:  # one parcel never keeps another waiting
            refused[parcel.name] = str(error) or type(error).__name__
    return refused


def _receive(site: Site, storage: Storage, parcel: Path) -> None:
    """Take a parcel in, and note what it holds: nothing else of this name is ever approved."""
    sender, job = split_key(parcel.name)
    owner = storage.config.current_user_email
    target = storage.config.get_job_submission_dir(owner, sender, job)
    if not target.exists():  # else a pass before this one ended before it emptied the mailbox
        if storage.log.last(parcel.name):
            raise ValueError("a job of this name has been here: choose another name")
        _take_in(site, storage, parcel, target)
    if not storage.log.last(parcel.name):
        storage.log.add("receive", parcel.name, fingerprint(manifest(target)))


def _take_in(site: Site, storage: Storage, parcel: Path, target: Path) -> None:
    """Copy a parcel aside, look at it, and move it in: a power cut leaves all of it or nothing."""
    sender, job = split_key(parcel.name)
    owner = storage.config.current_user_email
    fresh = site.var / ".incoming"
    discard(fresh, site.mailbox.parent)
    copy_plain(parcel, fresh, durable=True)
    _check_identity(fresh / "config.yaml", {"name": job, "submitted_by": sender,
                                            "datasite_email": owner})  # fmt: skip
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh.rename(target)
    sync(target.parent)
    try:
        storage.read_submission(storage.find_submission_ref(owner, job, sender))
    except Exception as error:
        discard(target, site.mailbox.parent)
        raise ValueError(f"PySyft cannot read its config.yaml: {error}") from None


def _check_identity(config: Path, expected: dict[str, str]) -> None:
    """Refuse a job that says to be another one, or from or for somebody else.

    PySyft itself goes by the path; a job that contradicts it is replayed or a forgery.
    """
    if config.stat().st_size > MAX_CONFIG:
        raise ValueError(f"its config.yaml is larger than {MAX_CONFIG >> 10} KiB")
    try:
        said = yaml.safe_load(config.read_bytes())
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"PySyft cannot read its config.yaml: {error}") from None
    if not isinstance(said, dict):
        raise ValueError("PySyft cannot read its config.yaml: it is no table")
    for field, value in expected.items():
        if field == "name" and field not in said:
            raise ValueError("PySyft cannot read its config.yaml: it has no name")
        if (other := said.get(field, value)) != value:
            raise ValueError(f"its config.yaml says {field} {other!r}, and this is {value!r}")


def damaged(storage: Storage) -> dict[str, Path]:
    """Return by key the jobs in the inbox that cannot be read any more, after a power cut."""
    found = {}
    for ref in storage.iter_submission_refs(storage.config.current_user_email):
        try:
            storage.read_submission(ref)
        except Exception:  # whatever YAML and PySyft's models make of a torn file
            found[f"{ref.ds_email}:{ref.job_name}"] = storage.submission_dir(ref)
    return found


def remove(site: Site, parcels: Iterable[Path]) -> None:
    """Empty the mailbox, whatever lies in it, and what a gate that was cut off has left beside it.

    A leftover would wake the path unit again and again.
    """
    for parcel in parcels:
        discard(parcel, site.mailbox.parent)
    for parcel in site.mailbox.parent.glob(".*"):
        with contextlib.suppress(OSError):
            if time.time() - parcel.lstat().st_mtime > STALE_SECONDS:
                discard(parcel, site.mailbox.parent)


def discard(path: Path, aside: Path) -> None:
    """Delete whatever lies there, of any depth; what resists is put aside. Never raises."""
    subprocess.run(["rm", "-rf", "--", path], capture_output=True, check=False)
    with contextlib.suppress(OSError):
        path.rename(aside / f".{secrets.token_hex(8)}")


def copy_plain(
    source: Path,
    target: Path,
    limit: int = MAX_BYTES,
    most: int | None = None,
    durable: bool = False,
) -> None:
    """Copy plain files out of a folder that another account can still write.

    No links are followed and no devices opened; `target` must be new. On error it is removed.
    `durable` has the disk hold each file before this returns.

    Raises ValueError for a link, a device, more than `limit` bytes or `most` entries or a folder
    that is too deep, FileExistsError, OSError.
    """
    if source.is_symlink() or not source.is_dir():
        raise ValueError("it is no folder")
    target.mkdir(parents=True)
    seen = 0
    try:
        for folder, folders, files, handle in os.fwalk(source, follow_symlinks=False):
            relative = Path(folder).relative_to(source)
            seen += len(folders) + len(files)
            if len(relative.parts) > MAX_DEPTH or (most is not None and seen > most):
                raise ValueError(f"it is deeper than {MAX_DEPTH} folders or has too many files")
            for name in folders:
                if stat.S_ISLNK(os.stat(name, dir_fd=handle, follow_symlinks=False).st_mode):
                    raise ValueError(f"{name!r} is a link")
                (target / relative / name).mkdir()
            for name in files:
                content = _read_plain(name, handle, limit)
                limit -= len(content)
                (target / relative / name).write_bytes(content)
                if durable:
                    sync(target / relative / name)
    except BaseException:
        shutil.rmtree(target)
        raise


def _read_plain(name: str, folder: int, limit: int) -> bytes:
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except OSError as error:
        raise ValueError(f"{name!r} is no plain file: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError(f"{name!r} is no plain file")
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise ValueError("it is too large")
    return content
