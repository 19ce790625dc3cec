"""Removes labs from podman: that of this clone, with what lab_up wrote and the tests' labs.

    python3 lab/down.py          # this clone's
    python3 lab/down.py --all    # those of clones whose folder is gone
    python3 lab/down.py --lab ID # that one
    python3 lab/down.py --tests  # the nodes of this clone's tests

Needs Python and podman alone, so that `make clean` works where .venv is gone already.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from engine import (
    GENERATED,
    LABEL,
    PATH_LABEL,
    ROOT,
    LabError,
    lab_id,
    podman_command,
    run_dir,
)  # fmt: skip

TEST_LABS = ROOT / ".cache" / "labs"
KINDS = (  # in this order: a network or an image in use cannot be removed
    ("container", ["ps", "--all"], ["rm", "--force", "--volumes", "--time", "3"]),
    ("network", ["network", "ls"], ["network", "rm"]),
    ("image", ["images"], ["rmi", "--force"]),
)


class Item(NamedTuple):
    """A container, network or image of a lab; `path` is its clone's, "" where no label names it."""

    kind: str
    name: str
    lab: str
    path: str


def podman(arguments: list[str]) -> str:
    """What podman prints; LabError with its complaint when it fails."""
    done = subprocess.run(
        [*podman_command(), *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise LabError(f"podman {' '.join(arguments)} failed: {done.stderr.strip()}")
    return done.stdout


def items() -> list[Item]:
    """Everything in podman that bears the label of a lab, of any clone."""
    found = []
    for kind, listing, _ in KINDS:
        ours = ["--format", "json", "--filter", f"label={LABEL}"]
        for entry in json.loads(podman([*listing, *ours]) or "[]"):
            labels = entry.get("Labels") or entry.get("labels")
            name = entry.get("name") or entry["Id"]
            path = os.fsdecode(unquote_to_bytes(labels.get(PATH_LABEL, "")))
            found.append(Item(kind, name, labels[LABEL], path))
    return found


def remove(chosen: Iterable[Item]) -> None:
    """Removes items from podman and prints how many there were of each kind."""
    names = defaultdict(set)
    for item in chosen:
        names[item.kind].add(item.name)
    for kind, _, removal in KINDS:
        if names[kind]:
            podman([*removal, *names[kind]])
            print(f"removed {len(names[kind])} {kind}{'s' if len(names[kind]) > 1 else ''}")


def remove_this_clone() -> None:
    """Removes this clone's lab and its tests' labs."""
    if shutil.which("podman"):
        remove(item for item in items() if item.lab == lab_id() or is_of_tests(item))
    roots = [ROOT, *(path for path in TEST_LABS.glob("*") if path.is_dir())]
    inventory = ROOT / "inventory" / "lab"
    for path in [*(inventory / name for name in GENERATED), TEST_LABS]:
        if path.is_dir():
            shutil.rmtree(path)
        elif path.exists():
            path.unlink()
        else:
            continue
        print(f"removed {path}")
    for root in roots:
        shutil.rmtree(run_dir(root))


def is_of_tests(item: Item) -> bool:
    """Whether an item belongs to a lab of this clone's tests."""
    return item.path.startswith(f"{TEST_LABS}/")


def remove_nodes_of_tests() -> None:
    """Removes the nodes of this clone's tests and their networks; the image stays."""
    remove(item for item in items() if is_of_tests(item) and item.kind != "image")


def is_gone(path: str) -> bool:
    """Whether a folder does not exist; one that this account may not look at does."""
    try:
        Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def remove_gone_clones() -> None:
    """Removes the labs whose clone's folder is gone; names those whose folder is not known."""
    labs: dict[str, list[Item]] = defaultdict(list)
    for item in items():
        labs[item.lab].append(item)
    for lab, belongings in labs.items():
        path = max(item.path for item in belongings)
        if path and is_gone(path):
            print(f"{path} is gone:")
            remove(belongings)
        elif not path and lab != lab_id():
            print(
                f"The lab {lab} was made by a release that did not record the clone's folder."
                f" If you no longer need it, remove it: make lab-down LAB={shlex.quote(lab)}"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Remove this clone's lab.")
    parser.add_argument("--all", action="store_true", help="instead, those of deleted clones")
    parser.add_argument("--lab", metavar="ID", help="instead, the lab with this id")
    parser.add_argument("--tests", action="store_true", help="instead, the nodes of the tests")
    chosen = parser.parse_args()
    try:
        if chosen.all:
            remove_gone_clones()
        elif chosen.tests:
            remove_nodes_of_tests()
        elif chosen.lab:
            remove(item for item in items() if item.lab == chosen.lab)
        else:
            remove_this_clone()
    except LabError as error:
        sys.exit(str(error))
