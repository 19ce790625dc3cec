"""A clone beside this one, with virtual nodes of its own that no other test meets."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from cluster import ROOT, Lab

# They name no clone: what a test adds to them is there for the next one.
SHARED = ("lab/images", "apt", "wheelhouse", "python")


@contextmanager
def clone(folder: Path, **suites: str) -> Iterator[Lab]:
    """Copy this clone to `folder`, with a node for each name, of that suite of Debian; nothing
    runs yet. Its lab is removed afterwards."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, check=True)
    for name in tracked.stdout.decode().splitlines():
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    for name in SHARED:
        (ROOT / ".cache" / name).mkdir(parents=True, exist_ok=True)
        (folder / ".cache" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / ".cache" / name).symlink_to(ROOT / ".cache" / name)
    nodes = "".join(f"        {node}: {{lab_suite: {suite}}}\n" for node, suite in suites.items())
    text = f"nodes:\n  children:\n    lab:\n      hosts:\n{nodes}"
    (folder / "inventory/lab/hosts.yml").write_text(text)
    try:
        yield Lab(folder)
    finally:
        subprocess.run([sys.executable, folder / "lab/down.py"], check=True)


def give(lab: Lab, node: str, variables: dict[str, object]) -> None:
    """Give a node of a clone variables of its own."""
    file = lab.root / "inventory/lab/host_vars" / f"{node}.yml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(yaml.safe_dump(variables))
