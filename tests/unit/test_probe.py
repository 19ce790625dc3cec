"""What preflight's probe makes of what it finds, run on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROLES = Path(__file__).parents[2] / "roles"
FILES = ROLES / "preflight" / "files"
sys.path.insert(0, str(FILES))
from checks import Answers  # noqa: E402

OURS = (ROLES / "os" / "files" / "tmp.mount").read_text()


def probed(programs: Path, probe: str) -> Answers:
    done = subprocess.run(
        ["/bin/sh"],
        input=f"ASKED_AT=1 THOROUGH=no SITES=\n{probe}",
        env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    return Answers.parse(done.stdout)


@pytest.mark.parametrize(("says", "status", "told"), [("none", 1, []), ("podman", 0, ["podman"])])
def test_only_a_container_is_called_one(
    tmp_path: Path, says: str, status: int, told: list[str]
) -> None:
    """systemd-detect-virt(1) says none on a board, and fails."""
    program = tmp_path / "systemd-detect-virt"
    program.write_text(f"#!/bin/sh\necho {says}\nexit {status}\n")
    program.chmod(0o755)
    assert probed(tmp_path, (FILES / "probe.sh").read_text())["container"] == told


@pytest.mark.parametrize(
    ("unit", "fstab", "owners"),
    [
        ("", "", False),
        ("", "# /dev/sda3 /tmp ext4\nproc /proc proc defaults 0 0\n", False),
        ("", "/dev/sda3 /tmp ext4 defaults 0 2\n", True),
        (OURS, "", False),
        (OURS, "/dev/sda3 /tmp ext4 defaults 0 2\n", False),
        ("[Mount]\nWhat=tmpfs\nWhere=/tmp\n", "", True),
        ("masked", "", True),
    ],
)
def test_the_owners_own_tmp_is_told_from_ours(
    tmp_path: Path, unit: str, fstab: str, owners: bool
) -> None:
    place = tmp_path / "tmp.mount"
    if unit == "masked":
        place.symlink_to("/dev/null")
    elif unit:
        place.write_text(unit)
    (tmp_path / "fstab").write_text(fstab)
    probe = (FILES / "probe.sh").read_text()
    for path in ("/etc/systemd/system/tmp.mount", "/etc/fstab"):
        assert path in probe
        probe = probe.replace(path, str(tmp_path / Path(path).name))
    assert probed(tmp_path, probe)["tmp_of_owner"] == ([str(place)] if owners else [])
