"""What makes a blank card this board's: three files for cloud-init on its boot partition."""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from pathlib import Path

import jinja2

TEMPLATES = Path(__file__).resolve().parent / "templates"
# Where image.sh puts the boot partition: mtools' name for a file system inside a file.
OFFSET = "@@1M"


def write_first_boot(card: Path, name: str, account: str, public_key: str) -> None:
    """Put name, account and its SSH key onto the boot partition of a card."""
    engine = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 (YAML, not HTML)
    )
    values = {
        "first_boot_name": name,
        "first_boot_account": account,
        "first_boot_key": public_key.strip(),
        "first_boot_id": hashlib.sha256(public_key.encode()).hexdigest()[:12],
    }
    with tempfile.TemporaryDirectory() as folder:
        for template in sorted(TEMPLATES.glob("*.j2")):
            file = Path(folder) / template.stem
            file.write_text(engine.get_template(template.name).render(values))
            subprocess.run(["mcopy", "-o", "-i", f"{card}{OFFSET}", str(file), "::/"], check=True)
