"""The locks of machines that are not here: every wheel in them can be had, with its hash."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cluster import CLONE

FILES = CLONE / "roles" / "wheelhouse" / "files"
sys.path.insert(0, str(FILES))
import lock as maker  # noqa: E402
import wheelhouse  # noqa: E402

FOREIGN = ["aarch64-cp311", "aarch64-cp312", "aarch64-cp313"]


@pytest.mark.parametrize(
    "name", [*(pytest.param(n, marks=pytest.mark.apart) for n in FOREIGN[:-1]), FOREIGN[-1]]
)
def test_pip_would_take_exactly_these_files(name: str, tmp_path: Path) -> None:
    """Metadata only: what the index says of each file, nothing is downloaded."""
    pins = wheelhouse.read_lock(FILES / "locks" / f"{name}.txt")
    found = maker.choose(name, [f"{pin.name}=={pin.version}" for pin in pins], tmp_path)
    assert found == sorted(pins, key=lambda pin: pin.name)


@pytest.mark.download
@pytest.mark.parametrize("name", FOREIGN)
def test_every_wheel_can_be_fetched_and_hashed(name: str, tmp_path: Path) -> None:
    """About 220 MB each: `make test-locks`."""
    command = [sys.executable, FILES / "wheelhouse.py", "fetch", "--lock", name, "--into", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["wheels"] == len(told["fetched"]) == len(list(tmp_path.glob("*.whl"))) > 100
