"""The SD card of a board: built once per recipe, kept in the cache.

Debian's packages configure themselves, so programs for arm64 run here while the card is built.
The kernel starts such a program with qemu where binfmt_misc says so. Those entries belong to the
whole machine, so this file makes none there: it uses what is there, or, since Linux 6.7, a
binfmt_misc of the build's own user namespace, which is gone with it.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "board"
RECIPE = ROOT / "board" / "image.sh"
# Magic and mask of a little-endian ELF file for AArch64; P, O, F as in the kernel's binfmt-misc.
QEMU = "/usr/bin/qemu-aarch64-static"
ENTRY = (
    r":aarch64:M::\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
    r":\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
    f":{QEMU}:OCF"
)
BINFMT = Path("/proc/sys/fs/binfmt_misc")
# The first Linux with a binfmt_misc in each user namespace.
OWN_ENTRIES = (6, 7)
# A process namespace ends with its first process, and all of the build with it.
ISOLATE = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL"]
OWN_BINFMT = f"""
mount -t binfmt_misc binfmt {BINFMT}
printf %s '{ENTRY}' > {BINFMT}/register
"""
OWN_SHM = """
mount -t proc proc /proc
mount -t tmpfs shm /dev/shm
"""
# Standard input ends with this process, however that ends.
RUN = """
exec 3<&0
"$@" < /dev/null & build=$!
(read -r _ <&3 || kill -KILL $build) &
wait $build
"""


class ImageError(Exception):
    """What cannot be built, and what to do about it."""


@dataclass(frozen=True)
class Image:
    """What qemu needs to boot a board: kernel, initial RAM disk, device tree, card."""

    folder: Path

    @property
    def card(self) -> Path:
        """The SD card: a FAT boot partition and ext4. Copy it; a board writes to its card."""
        return self.folder / "card.img"


def find_or_build(suite: str, log: Path) -> Image:
    """Return the image of a Debian release, built when its recipe has changed.

    Raises ImageError when it cannot be built; `log` has what mmdebstrap said.
    """
    key = hashlib.sha256(RECIPE.read_bytes()).hexdigest()[:12]
    folder = CACHE / f"{suite}-{key}"
    if not folder.exists():
        if why := obstacle():
            raise ImageError(why)
        part = folder.with_suffix(".part")
        with log.open("w") as file:
            if part.exists():  # of a build that broke off, with accounts that only it has
                run_arm64(["rm", "-rf", str(part)], file.fileno())
            part.mkdir(parents=True)
            status = run_arm64([str(RECIPE), suite, str(part)], file.fileno())
        if status:
            last = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise ImageError(f"{RECIPE.name} could not build the card (see {log}):\n{last}")
        part.rename(folder)
    return Image(folder)


def has_entry() -> bool:
    """Whether this machine starts programs of arm64 by itself."""
    return any(BINFMT.glob("*aarch64*"))


def obstacle() -> str:
    """Why no program of arm64 can run here, and what helps; empty where one can."""
    release = tuple(int(n) for n in re.findall(r"\d+", platform.release())[:2])
    if has_entry() or release >= OWN_ENTRIES:
        return ""
    return (
        f"Linux {platform.release()} has no binfmt_misc for a user namespace (6.7 has), and this "
        "machine no entry for arm64. Debian's package for one is binfmt-support, in Debian 13 "
        "qemu-user-binfmt."
    )


def run_arm64(command: list[str], log: int) -> int:
    """Run a command as root of a place where arm64 programs run; return its exit status.

    What it starts and mounts is its own, and ends with it; so is its /dev/shm.
    """
    inside = OWN_SHM + ("" if has_entry() else OWN_BINFMT) + RUN
    accounts = os.geteuid() == 0 and not has_entry()
    if os.geteuid() == 0:
        user = ["--user"] if accounts else []
    else:
        user = ["--user", "--map-root-user", "--map-auto"]
    child = subprocess.Popen(
        [*ISOLATE, *user, "sh", "-euc", f"read -r _\n{inside}", "sh", *command],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
    )
    assert child.stdin is not None
    try:
        if accounts:
            _wait_for_namespace(child.pid)
            for kind in ("uid_map", "gid_map"):
                Path(f"/proc/{child.pid}/{kind}").write_text("0 0 65536")
        child.stdin.write(b"go\n")
        child.stdin.flush()
        child.wait()
    finally:
        child.stdin.close()
        child.terminate()
        child.wait()
    return child.returncode


def _wait_for_namespace(pid: int) -> None:
    """Wait until unshare has done its one thing, and so can be given accounts."""
    ours = Path("/proc/self/ns/user").readlink()
    while Path(f"/proc/{pid}/ns/user").readlink() == ours:
        time.sleep(0.01)
