"""Flower says nothing to its maker: in the controller's program, and in the job."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedrnn.datasite.job_code import training_code

ROOT = Path(__file__).parents[2]
TELL = "from flwr.supercore import telemetry as t; print(t.FLWR_TELEMETRY_ENABLED)"


def told(module: str, cwd: Path) -> str:
    """What Flower holds of its telemetry in a new program that imports `module` first."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FLWR_")}
    command = [sys.executable, "-c", f"import {module}; {TELL}"]
    return subprocess.check_output(command, cwd=cwd, env=environment, text=True).strip()


@pytest.mark.parametrize("module", ["fedrnn.run", "fedrnn.federation.server_app"])
def test_the_controller_is_quiet(module: str) -> None:
    assert told(module, ROOT) == "0"


def test_the_job_is_quiet(tmp_path: Path) -> None:
    code = training_code(tmp_path / "code")
    assert told("fedrnn.transport.worker", code) == "0"


def test_flower_alone_would_not_be() -> None:
    assert told("flwr", ROOT) == "1"
