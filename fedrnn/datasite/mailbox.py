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

from syft_job import SyftJobConfig
from syft_job.job_storage import JobStorage

from fedrnn.datasite.layout import CANCEL, MAX_BYTES, Site, split_key

MAX_DEPTH = 16
STALE_SECONDS = 600  # a gate lays a parcel down in far less


def contents(site: Site) -> tuple[list[Path], list[Path]]:
    """Return the parcels and the senders' notes to cancel, those that are there now.

    The notes are read first: the job of a note has been in the mailbox before it.
    """
    notes = sorted(site.mailbox.glob(f"*{CANCEL}"))
    parcels = sorted(p for p in site.mailbox.iterdir() if p.suffix != CANCEL)
    return parcels, notes


def receive(site: Site, jobs: SyftJobConfig, parcels: Iterable[Path]) -> dict[str, str]:
    """Copy parcels into the inbox of their sender; return what was refused, and why, by name.

    Only a job of a new name that PySyft can read arrives: nothing that was reviewed is ever
    written again, and nothing lies there that no owner can see.
    """
    refused = {}
    known = site.config()["researchers"]
    for parcel in parcels:
        try:
            sender, _ = split_key(parcel.name)
            if sender not in known:
                raise ValueError(f"{sender} is no researcher of this datasite")
            _receive(jobs, parcel)
        except Exception as error:  # one parcel never keeps another waiting
            refused[parcel.name] = str(error) or type(error).__name__
    return refused


def _receive(jobs: SyftJobConfig, parcel: Path) -> None:
    sender, job = split_key(parcel.name)
    owner = jobs.current_user_email
    target = jobs.get_job_submission_dir(owner, sender, job)
    copy_plain(parcel, target)
    try:
        storage = JobStorage(jobs)
        storage.read_submission(storage.find_submission_ref(owner, job, sender))
    except Exception as error:
        shutil.rmtree(target)
        raise ValueError(f"PySyft cannot read its config.yaml: {error}") from None


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


def copy_plain(source: Path, target: Path, limit: int = MAX_BYTES, most: int | None = None) -> None:
    """Copy plain files out of a folder that another account can still write.

    No links are followed and no devices opened; `target` must be new. On error it is removed.
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
