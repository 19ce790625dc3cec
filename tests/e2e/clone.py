"""A clone beside this one, with virtual nodes of its own that no other test meets."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from cluster import Lab

from lab.clone import copy


@contextmanager
def clone(folder: Path, **suites: str) -> Iterator[Lab]:
    """Copy this clone to `folder`, with a node for each name, of that suite of Debian; nothing
    runs yet. Its lab is removed afterwards."""
    copy(folder, suites)
    try:
        yield Lab(folder)
    finally:
        subprocess.run([sys.executable, folder / "lab/down.py"], check=True)


def give(lab: Lab, node: str, variables: dict[str, object]) -> None:
    """Give a node of a clone variables of its own."""
    file = lab.root / "inventory/lab/host_vars" / f"{node}.yml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(yaml.safe_dump(variables))
