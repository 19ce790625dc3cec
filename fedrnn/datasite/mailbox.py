"""From the mailbox, which the gate fills, into PySyft's inbox, which only the owner writes."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path

from syft_job import SyftJobConfig

from fedrnn.datasite.layout import Site, split_key

MAX_BYTES = 8 << 20


def receive(site: Site, jobs: SyftJobConfig, parcels: Iterable[Path]) -> list[str]:
    """Copy parcels into the inbox of their sender; return one line per parcel that was refused.

    Only a job of a new name arrives: nothing that was reviewed is ever written again.
    """
    refused = []
    known = site.config()["researchers"]
    for parcel in parcels:
        try:
            sender, job = split_key(parcel.name)
            if sender not in known:
                raise ValueError(f"{sender} is no researcher of this datasite")
            target = jobs.get_job_submission_dir(jobs.current_user_email, sender, job)
            copy_plain(parcel, target)
        except (OSError, ValueError) as error:
            refused.append(f"refused {parcel.name!r}: {error}")
    return refused


def remove(parcels: Iterable[Path]) -> None:
    """Empty the mailbox, whatever lies in it.

    A leftover would wake the path unit again and again, until systemd gives up.
    """
    for parcel in parcels:
        if parcel.is_dir() and not parcel.is_symlink():
            shutil.rmtree(parcel)
        else:
            parcel.unlink()


def copy_plain(source: Path, target: Path, limit: int = MAX_BYTES) -> None:
    """Copy plain files out of a folder that another account can still write.

    No links are followed and no devices opened; `target` must be new. On error it is removed.
    Raises ValueError for a link, a device or more than `limit` bytes, FileExistsError, OSError.
    """
    if source.is_symlink() or not source.is_dir():
        raise ValueError("it is no folder")
    target.mkdir(parents=True)
    try:
        for folder, folders, files, handle in os.fwalk(source, follow_symlinks=False):
            inner = target / Path(folder).relative_to(source)
            for name in folders:
                if stat.S_ISLNK(os.stat(name, dir_fd=handle, follow_symlinks=False).st_mode):
                    raise ValueError(f"{name!r} is a link")
                (inner / name).mkdir()
            for name in files:
                content = _read_plain(name, handle, limit)
                limit -= len(content)
                (inner / name).write_bytes(content)
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
