"""A copy of this clone with a lab of its own, for tests and benches that need other nodes."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# They name no clone: what a copy adds to them is there for the next one.
SHARED = ("lab/images", "apt", "wheelhouse", "python")


def copy(folder: Path, suites: Mapping[str, str] | None = None) -> None:
    """Copy what git tracks, or would, to `folder`.

    `suites` has the lab's nodes by name, with their suite of Debian; without it they are those of
    this clone's inventory. Nothing runs there yet; the caches are this clone's.
    `folder`/lab/down.py removes its lab.
    """
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    tracked = subprocess.run(listing, cwd=ROOT, capture_output=True, check=True)
    for name in filter(None, tracked.stdout.decode().split("\0")):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    for name in SHARED:
        (ROOT / ".cache" / name).mkdir(parents=True, exist_ok=True)
        link = folder / ".cache" / name
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.unlink(missing_ok=True)  # one to where the clone was before it was moved
            link.symlink_to(ROOT / ".cache" / name)
    if suites is None:
        return
    nodes = "".join(f"        {node}: {{lab_suite: {suite}}}\n" for node, suite in suites.items())
    text = f"nodes:\n  children:\n    lab:\n      hosts:\n{nodes}"
    (folder / "inventory/lab/hosts.yml").write_text(text)
