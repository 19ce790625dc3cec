"""What playbooks/inventory.yml refuses before a node is asked anything."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINES = (ROOT / "inventory/example/group_vars/nodes.yml").read_text()
NEEDED = ("ansible_connection", "ansible_control_path", "ansible_ssh_args",
          "ansible_ssh_common_args", "ansible_ssh_extra_args")  # fmt: skip


def look(folder: Path, lines: str, cwd: Path = ROOT, **environment: str) -> tuple[int, str]:
    """Return the exit status and the output for a copy of the example with these variables."""
    shutil.copytree(ROOT / "inventory/example", folder / "home")
    (folder / "home/group_vars/nodes.yml").write_text(lines)
    words = ["-i", folder / "home", "--limit", "pi-attic", ROOT / "playbooks/inventory.yml"]
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), *words],
        cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, " ".join(done.stdout.split())


def test_the_example_is_accepted(tmp_path: Path) -> None:
    assert look(tmp_path, LINES)[0] == 0


def test_an_older_copy_is_refused_with_its_missing_lines(tmp_path: Path) -> None:
    old = re.sub(rf"(?m)^({'|'.join(NEEDED)}):.*\n(  .*\n)*", "", LINES)
    status, text = look(tmp_path, old)
    assert status == 2 and f"does not set {', '.join(NEEDED)} for pi-attic" in text


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  -o StrictHostKeyChecking=yes", "  -F /dev/null -o StrictHostKeyChecking=yes"),
        ("ansible_connection: ssh", "ansible_connection: paramiko_ssh"),
    ],
)
def test_words_that_pin_nothing_are_refused(tmp_path: Path, old: str, new: str) -> None:
    assert old in LINES
    status, text = look(tmp_path, LINES.replace(old, new))
    assert status == 2 and "The pinned host key of pi-attic is not in force" in text


@pytest.mark.parametrize("origin", ["env: ANSIBLE_INJECT_FACT_VARS", "default"])
def test_facts_that_are_variables_are_refused(tmp_path: Path, origin: str) -> None:
    """By a variable of the environment, or since ansible.cfg is not read."""
    by_variable = origin.startswith("env")
    environment = {"ANSIBLE_INJECT_FACT_VARS": "1"} if by_variable else {}
    status, text = look(tmp_path, LINES, ROOT if by_variable else tmp_path, **environment)
    assert status == 2 and f"inject_facts_as_vars is on (from {origin})" in text
