"""Which disks may be overwritten by a card."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

FILES = Path(__file__).parents[2] / "roles" / "card" / "files"
sys.path.insert(0, str(FILES))
from device import Refused, judge, look  # noqa: E402

# What sysfs says of a reader on USB with a card of two partitions.
READER = {
    "size": "62333952", "ro": "0", "removable": "1", "dev": "8:16", "device/vendor": "Generic",
    "device/model": "STORAGE DEVICE", "sdb1/partition": "1", "sdb1/dev": "8:17",
    "sdb2/partition": "2", "sdb2/dev": "8:18",
}  # fmt: skip
ROOT_DISK = "36 1 254:1 / / rw - ext4 /dev/vda1 rw\n"


def judged(tmp_path: Path, mounts: str = ROOT_DISK, swaps: str = "", **different: str) -> str:
    disk, proc = tmp_path / "sdb", tmp_path / "proc"
    for name, text in {**READER, **different}.items():
        file = disk / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
    (proc / "self").mkdir(parents=True)
    (proc / "self/mountinfo").write_text(mounts)
    (proc / "swaps").write_text(f"Filename\tType\n{swaps}")
    return judge(Path("/dev/sdb"), disk, proc)


def test_a_card_in_a_reader_may_be_overwritten(tmp_path: Path) -> None:
    said = judged(tmp_path)
    assert said == "/dev/sdb (Generic STORAGE DEVICE, 31.9 GB, 2 partitions)"


def test_so_may_a_card_in_a_reader_of_the_boards_own_bus(tmp_path: Path) -> None:
    assert "SD64G" in judged(tmp_path, removable="0", device__type="SD", device__name="SD64G",
                             device__vendor="", device__model="")  # fmt: skip


@pytest.mark.parametrize(
    ("different", "words"),
    [
        ({"removable": "0"}, "no removable disk"),
        ({"removable": "0", "device__type": "MMC"}, "no removable disk"),
        ({"ro": "1"}, "write-protected"),
        ({"size": "0"}, "no card in it"),
        ({"partition": "1"}, "one partition"),
        ({"mounts": f"{ROOT_DISK}40 1 8:17 / /media/me/bootfs rw - vfat /dev/sdb1 rw\n"},
         "in use: /media/me/bootfs"),
        ({"mounts": "36 1 0:25 / / rw - btrfs /dev/sdb2 rw\n"}, "system's own disk"),
        ({"mounts": f"{ROOT_DISK}40 1 8:17 / /boot/firmware rw - vfat /dev/sdb1 rw\n"},
         "system's own disk"),
        ({"swaps": "/dev/sdb2  partition\n"}, "swap on /dev/sdb2"),
        ({"sdb2__holders__dm-0__dev": "253:0"}, "sdb2 is part of dm-0"),
    ],
)  # fmt: skip
def test_any_other_disk_may_not(tmp_path: Path, different: dict[str, str], words: str) -> None:
    with pytest.raises(Refused, match=words):
        judged(tmp_path, **different)


def test_the_disk_of_this_machine_is_not_offered() -> None:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        words = line.split()
        source = words[words.index("-") + 2]
        if words[4] == "/" and source.startswith("/dev/") and Path(source).is_block_device():
            with pytest.raises(Refused):
                look(Path(source))
            return
    pytest.skip("the root file system here is on no disk")
