"""`make venv` where an earlier one came to nothing; without a network: torch is an empty wheel."""

from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "venv.sh", tmp_path / "scripts")
    (tmp_path / "requirements.txt").write_text("torch==0\n")
    with zipfile.ZipFile(tmp_path / "torch-0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(
            "torch-0.dist-info/METADATA", "Metadata-Version: 2.1\nName: torch\nVersion: 0\n"
        )
        wheel.writestr("torch-0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("torch-0.dist-info/RECORD", "")
    subprocess.run(["python3", "-m", "venv", "--without-pip", tmp_path / ".venv"], check=True)
    return tmp_path


def make_venv(clone: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    path = f"{clone}/.venv/bin:{os.environ['PATH']}"  # as the Makefile has it
    return subprocess.run(
        ["bash", clone / "scripts" / "venv.sh"],
        env={**os.environ, "PATH": path, "PIP_FIND_LINKS": str(clone), **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_venv_without_pip_is_made_anew(clone):
    done = make_venv(clone)
    assert done.returncode == 0, done.stderr
    assert list(clone.glob(".venv/lib/*/site-packages/torch-0.dist-info"))


def test_a_python_without_ensurepip_is_named_with_the_package_that_brings_it(clone):
    (clone / "ensurepip.py").write_text("raise ImportError\n")
    done = make_venv(clone, PYTHONPATH=str(clone))
    assert done.returncode == 1 and "python3-venv" in done.stderr
    assert "PyTorch" not in done.stderr
