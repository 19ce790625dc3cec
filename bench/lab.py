"""Ansible's programs, as a bench runs them over the lab."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from fedrnn.checkout import ROOT


def ansible(program: str, *arguments: str) -> str:
    """Run one of Ansible's programs and return what it says; what fails ends the bench."""
    command = [Path(sys.executable).parent / program, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{program} {arguments[0]} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout
