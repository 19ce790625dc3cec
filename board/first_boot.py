"""What makes a blank card this board's: the files of playbooks/sdcard.yml on its boot partition."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from board.image import ROOT
from board.qemu import BoardError

# Where image.sh puts the boot partition: mtools' name for a file system inside a file.
OFFSET = "@@1M"


def write_first_boot(card: Path, inventory: Path, name: str) -> None:
    """Put onto the boot partition of a card what its node boots into. Raises BoardError."""
    with tempfile.TemporaryDirectory() as folder:
        playbook = ["ansible-playbook", "-i", str(inventory), "playbooks/sdcard.yml"]
        done = subprocess.run(
            [*playbook, "--limit", name, "-e", f"card_folder={folder}"],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise BoardError(f"playbooks/sdcard.yml failed:\n{done.stdout[-3000:]}{done.stderr}")
        files = [str(file) for file in sorted((Path(folder) / name).iterdir())]
        subprocess.run(["mcopy", "-o", "-i", f"{card}{OFFSET}", *files, "::/"], check=True)
