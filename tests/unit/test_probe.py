"""What preflight's probe makes of what it finds, run on this machine."""

from __future__ import annotations

import hashlib
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


SSHD = b"Match all\n"
PROVED = f"{hashlib.sha256(SSHD).hexdigest()}  "


@pytest.mark.skipif(os.getuid() != 0, reason="the files belong to root")
@pytest.mark.parametrize(
    ("mode", "text", "begin"),
    [(0o644, SSHD, PROVED), (0o666, SSHD, "unproved  "), (0o644, b"PermitTTY yes\n", "unproved  ")],
)
def test_a_setting_of_sshd_that_nobody_proved_is_told(
    tmp_path: Path, mode: int, text: bytes, begin: str
) -> None:
    file = tmp_path / "50-fedrnn.conf"
    file.write_bytes(text)
    file.chmod(mode)
    (tmp_path / ".sshd-in-force").write_text(f"{PROVED}{file}\n")
    probe = (FILES / "probe.sh").read_text()
    for folder in ("/etc/ssh/sshd_config.d", "/opt/fedrnn"):
        assert f"{folder}/" in probe
        probe = probe.replace(f"{folder}/", f"{tmp_path}/")
    assert probed(tmp_path, probe)["sshd"] == [f"{begin}{file}"]


@pytest.mark.parametrize(
    ("home", "noted", "told"),
    [
        ("/home/fedrnn", False, ["account fedrnn", "group fedrnn", "group fedrnn-job"]),
        ("/var/lib/fedrnn", False, ["account fedrnn", "group fedrnn", "group fedrnn-job"]),
        ("/home/fedrnn", True, ["account fedrnn"]),
        ("/var/lib/fedrnn", True, []),
    ],
)
def test_accounts_that_were_there_before_are_told_from_ours(
    tmp_path: Path, home: str, noted: bool, told: list[str]
) -> None:
    getent = tmp_path / "getent"
    getent.write_text(
        "#!/bin/sh\ncase $1 in\n"
        f"passwd) echo fedrnn:x:999:999:Gate:{home}:/bin/sh ;;\n"
        "group) printf '%s:x:999:\\n' fedrnn fedrnn-job ;;\nesac\n"
    )
    getent.chmod(0o755)
    if noted:
        (tmp_path / ".before.json").touch()
    probe = (FILES / "probe.sh").read_text()
    assert "/opt/fedrnn/.before.json" in probe
    probe = probe.replace("/opt/fedrnn/.before.json", str(tmp_path / ".before.json"))
    assert probed(tmp_path, probe)["foreign"] == told
