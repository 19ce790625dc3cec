"""Removes the lab of this clone: what bears its label in podman, and the files that lab_up wrote.

Needs Python and podman alone, so that `make clean` works where .venv is gone already.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from engine import LABEL, ROOT, LabError, lab_id, podman_command, run_dir

GENERATED = ("ports.yml", "known_hosts", "known_hosts.old", "keys")
KINDS = (  # in this order: a network or an image in use cannot be removed
    ("container", ["ps", "--all"], ["rm", "--force", "--volumes", "--time", "3"]),
    ("network", ["network", "ls"], ["network", "rm"]),
    ("image", ["images"], ["rmi", "--force"]),
)


def podman(arguments: list[str]) -> str:
    """What podman prints; LabError with its complaint when it fails."""
    done = subprocess.run(
        [*podman_command(), *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise LabError(f"podman {' '.join(arguments)} failed: {done.stderr.strip()}")
    return done.stdout


def remove_from_podman() -> None:
    """Removes containers, network and image with this clone's label and prints what went."""
    for kind, listing, removal in KINDS:
        found = podman([*listing, "--quiet", "--filter", f"label={LABEL}={lab_id()}"]).split()
        if found:
            podman([*removal, *dict.fromkeys(found)])
            print(f"removed {len(found)} {kind}{'s' if len(found) > 1 else ''}")


def remove_files(inventory: Path) -> None:
    """Removes keys, pinned host keys and ports beside `inventory`, and the folder of sockets."""
    for path in [inventory / name for name in GENERATED]:
        if path.is_dir():
            shutil.rmtree(path)
        elif path.exists():
            path.unlink()
        else:
            continue
        print(f"removed {path}")
    shutil.rmtree(run_dir())


if __name__ == "__main__":
    try:
        if shutil.which("podman"):
            remove_from_podman()
        remove_files(ROOT / "inventory" / "lab")
    except LabError as error:
        sys.exit(str(error))
