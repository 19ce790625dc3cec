"""One lock on the core of a Pi 3: what `make cores` does for all, in two minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

from board.cores import STEPS, Wheels


@pytest.fixture(scope="module")
def wheels() -> Wheels:
    wheels = Wheels("aarch64-cp313")
    wheels.prepare()
    return wheels


def test_the_locked_wheels_take_a_training_step_on_the_core_of_a_pi_3(wheels: Wheels) -> None:
    result = wheels.run("cortex-a53", STEPS)
    assert result.good, result.complaint


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
