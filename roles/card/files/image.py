"""The image of a card: plain or packed by xz, read once in full before anything is written."""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import lzma
import mmap
import os
import re
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from device import Refused

BLOCK = 8 << 20
XZ = b"\xfd7zXZ\0"
OTHERS = {
    b"PK\3\4": "a zip archive: unpack it with `unzip`",
    b"\x1f\x8b": "packed by gzip: unpack it with `gunzip`",
    b"\x28\xb5\x2f\xfd": "packed by zstd: unpack it with `unzstd`",
    b"BZh": "packed by bzip2: unpack it with `bunzip2`",
}
# ELF's names of processors, elf(5): class and machine.
ARM64, ARM32 = (2, 183), (1, 40)
# A file of every file system that a Pi boots from begins at a multiple of this.
PAGE = 4096
# What helps against a file that is not whole, before and after something was written.
AGAIN = "Download it again. Nothing was written."
PART = "The card has only a part of it: mend that and run the same command again."

Tell = Callable[[str, int, int], None]


class Hashed(io.RawIOBase):
    """A file that is hashed while it is read from its begin to its end."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.sum = file, hashlib.sha256()

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read as io.RawIOBase does."""
        count = self.file.readinto(buffer)  # type: ignore[attr-defined]
        self.sum.update(buffer[:count])
        return int(count)


class Image:
    """One image, opened once, so that all is said of the same file."""

    def __init__(self, path: Path) -> None:
        """Open it. Raises Refused for what is neither plain nor xz."""
        self.path = path
        try:
            self.file = path.open("rb", buffering=0)
        except OSError as error:
            raise Refused(f"{path}: {error.strerror}.") from None
        begin = self.file.read(8)
        self.packed = begin.startswith(XZ)
        for magic, what in OTHERS.items():
            if begin.startswith(magic):
                raise Refused(f"{path} is {what}; the checksum is then that of the unpacked file.")
        self.stamp = os.fstat(self.file.fileno())

    def content(self, file: BinaryIO, remedy: str) -> Iterator[tuple[mmap.mmap, int]]:
        """Yield the content from its begin, unpacked, through a reader of the file or the file.

        Raises Refused, with the remedy, if it breaks off.
        """
        try:
            self.file.seek(0)
            yield from blocks(unpack(file) if self.packed else file)
        except EOFError:
            raise Refused(f"{self.path} is cut off. {remedy}") from None
        except lzma.LZMAError as error:
            raise Refused(f"{self.path} is damaged ({error}). {remedy}") from None
        except OSError as error:
            raise Refused(f"{self.path} cannot be read: {error.strerror}. {remedy}") from None

    def check(self, sha256: str, tell: Tell) -> int:
        """Read all of it and return the bytes of its content.

        Raises Refused for another sum, for half a file, and for what no 64-bit Pi boots from.
        """
        hashed = Hashed(self.file)  # type: ignore[arg-type]
        file = io.BufferedReader(hashed, BLOCK) if self.packed else self.file
        size, programs = 0, dict.fromkeys((ARM64, ARM32), 0)
        for buffer, count in self.content(file, AGAIN):
            if not self.packed:
                hashed.sum.update(memoryview(buffer)[:count])
            if size == 0 and buffer[510:512] != b"\x55\xaa":
                raise Refused(f"{self.path} is no image of a card: it has no partitions.")
            for kind in programs_in(buffer, count):
                programs[kind] = programs.get(kind, 0) + 1
            size += count
            tell("checking", self.file.tell(), self.stamp.st_size)
        while hashed.read(BLOCK):
            pass
        if (found := hashed.sum.hexdigest()) != sha256:
            raise Refused(
                f"{self.path} has the SHA-256 {found}, not {sha256} as it should. {AGAIN}"
            )
        if size == 0:
            raise Refused(f"{self.path} is empty. {AGAIN}")
        others = {kind: count for kind, count in programs.items() if kind != ARM64}
        if max(others.values()) > programs[ARM64]:
            what = "for 32 bits" if others[ARM32] > programs[ARM64] else "for another processor"
            raise Refused(
                f"{self.path} is an image {what}: {max(others.values())} programs, and"
                f" {programs[ARM64]} for 64 bits of ARM. Neither torch nor PySyft exists for it:"
                " take Raspberry Pi OS Lite (64-bit), whose name has arm64."
            )
        return size

    def same(self) -> bool:
        """Whether the file is still the one that was opened."""
        now = os.fstat(self.file.fileno())
        return (now.st_size, now.st_mtime_ns) == (self.stamp.st_size, self.stamp.st_mtime_ns)


def unpack(file: BinaryIO) -> BinaryIO:
    """Return what is packed in a file of xz."""
    return lzma.LZMAFile(file)  # type: ignore[return-value]


def fill(file: io.RawIOBase | BinaryIO, buffer: memoryview) -> int:
    """Read until a buffer is full or the file ends; return the bytes."""
    count = 0
    while count < len(buffer) and (more := file.readinto(buffer[count:])):  # type: ignore[union-attr]
        count += more
    return count


def memory() -> mmap.mmap:
    """Return memory for a block, in huge pages if there are any: a disk reads twice as fast."""
    block = mmap.mmap(-1, BLOCK, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):
        block.madvise(mmap.MADV_HUGEPAGE)
    return block


def blocks(file: io.RawIOBase | BinaryIO) -> Iterator[tuple[mmap.mmap, int]]:
    """Yield a file block by block, with the bytes in each; the next is read meanwhile."""
    buffers = (memory(), memory())
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(fill, file, memoryview(buffers[0]))
        for number in itertools.count(1):
            if not (count := coming.result()):
                return
            coming = reader.submit(fill, file, memoryview(buffers[number % 2]))
            yield buffers[(number - 1) % 2], count


def programs_in(block: bytearray | mmap.mmap, count: int) -> list[tuple[int, int]]:
    """Class and machine of the programs that begin in a block of an image."""
    first = block[:count:PAGE]
    found = []
    at = first.find(0x7F)
    while at >= 0:
        head = block[at * PAGE : at * PAGE + 20]
        if head[:4] == b"\x7fELF" and len(head) == 20:
            found.append((head[4], struct.unpack_from("<H", head, 18)[0]))
        at = first.find(0x7F, at + 1)
    return found


def wanted_sum(path: Path, given: str) -> str:
    """The SHA-256 that an image should have: as given, or from the file beside it."""
    beside = Path(f"{path}.sha256")
    if not given and beside.exists():
        given = (beside.read_text().split() or [""])[0]
    if not re.fullmatch(r"[0-9a-fA-F]{64}", given):
        raise Refused(
            f"The SHA-256 of {path} is not known. Give it with -e sha256=…, as the page that the"
            f" image is from has it, or put that page's file {beside.name} beside the image."
        )
    return given.lower()
