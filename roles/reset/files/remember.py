"""Note on the node what it was before the first role changed it, for playbooks/reset.yml.

Run as root with the swap file's path; prints where the note is. Once: a later run keeps it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

NOTE = Path("/opt/fedrnn/.before.json")
# What roles edit, as it was.
EDITED = (
    "/etc/hostname", "/etc/hosts", "/etc/fstab", "/etc/timezone", "/etc/default/locale",
    "/etc/dphys-swapfile", "/boot/firmware/cmdline.txt", "/boot/cmdline.txt",
)  # fmt: skip
# Folders that roles make where they are not there.
FOLDERS = (
    "/etc/systemd/journald.conf.d", "/etc/rpi/swap.conf.d", "/etc/rpi", "/etc/sysusers.d",
    "/etc/systemd/zram-generator.conf.d", "/etc/tmpfiles.d", "/usr/local/lib/systemd/system",
    "/usr/local/lib/systemd", "/etc/ssh/sshd_config.d", "/etc/apt/apt.conf.d",
)  # fmt: skip
# What role pysyft makes: an entry that was there before is not ours.
ACCOUNTS = ("fedrnn", "fedrnn-owner", "fedrnn-wire", "fedrnn-job")
UNITS = ("systemd-timesyncd.service", "dphys-swapfile.service", "zramswap.service", "tmp.mount")


def text_of(name: str) -> str | None:
    """The text of a file, None where there is none."""
    path = Path(name)
    return path.read_text(errors="surrogateescape") if path.is_file() else None


def printed(*command: str) -> str:
    """What a command prints, whatever its status."""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def swap_bytes(name: str) -> int | None:
    """The size of a swap file, None where there is none."""
    what = printed("blkid", "--probe", "--match-tag", "TYPE", "--output", "value", name)
    return Path(name).stat().st_size if what == "swap\n" else None


def main() -> None:
    """Write the note beside its place, and rename it there."""
    homes = [str(home) for home in (*Path("/home").glob("*"), Path("/root"))]
    listed = printed("dpkg-query", "-Wf", "${db:Status-Status} ${Package}\n").splitlines()
    zone = Path("/etc/localtime")
    note = {
        "hostname": os.uname().nodename,
        "files": {name: text_of(name) for name in EDITED},
        "localtime": str(zone.readlink()) if zone.is_symlink() else None,
        "packages": [line.split()[1] for line in listed if line.startswith("installed ")],
        "enabled": [
            unit for unit in UNITS if printed("systemctl", "is-enabled", unit) == "enabled\n"
        ],
        "accounts": {
            kind: [name for name in ACCOUNTS if printed("getent", kind, name)]
            for kind in ("passwd", "group")
        },
        "swap_bytes": swap_bytes(sys.argv[1]),
        "there": [
            name
            for name in (*FOLDERS, sys.argv[1], *(f"{home}/.ansible" for home in homes))
            if Path(name).exists()
        ],
    }
    NOTE.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    new = NOTE.with_suffix(".new")
    new.write_text(json.dumps(note, indent=1) + "\n")
    new.chmod(0o600)
    new.rename(NOTE)
    print(NOTE)


if __name__ == "__main__" and not NOTE.exists():
    main()
