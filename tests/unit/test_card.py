"""Writing a card: what is refused before anything is written, and what is found afterwards."""

from __future__ import annotations

import errno
import hashlib
import lzma
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

FILES = Path(__file__).parents[2] / "roles" / "card" / "files"
PROGRAM = FILES / "write.py"
sys.path.insert(0, str(FILES))
import write  # noqa: E402
from card import SECTOR, Card, Failed  # noqa: E402
from device import Refused  # noqa: E402
from image import BLOCK, Image  # noqa: E402

ARM64, ARM32, PC = (2, 183), (1, 40), (2, 62)
SIZE = 20 << 20


def elf(kind: tuple[int, int]) -> bytes:
    """The first bytes of a program, elf(5)."""
    return b"\x7fELF" + bytes([kind[0], 1, 1]) + bytes(9) + struct.pack("<HH", 2, kind[1])


def content(*kinds: tuple[int, int], size: int = SIZE) -> bytearray:
    """A card's image: a table with a FAT partition at 1 MiB, and programs in the second."""
    data = bytearray(os.urandom(size))
    data[446:510] = struct.pack("<4xB3xII", 0x0C, 2048, 12288) + bytes(48)
    data[510:512] = b"\x55\xaa"
    for n, kind in enumerate(kinds or (ARM64, ARM64)):
        at = (8 << 20) + n * 8192
        data[at : at + 20] = elf(kind)
    return data


def quiet(*_: object) -> None:
    """Tell nobody how far it is."""


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, PROGRAM, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


class Table:
    """An image with its checksum beside it, and a card."""

    def __init__(self, folder: Path) -> None:
        self.image, self.card = folder / "os.img", folder / "card"
        self.card.write_bytes(bytes(SIZE + 4096))

    def lay(self, data: bytes, name: str = "os.img") -> Path:
        self.image = self.image.with_name(name)
        self.image.write_bytes(data)
        self.note(hashlib.sha256(data).hexdigest())
        return self.image

    def note(self, digest: str) -> None:
        Path(f"{self.image}.sha256").write_text(f"{digest}  {self.image.name}\n")

    def write(self, *more: str | Path) -> subprocess.CompletedProcess[str]:
        return run("write", self.image, self.card, *more)

    def refused(self, *words: str, more: tuple[str, ...] = ()) -> None:
        before = self.card.read_bytes()
        done = self.write(*more)
        assert done.returncode == 1, done.stdout
        for word in words:
            assert word in done.stderr, done.stderr
        assert done.stderr.count("\n") == 1
        assert self.card.read_bytes() == before


def with_fat(table: Table) -> bytes:
    """An image whose first partition can hold files."""
    plain = table.image.with_name("plain.img")
    plain.write_bytes(content())
    fat = ["mformat", "-i", f"{plain}@@1M", "-T", "12288", "-h", "16", "-s", "32", "::"]
    subprocess.run(fat, check=True)
    return plain.read_bytes()


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(tmp_path)


@pytest.mark.parametrize("name", ["os.img", "os.img.xz"])
@pytest.mark.parametrize("odd", [0, 512])
def test_the_card_has_the_bytes_of_the_image(table: Table, name: str, odd: int) -> None:
    data = bytes(content(size=SIZE + odd))
    table.lay(lzma.compress(data, preset=0) if name.endswith("xz") else data, name)
    done = table.write()
    assert done.returncode == 0, done.stderr
    assert f"{len(data)} bytes of {name}, read back and compared" in done.stdout
    assert table.card.read_bytes() == data + bytes(4096 - odd)


def test_a_checksum_may_be_given(table: Table) -> None:
    data = bytes(content())
    table.lay(data)
    Path(f"{table.image}.sha256").unlink()
    table.refused("is not known", "-e sha256=")
    assert table.write("--sha256", hashlib.sha256(data).hexdigest().upper()).returncode == 0


def test_a_wrong_checksum_is_refused(table: Table) -> None:
    table.lay(bytes(content()))
    table.note("0" * 64)
    table.refused("not 0000", "Download it again")


def test_a_cut_xz_is_refused_whatever_its_checksum(table: Table) -> None:
    packed = lzma.compress(bytes(content()), preset=0)
    for cut in (len(packed) // 2, len(packed) - 4):
        table.lay(packed[:cut], "os.img.xz")
        table.refused("is cut off", "Download it again")


def test_a_damaged_xz_is_refused(table: Table) -> None:
    packed = bytearray(lzma.compress(bytes(content()), preset=0))
    packed[len(packed) // 2] ^= 1
    table.lay(packed, "os.img.xz")
    table.refused("is damaged")


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        ((ARM32, ARM32, ARM64), "for 32 bits: 2 programs, and 1 for 64 bits"),
        ((PC, PC), "for another processor"),
    ],
)
def test_an_image_that_no_64_bit_pi_runs_is_refused(
    table: Table, kinds: tuple[tuple[int, int], ...], words: str
) -> None:
    table.lay(bytes(content(*kinds)))
    table.refused(words, "(64-bit)")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (bytes(1 << 20), "no partitions"),
        (b"PK\3\4" + bytes(600), "unzip"),
        (b"\x1f\x8b" + bytes(600), "gunzip"),
    ],
    ids=["empty", "zeros", "zip", "gzip"],
)
def test_what_is_no_image_is_refused(table: Table, data: bytes, words: str) -> None:
    table.lay(data)
    table.refused(words)


def test_a_card_smaller_than_the_image_is_refused(table: Table) -> None:
    table.lay(bytes(content(size=SIZE + 8192)))
    table.refused(f"has {SIZE + 4096} bytes, and the image {SIZE + 8192}")


def test_what_is_not_there_is_told(table: Table, tmp_path: Path) -> None:
    table.refused("os.img: No such file")
    assert "/dev/none: No such file" in run("look", "/dev/none").stderr
    assert "neither a disk nor a file" in run("look", tmp_path).stderr


def test_a_card_that_gives_other_bytes_back_is_found_with_the_first_of_them(table: Table) -> None:
    table.lay(bytes(content()))
    image = Image(table.image)
    with Card(table.card) as card:
        write.write(image, card, SIZE, quiet)
        with table.card.open("r+b") as file:
            for at in (BLOCK + 70_001, 2 * BLOCK):
                file.seek(at)
                byte = file.read(1)[0]
                file.seek(at)
                file.write(bytes([byte ^ 0xFF]))
        with pytest.raises(Failed, match=f"first at byte {BLOCK + 70_001} "):
            write.compare(image, card, SIZE, quiet)


@pytest.mark.parametrize("name", ["os.img", "os.img.xz"])
def test_an_image_that_cannot_be_read_any_more_is_not_the_cards_fault(
    table: Table, name: str
) -> None:
    data = bytes(content())
    table.lay(lzma.compress(data, preset=0) if name.endswith("xz") else data, name)
    image = Image(table.image)
    file = image.file

    class Dying:
        """A disk that gives an error after some of it."""

        def seek(self, offset: int) -> int:
            return file.seek(offset)

        def read(self, size: int = -1) -> bytes:
            buffer = bytearray(size)
            return bytes(buffer[: self.readinto(buffer)])

        def readinto(self, buffer: bytearray) -> int:
            if file.tell() > SIZE // 2:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return file.readinto(buffer)

    image.file = Dying()  # type: ignore[assignment]
    for work in (write.write, write.compare):
        with (
            Card(table.card) as card,
            pytest.raises(Refused, match=f"{name} cannot be read: Input"),
        ):
            work(image, card, SIZE, quiet)


def test_a_card_that_changes_between_writing_and_reading_is_found(table: Table) -> None:
    table.lay(bytes(content()))
    image, steps = Image(table.image), []

    def tell(step: str, done: int, of: int) -> None:
        steps.append((step, done, of))
        if step == "writing" and done == of:  # as a card that lies about what it has taken
            with table.card.open("r+b") as file:
                file.seek(12345)
                file.write(b"lost")

    with Card(table.card) as card:
        write.write(image, card, SIZE, tell)
        with pytest.raises(Failed, match=r"first at byte 1234[5-8] "):
            write.compare(image, card, SIZE, tell)
    assert steps[-1] == ("writing", SIZE, SIZE)


class Worn:
    """A card whose reader gives an error where a read of so many bytes touches one of these."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *bad: int, least: int = 0) -> None:
        self.bad, self.least, self.reads, self.preadv = bad, least, 0, os.preadv
        monkeypatch.setattr(os, "preadv", self.read)

    def read(self, handle: int, into: list[memoryview], offset: int) -> int:
        self.reads += 1
        assert self.reads < 3 * BLOCK // SECTOR, "it reads for ever"
        size = len(into[0])
        if size >= self.least and any(offset <= at < offset + size for at in self.bad):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return self.preadv(handle, into, offset)


def test_a_card_that_cannot_be_read_is_told_with_the_first_bad_sector(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    table.lay(bytes(content()))
    image, at = Image(table.image), BLOCK + 5 * SECTOR
    Worn(monkeypatch, at + 70, 2 * BLOCK)
    with Card(table.card) as card:
        write.write(image, card, SIZE, quiet)
        with pytest.raises(Failed, match=f"cannot be read at byte {at}: Input/output error"):
            write.compare(image, card, SIZE, quiet)


@pytest.mark.parametrize(
    ("bad", "least"),
    [(BLOCK + 5 * SECTOR, 2 * SECTOR), (SIZE + SECTOR, 0)],
    ids=["passing", "behind the image"],
)
def test_an_error_that_passes_or_is_not_of_the_image_is_no_fault(
    table: Table, monkeypatch: pytest.MonkeyPatch, bad: int, least: int
) -> None:
    table.lay(bytes(content()))
    table.card.write_bytes(bytes(SIZE + 4 * SECTOR))
    image = Image(table.image)
    Worn(monkeypatch, bad, least=least)
    with Card(table.card) as card:
        write.write(image, card, SIZE, quiet)
        write.compare(image, card, SIZE, quiet)


def test_an_image_that_changes_under_way_is_told(table: Table) -> None:
    table.lay(bytes(content()))
    image = Image(table.image)
    with Card(table.card) as card:
        write.write(image, card, SIZE, quiet)
        os.utime(table.image, ns=(1, 1))
        with pytest.raises(Failed, match="changed while it was written"):
            write.compare(image, card, SIZE, quiet)


def test_a_full_disk_is_told_with_its_place(table: Table) -> None:
    table.lay(bytes(content()))
    full = r"/dev/full took no more at byte 0: No space left"
    with Card(Path("/dev/full")) as card, pytest.raises(Failed, match=full):
        write.write(Image(table.image), card, SIZE, quiet)


def test_first_boot_files_are_on_the_cards_own_fat(table: Table, tmp_path: Path) -> None:
    table.lay(with_fat(table))
    folder = tmp_path / "pi1"
    folder.mkdir()
    (folder / "user-data").write_text("#cloud-config\nhostname: pi1\n")
    (folder / "meta-data").write_text("instance-id: one\n")
    (folder / "notes").write_text("of the owner")
    for _ in range(2):
        done = table.write("--first-boot", folder)
        assert done.returncode == 0, done.stderr
    read = ["mtype", "-i", f"{table.card}@@1M", "::/user-data"]
    assert subprocess.check_output(read) == b"#cloud-config\nhostname: pi1\n"
    there = subprocess.check_output(["mdir", "-b", "-i", f"{table.card}@@1M"], text=True)
    assert there.split() == ["::/user-data", "::/meta-data"]


def test_a_node_without_first_boot_files_is_told_before_anything_is_written(
    table: Table, tmp_path: Path
) -> None:
    table.lay(bytes(content()))
    (tmp_path / "notes").touch()
    for folder in (tmp_path, tmp_path / "none"):
        table.refused("has no first-boot files", more=("--first-boot", str(folder)))


def test_a_card_without_a_fat_says_what_to_do(table: Table, tmp_path: Path) -> None:
    (tmp_path / "meta-data").write_text("instance-id: one\n")
    data = content()
    data[450] = 0x83
    table.lay(bytes(data))
    done = table.write("--first-boot", tmp_path)
    assert done.returncode == 1 and "copy the first-boot files there by hand" in done.stderr


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of the kernel's, over a file."""
    if os.geteuid() != 0 or not Path("/dev/loop-control").exists():
        pytest.skip("only root attaches a loop device, where the kernel has them")
    (tmp_path / "medium").write_bytes(bytes(SIZE))
    attach = ["losetup", "--find", "--show", "--partscan", tmp_path / "medium"]
    done = subprocess.run(attach, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(done.stderr)
    yield Path(done.stdout.strip())
    subprocess.run(["losetup", "--detach", done.stdout.strip()], check=True)


def test_a_disk_of_the_kernel_is_written_and_read_past_the_cache(table: Table, disk: Path) -> None:
    data = bytes(content())
    table.lay(data)
    table.card = disk
    done = table.write()
    assert done.returncode == 0, done.stderr
    assert disk.read_bytes() == data
    # The medium changes behind the kernel's back: what is cached must not be believed.
    image = Image(table.image)
    with (disk.parent / disk.name).open("rb") as cached:
        cached.read()
    medium = next(Path("/sys/block", disk.name).glob("loop/backing_file")).read_text().strip()
    with open(medium, "r+b") as file:
        file.seek(5 << 20)
        file.write(b"gone")
    with Card(disk) as card, pytest.raises(Failed, match=f"first at byte {5 << 20} "):
        write.compare(image, card, SIZE, quiet)


def test_nobody_takes_a_disk_between_its_writing_and_its_reading(table: Table, disk: Path) -> None:
    table.lay(with_fat(table))
    folder = table.image.parent
    (folder / "user-data").write_text("#cloud-config\n")
    image = Image(table.image)
    with Card(disk) as card:
        write.write(image, card, SIZE, quiet)
        with pytest.raises(OSError, match="busy"):  # as mount(8) would find it
            os.open(disk, os.O_RDONLY | os.O_EXCL)
        table.card = disk
        assert "Nothing was written" in table.write().stderr
        write.compare(image, card, SIZE, quiet)
        write.add([folder / "user-data"], card)


def test_a_mounted_disk_is_refused(table: Table, disk: Path, tmp_path: Path) -> None:
    subprocess.run(["mkfs.ext4", "-q", disk], check=True)
    (tmp_path / "mnt").mkdir()
    # Read only: what is mounted to be written has its own changes.
    if subprocess.run(["mount", "-o", "ro", disk, tmp_path / "mnt"], check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        table.lay(bytes(content()))
        table.card = disk
        table.refused("is in use", str(tmp_path / "mnt"))
    finally:
        subprocess.run(["umount", tmp_path / "mnt"], check=True)
