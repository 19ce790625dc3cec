"""Where the card is built: programs of arm64 run there, and nothing of it stays on this machine."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from board.cores import Wheels, unpack_system
from board.image import BINFMT, obstacle, run_arm64

ROOT = Path(__file__).parents[2]
SHM = Path("/dev/shm")
pytestmark = pytest.mark.skipif(bool(obstacle()), reason=obstacle())


def run(tmp_path: Path, *command: str) -> tuple[int, str]:
    """Exit status and words of a command where arm64 programs run."""
    log = tmp_path / "log"
    with log.open("w") as file:
        status = run_arm64(list(command), file.fileno())
    return status, log.read_text().strip()


def test_a_program_of_arm64_runs_there_and_the_entries_of_this_machine_stay(tmp_path: Path) -> None:
    wheels = Wheels("aarch64-cp313")
    if not wheels.python.exists():
        unpack_system(wheels.lock, wheels.root)
    before = sorted(BINFMT.iterdir())
    say = "import platform; print(platform.machine())"
    assert run(tmp_path, "chroot", str(wheels.root), "/usr/bin/python3", "-c", say) == (
        0,
        "aarch64",
    )
    assert sorted(BINFMT.iterdir()) == before


def test_the_shared_memory_of_this_machine_is_out_of_its_reach(tmp_path: Path) -> None:
    ours = SHM / f"fedrnn-test-{tmp_path.name}"
    ours.touch()
    try:
        assert run(tmp_path, "sh", "-c", f"ls -A {SHM}; rm -rf {SHM}/*") == (0, "")
        assert ours.exists()
    finally:
        ours.unlink(missing_ok=True)


def test_a_build_ends_when_its_starter_is_killed(tmp_path: Path) -> None:
    seconds = "4567.89"
    starter = (
        "import sys; from board.image import run_arm64;"
        f"run_arm64(['sh', '-c', 'echo; sleep {seconds}'], 1)"
    )
    process = subprocess.Popen([sys.executable, "-c", starter], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.read(1) == b"\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    asked = [shutil.which("pgrep") or "pgrep", "-f", f"sleep {seconds}"]
    for _ in range(50):
        if subprocess.run(asked, capture_output=True, check=False).returncode:
            return
        time.sleep(0.1)
    raise AssertionError("the build goes on without its starter")
