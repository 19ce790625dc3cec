"""The labs of the tests: a copy of this clone for each worker of pytest, with nodes of its own.

Once, site.yml provisions a bare node up to its data and its owner, and that node is kept as an
image. Every lab starts its nodes from there, and site.yml does the rest. The image is made anew
when anything changes that shapes a node; test_bare.py provisions a bare node in every run.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest
from clone import give
from cluster import CLONE, LABS, ROOT, Lab, ansible_playbook, must

from lab.clone import copy
from lab.engine import GENERATED, lab_id, labels

SUITE = "bookworm"
# Everything that shapes a node. Of `fedrnn`: what is installed there, the code of the training job,
# whose hashes are the allow-list, and the embedded data.
SHAPES = (
    "site.yml", "ansible.cfg", "requirements.in", "requirements.txt", "playbooks", "roles",
    "library", "callbacks", "inventory/lab", "lab", "fedrnn/__init__.py", "fedrnn/owner.py",
    "fedrnn/printable.py", "fedrnn/config.py", "fedrnn/datasite", "fedrnn/learning",
    "fedrnn/federation", "fedrnn/transport", "tests/e2e/labs.py",
)  # fmt: skip
# The roles before a node gets its owner. They take most of the time.
COMMON = "os,swap,python,wheelhouse,torch"
OWN = "os,pysyft,dataset"  # the rest, and the names and addresses of the other nodes
# What differs between nodes after these roles. Each node makes it anew at its next start.
FORGET = """
rm -f /etc/ssh/ssh_host_*
: > /etc/machine-id
rm /opt/fedrnn/.identity
printf '127.0.0.1\\tlocalhost\\n' > /etc/hosts
sync
"""


def shaping(root: Path) -> Iterator[Path]:
    """Yield the files below `root` that shape a node, in a fixed order."""
    for name in SHAPES:
        path = root / name
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            inside = file.relative_to(path).parts
            made = "__pycache__" in inside or (inside and inside[0] in (*GENERATED, "host_vars"))
            if file.is_file() and not made:
                yield file


def key(root: Path = CLONE) -> str:
    """The hash of everything that shapes a node: names, modes and contents."""
    digest = hashlib.sha256()
    for file in shaping(root):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        digest.update(f"{file.relative_to(root)} {os.access(file, os.X_OK)} {content}\n".encode())
    return digest.hexdigest()[:12]


def image(root: Path = CLONE) -> str:
    """The name of the image that nodes start from."""
    return f"localhost/fedrnn-test-{lab_id()}:{key(root)}"


def locked(name: str, flags: int = 0) -> TextIO:
    """Lock a name for this clone's tests until the file is closed. Raises BlockingIOError."""
    LABS.mkdir(parents=True, exist_ok=True)
    file = (LABS / f".{name}.lock").open("w")
    fcntl.flock(file, fcntl.LOCK_EX | flags)
    return file


def refresh(folder: Path, suites: dict[str, str] | None = None) -> None:
    """Make `folder` a copy of this clone as it is now; what its lab and its runs made stays."""
    made = (".cache", "runs", "inventory", *GENERATED)
    for old in [*folder.glob("*"), *folder.glob("inventory/lab/*")]:
        if old.name not in made and old != folder / "inventory" / "lab":
            shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
    copy(folder, suites)


@functools.cache
def own_copy() -> TextIO:
    """Copy this clone for this worker, which nobody else may use meanwhile."""
    try:
        lock = locked(ROOT.name, fcntl.LOCK_NB)
    except BlockingIOError as error:
        message = f"Another pytest of this clone uses {ROOT}: wait for its end."
        raise pytest.UsageError(message) from error
    refresh(ROOT)
    return lock


def pytest_configure(config: pytest.Config) -> None:
    """Copy this clone for the worker; where workers run the tests, their parent needs no copy."""
    is_parent = config.getoption("numprocesses", None) and not hasattr(config, "workerinput")
    if not is_parent and not config.option.collectonly:
        own_copy()


def down(folder: Path) -> None:
    """Remove the lab of a copy."""
    command = [sys.executable, folder / "lab/down.py"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def make_image() -> None:
    """Provision a bare node, keep it as an image, and remove the images of before."""
    folder = LABS / "bare"
    refresh(folder, {"pi1": SUITE})
    # The worker's copy is of when it started.
    assert key(CLONE) == key(ROOT), "Files that shape a node have changed during the tests."
    down(folder)
    lab = Lab(folder)
    must(ansible_playbook("--tags", COMMON, "site.yml", cwd=folder))
    names = ("--filter", f"reference=localhost/fedrnn-test-{lab_id()}")
    if older := set(lab.podman("images", "--quiet", *names).split()):
        lab.podman("rmi", "--force", *older)
    lab.podman("exec", lab.container("pi1"), "sh", "-euc", FORGET)
    lab.podman("stop", "--time", "5", lab.container("pi1"))
    changes = [word for label in labels() for word in ("--change", f"LABEL {label}")]
    lab.podman("commit", "--quiet", *changes, lab.container("pi1"), image())
    down(folder)


def own_wheels() -> None:
    """Give the copy wheels of its own, by hard links: two labs may pack them at once."""
    wheels = ROOT / ".cache" / "wheelhouse"
    wheels.unlink() if wheels.is_symlink() else shutil.rmtree(wheels)
    shutil.copytree(CLONE / ".cache" / "wheelhouse", wheels, copy_function=os.link)


def start() -> Lab:
    """Start this worker's nodes from the image, and have site.yml make them a cluster."""
    lab = Lab()
    name = image(ROOT)
    with locked("image"):
        if not lab.podman("images", "--quiet", name):
            make_image()
    down(ROOT)
    own_wheels()
    for node in ("pi1", "pi2", "pi3"):
        give(lab, node, {"lab_node_image": name})
    must(ansible_playbook("--tags", OWN, "site.yml"))
    return lab
