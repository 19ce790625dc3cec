"""A card that is written and read back, past what the kernel caches of it."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
from pathlib import Path
from typing import Self

from device import Refused

# ioctl_list(2): forget what is cached of a disk; read its partitions anew.
BLKFLSBUF, BLKRRPART = 0x1261, 0x125F
# O_DIRECT wants whole sectors, of which the largest are so long.
SECTOR = 4096


class Failed(Exception):
    """The card, or its reader, did not do it."""


class Card:
    """A disk, or a file with the size of one, that nobody can mount while it is held."""

    def __init__(self, path: Path) -> None:
        """Take it. Raises Refused, for a disk also where it is mounted."""
        self.path = path
        flags = os.O_RDWR | (os.O_EXCL if path.is_block_device() else 0)
        for direct in (os.O_DIRECT, 0):  # which not every file system can do
            try:
                self.handle = os.open(path, flags | direct)
                return
            except OSError as error:
                if not direct or error.errno != 22:
                    raise Refused(f"{path}: {error.strerror}. Nothing was written.") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.handle)

    def size(self) -> int:
        """Bytes of it."""
        with self.path.open("rb") as file:
            return file.seek(0, os.SEEK_END)

    def put(self, block: memoryview) -> None:
        """Write a block behind the last one. Raises OSError."""
        flags = fcntl.fcntl(self.handle, fcntl.F_GETFL)
        if len(block) % SECTOR:  # the end of the image, which O_DIRECT does not take
            fcntl.fcntl(self.handle, fcntl.F_SETFL, flags & ~os.O_DIRECT)
        sent = 0
        while sent < len(block):
            sent += os.write(self.handle, block[sent:])
        fcntl.fcntl(self.handle, fcntl.F_SETFL, flags)

    def forget(self) -> None:
        """Forget what the kernel has cached of it."""
        if self.path.is_block_device():
            with contextlib.suppress(OSError):
                fcntl.ioctl(self.handle, BLKFLSBUF)
        os.posix_fadvise(self.handle, 0, 0, os.POSIX_FADV_DONTNEED)

    def read_table(self) -> None:
        """Have the kernel see the partitions that are there now."""
        with contextlib.suppress(OSError):
            fcntl.ioctl(self.handle, BLKRRPART)

    def get(self, into: mmap.mmap, offset: int, count: int) -> None:
        """Read so many bytes. Raises Failed with the offset of the first that it has not."""
        # Whole sectors, and none behind them: what is not the image's need not be readable.
        end = step = -(-count // SECTOR) * SECTOR
        got = 0
        with memoryview(into) as view:
            while got < count:
                part = view[got : min(got + step, end)]
                try:
                    more = os.preadv(self.handle, [part], offset + got)
                except OSError as error:
                    if step > SECTOR:
                        step = SECTOR  # one by one, to find the first that cannot be read
                        continue
                    raise Failed(
                        f"{self.path} cannot be read at byte {offset + got}: {error.strerror}."
                        " The card is worn out: take another one."
                    ) from None
                if not more:
                    raise Failed(f"{self.path} ends at byte {offset + got}.")
                got += more
