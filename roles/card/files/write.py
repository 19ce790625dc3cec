"""Write an image onto a card, read it back, compare, and add the first-boot files.

    write.py look DEVICE                           # what would be overwritten, or why not
    write.py write IMAGE DEVICE [--sha256 HEX] [--first-boot FOLDER] [--progress FILE]

DEVICE is a removable disk, or a file with the size of one. Exit status 1 with one sentence if it
was refused or has failed. FILE, which must exist, holds our process and how far it is; who reads it
touches it, as watch.sh does, and where nobody does so any more, the writing ends.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import mmap
import os
import struct
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from card import Card, Failed
from device import Refused, look
from image import BLOCK, PART, Image, Tell, memory, wanted_sum
from settings import FILES

MEMCMP = ctypes.CDLL(None).memcmp
# Seconds after which nobody waits for the card any more.
PATIENCE = 120
# Partition types of a FAT that a Pi's firmware reads.
FAT = (0x0B, 0x0C, 0x0E)


class Progress:
    """How far it is: once a second, on a terminal or in a file."""

    def __init__(self, file: str) -> None:
        self.file, self.step, self.began, self.told = file, "", 0.0, 0.0
        self.touched, self.since = 0, 0.0
        self.say("beginning")

    def __call__(self, step: str, done: int, of: int) -> None:
        """Tell, if a second has passed or a step ends. Raises Failed where nobody listens."""
        now = time.monotonic()
        if step != self.step:
            self.step, self.began, self.told = step, now, 0.0
        if now - self.told < 1 and done < of:
            return
        self.told = now
        speed = done / max(now - self.began, 0.001)
        rest = f", {(of - done) / speed:.0f} s to go" if speed and done < of else ""
        self.say(f"{step} {100 * done // of}% ({done >> 20} MiB, {speed / 1e6:.0f} MB/s{rest})")

    def say(self, text: str) -> None:
        """Leave a line for who watches."""
        if self.file:
            self.listen()
            # Over the line before, and as long: who reads meanwhile never finds it empty.
            with contextlib.suppress(OSError), open(self.file, "r+") as file:  # noqa: PTH123
                file.write(f"{os.getpid()} {text:79}\n")
        elif sys.stderr.isatty():
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)

    def listen(self) -> None:
        """See whether the file was touched of late. Raises Failed if not."""
        with contextlib.suppress(OSError):  # it is gone, and so is who made it
            if (touched := os.stat(self.file).st_atime_ns) != self.touched:  # noqa: PTH116
                self.touched, self.since = touched, time.monotonic()
        if time.monotonic() - self.since > PATIENCE:
            raise Failed(f"Nobody has touched {self.file} for {PATIENCE} s: not written further.")


def write(image: Image, card: Card, size: int, tell: Tell) -> None:
    """Write the content of an image and wait until the card has it. Raises Failed."""
    done = 0
    try:
        for buffer, count in image.content(image.file, PART):
            card.put(memoryview(buffer)[:count])
            done += count
            tell("writing", done, size)
        os.fsync(card.handle)
    except OSError as error:
        raise Failed(
            f"{card.path} took no more at byte {done}: {error.strerror}. A card that was bought for"
            " larger than it is does so, too; take another one."
        ) from None


def compare(image: Image, card: Card, size: int, tell: Tell) -> None:
    """Read the card itself, not what is cached of it. Raises Failed with the first bad offset."""
    buffers, done = (memory(), memory()), 0
    card.forget()
    with ThreadPoolExecutor(1) as reader:
        # The next block is read while this one is compared.
        def ahead(number: int) -> Future[None]:
            offset = number * BLOCK
            count = max(0, min(BLOCK, size - offset))
            return reader.submit(card.get, buffers[number % 2], offset, count)

        coming = ahead(0)
        for number, (wanted, count) in enumerate(image.content(image.file, PART)):
            if done + count > size:
                break
            coming.result()
            coming, found = ahead(number + 1), buffers[number % 2]
            if (at := first_difference(wanted, found, count)) < count:
                raise Failed(
                    f"{card.path} gives other bytes back than were written, first at byte"
                    f" {done + at} ({found[at]:#04x} and not {wanted[at]:#04x}). The card is"
                    " worn out or no genuine one: take another. Its reader may be it, too."
                )
            done += count
            tell("comparing", done, size)
    if done != size or not image.same():
        raise Failed(f"{image.path} changed while it was written: run the same command again.")


def first_difference(one: mmap.mmap, other: mmap.mmap, count: int) -> int:
    """Index of the first byte in which two blocks differ, `count` where they are the same."""
    block = ctypes.c_char * BLOCK
    # Python would copy what it compares.
    if MEMCMP(block.from_buffer(one), block.from_buffer(other), ctypes.c_size_t(count)) == 0:
        return count
    return next(at for at in range(count) if one[at] != other[at])


def boot_partition(device: Path) -> int:
    """Where the first FAT partition of a card begins, in bytes. Raises Failed."""
    with device.open("rb") as file:
        table = file.read(512)[446:510]
    for entry in struct.iter_unpack("<4xB3xII", table):
        if entry[0] in FAT:
            return int(entry[1]) * 512
    raise Failed(f"{device} has no FAT partition: copy the first-boot files there by hand.")


def files_in(folder: Path) -> list[Path]:
    """The first-boot files of a node, and nothing else that lies there. Raises Refused."""
    if files := [folder / name for name in FILES if (folder / name).is_file()]:
        return files
    raise Refused(f"{folder} has no first-boot files. Nothing was written.")


def add(files: list[Path], card: Card) -> None:
    """Put files onto the boot partition, and read them back from the card. Raises Failed."""
    place = f"{card.path}@@{boot_partition(card.path)}"
    # Images are made with more geometries than mtools likes.
    environment = {**os.environ, "MTOOLS_SKIP_CHECK": "1"}
    copy = ["mcopy", "-o", "-i", place, *map(str, files), "::/"]
    done = subprocess.run(copy, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"mcopy could not write the first-boot files: {done.stderr.strip()}")
    os.fsync(card.handle)
    card.forget()
    card.read_table()
    for file in files:
        read = ["mtype", "-i", place, f"::/{file.name}"]
        done_ = subprocess.run(read, env=environment, capture_output=True, check=False)
        if done_.stdout != file.read_bytes():
            raise Failed(f"{card.path} does not give {file.name} back as it was written.")


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("look").add_argument("device", type=Path)
    writing = commands.add_parser("write")
    writing.add_argument("image", type=Path)
    writing.add_argument("device", type=Path)
    writing.add_argument("--sha256", default="", help="default: from IMAGE.sha256")
    writing.add_argument("--first-boot", type=Path)
    writing.add_argument("--progress", default="")
    asked = parser.parse_args()
    try:
        what = look(asked.device)
        if asked.command == "look":
            print(what)
            return 0
        files = files_in(asked.first_boot) if asked.first_boot else []
        tell = Progress(asked.progress)
        image = Image(asked.image)
        size = image.check(wanted_sum(asked.image, asked.sha256), tell)
        with Card(asked.device) as card:
            if (room := card.size()) < size:
                raise Refused(
                    f"{asked.device} has {room} bytes, and the image {size}: a larger card."
                )
            write(image, card, size, tell)
            compare(image, card, size, tell)
            if files:
                add(files, card)
    except (Refused, Failed) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{asked.device} has the {size} bytes of {asked.image.name}, read back and compared.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
