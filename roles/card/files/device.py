"""Whether a disk may be overwritten: what the kernel tells of it. Nothing here writes."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

# What makes a disk the system's, when it is mounted there.
OF_SYSTEM = {"/", "/usr", "/var", "/home", "/boot", "/boot/efi", "/boot/firmware"}


class Refused(Exception):
    """What was found, and what to do instead; nothing was written."""


def look(path: Path) -> str:
    """Describe what would be overwritten, in words for people. Raises Refused."""
    if not shutil.which("mcopy"):
        raise Refused(
            "mcopy is not installed, which writes the first-boot files: `sudo apt-get install"
            " mtools`."
        )
    try:
        status = path.stat()
    except OSError as error:
        raise Refused(
            f"{path}: {error.strerror}. Is the card in its reader? See `lsblk`."
        ) from None
    if stat.S_ISREG(status.st_mode):
        return f"the file {path}, {status.st_size / 1e9:.1f} GB"
    if not stat.S_ISBLK(status.st_mode):
        raise Refused(f"{path} is neither a disk nor a file with a card's image. See `lsblk`.")
    number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    return judge(path, Path("/sys/dev/block", number).resolve(), Path("/proc"))


def judge(path: Path, disk: Path, proc: Path) -> str:
    """Describe a disk by its folder of sysfs(5). Raises Refused if it must not be overwritten."""
    if (disk / "partition").exists():
        raise Refused(f"{path} is one partition. Give the whole disk, /dev/{disk.parent.name}.")
    parts = sorted(entry.parent for entry in disk.glob("*/partition"))
    used = used_by([disk, *parts], proc)
    for point in used:
        if point in OF_SYSTEM:
            raise Refused(f"{path} is this system's own disk: it is mounted at {point}.")
    if used:
        raise Refused(
            f"{path} is in use: {', '.join(used)}. If it is the card, release it with"
            f" `umount {path}*`, and look once more with `lsblk`."
        )
    if said(disk / "ro") == "1":
        raise Refused(f"{path} is write-protected. A card has a small switch for it at its side.")
    if said(disk / "size") in ("", "0"):
        raise Refused(f"{path} has no card in it.")
    # A reader on the board's own bus calls no card removable; what is soldered there is an MMC.
    removable = said(disk / "removable") == "1" or said(disk / "device/type") == "SD"
    if not removable and not (disk / "loop/backing_file").exists():
        raise Refused(
            f"{path} is no removable disk, and only those are overwritten here. See `lsblk` for"
            " the card's name."
        )
    names = f"{said(disk / 'device/vendor')} {said(disk / 'device/model')}".split()
    name = " ".join(names) or said(disk / "device/name") or said(disk / "loop/backing_file")
    size = int(said(disk / "size")) * 512 / 1e9
    return f"{path} ({name or 'a card'}, {size:.1f} GB, {len(parts)} partitions)"


def said(file: Path) -> str:
    """What the kernel says in a file, nothing where there is none."""
    try:
        return file.read_text().strip()
    except OSError:
        return ""


def used_by(folders: list[Path], proc: Path) -> list[str]:
    """Where a disk and its partitions are mounted, or what else uses them; see proc(5)."""
    numbers = {said(folder / "dev") for folder in folders}
    names = {folder.name for folder in folders}
    used = []
    for line in said(proc / "self/mountinfo").splitlines():
        words = line.split()
        # btrfs has a number of its own there, and its disk is named behind the hyphen.
        source = words[words.index("-") + 2] if "-" in words else ""
        if words[2] in numbers or (source.startswith("/dev/") and Path(source).name in names):
            used.append(words[4])
    for line in said(proc / "swaps").splitlines()[1:]:
        if Path(line.split()[0]).name in names:
            used.append(f"swap on {line.split()[0]}")
    for folder in folders:
        used += [f"{folder.name} is part of {entry.name}" for entry in folder.glob("holders/*")]
    return sorted(set(used))
