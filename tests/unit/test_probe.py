"""What preflight's probe makes of a program's answer, run on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FILES = Path(__file__).parents[2] / "roles" / "preflight" / "files"
sys.path.insert(0, str(FILES))
from checks import Answers  # noqa: E402


@pytest.mark.parametrize(("says", "status", "told"), [("none", 1, []), ("podman", 0, ["podman"])])
def test_only_a_container_is_called_one(
    tmp_path: Path, says: str, status: int, told: list[str]
) -> None:
    """systemd-detect-virt(1) says none on a board, and fails."""
    program = tmp_path / "systemd-detect-virt"
    program.write_text(f"#!/bin/sh\necho {says}\nexit {status}\n")
    program.chmod(0o755)
    probe = "ASKED_AT=1 THOROUGH=no SITES=\n" + (FILES / "probe.sh").read_text()
    done = subprocess.run(
        ["/bin/sh"], input=probe, env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert Answers.parse(done.stdout)["container"] == told
