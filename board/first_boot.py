"""What makes a blank card this board's: the files of playbooks/sdcard.yml on its boot partition."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from board.image import ROOT

# Where image.sh puts the boot partition: mtools' name for a file system inside a file.
OFFSET = "@@1M"


def write_first_boot(card: Path, inventory: Path, name: str) -> None:
    """Put onto the boot partition of a card what its node of an inventory boots into."""
    with tempfile.TemporaryDirectory() as folder:
        playbook = ["ansible-playbook", "-i", str(inventory), "playbooks/sdcard.yml"]
        subprocess.run(
            [*playbook, "--limit", name, "-e", f"card_folder={folder}"],
            cwd=ROOT, stdout=subprocess.DEVNULL, check=True,
        )  # fmt: skip
        files = [str(file) for file in sorted((Path(folder) / name).iterdir())]
        subprocess.run(["mcopy", "-o", "-i", f"{card}{OFFSET}", *files, "::/"], check=True)
