"""One lock on the core of a Pi 3: what `make cores` does for all, in two minutes.

That it passed is remembered until the wheels, the steps or the emulator change.
"""

from __future__ import annotations

import subprocess
from hashlib import sha256
from pathlib import Path

import pytest

from board import cores
from board.cores import STEPS, Wheels


@pytest.fixture(scope="module")
def wheels() -> Wheels:
    wheels = Wheels("aarch64-cp313")
    wheels.prepare()
    return wheels


def decisive(wheels: Wheels) -> str:
    """The hash of all that decides whether the steps pass."""
    lock = cores.wheelhouse.LOCKS / f"{wheels.lock}.txt"
    files = [lock, cores.PROBE, cores.PROOF, Path(cores.__file__), wheels.python]
    qemu = subprocess.check_output(["qemu-aarch64-static", "--version"])
    return sha256(
        b"".join([qemu, *(sha256(file.read_bytes()).digest() for file in files)])
    ).hexdigest()


def test_the_locked_wheels_take_a_training_step_on_the_core_of_a_pi_3(wheels: Wheels) -> None:
    passed = wheels.root.with_name(f"passed-{decisive(wheels)}")
    if not passed.exists():
        result = wheels.run("cortex-a53", STEPS)
        assert result.good, result.complaint
        passed.touch()


def test_a_program_that_needs_the_atomics_of_a_pi_5_traps_on_the_core_of_a_pi_3(
    wheels: Wheels, tmp_path: Path
) -> None:
    # The one instruction that torch 2.10.0 stumbles over, `ldaddal w0, w1, [x2]`, called by ctypes.
    (tmp_path / "safetensors.py").write_text(
        "import ctypes, mmap\n"
        "code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)\n"
        "code.write(bytes.fromhex('4100e0b8 c0035fd6'))\n"
        "cell = ctypes.c_int(1)\n"
        "start = ctypes.addressof(ctypes.c_char.from_buffer(code))\n"
        "ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_int, ctypes.c_void_p)(start)("
        "2, 0, ctypes.addressof(cell))\n"
        "assert cell.value == 3\n"
        "raise SystemExit('it ran')\n"
    )
    old = wheels.run("cortex-a53", ("safetensors",), tmp_path)
    new = wheels.run("cortex-a76", ("safetensors",), tmp_path)
    assert old.complaint.startswith("SIGILL")
    assert new.complaint == "exit 1: it ran"
