"""What makes a blank card this board's: the files of playbooks/sdcard.yml on its boot partition."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from board.site import NAME, Site

# Where image.sh puts the boot partition: mtools' name for a file system inside a file.
OFFSET = "@@1M"


def write_first_boot(card: Path, site: Site) -> None:
    """Put onto the boot partition of a card what its board boots into. Raises BoardError."""
    with tempfile.TemporaryDirectory() as folder:
        site.playbook("first-boot", "playbooks/sdcard.yml", "--limit", NAME,
                      "-e", f"card_folder={folder}")  # fmt: skip
        files = [str(file) for file in sorted((Path(folder) / NAME).iterdir())]
        subprocess.run(["mcopy", "-o", "-i", f"{card}{OFFSET}", *files, "::/"], check=True)
