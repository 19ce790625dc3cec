"""An emulated machine: what goes onto its card, and that it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

from board.first_boot import write_first_boot
from board.image import Image
from board.memory import Watch, read_peaks
from board.qemu import BoardError, power_on
from board.run import the_only_one
from board.site import Site

ROOT = Path(__file__).parents[2]


@pytest.fixture
def image(tmp_path: Path) -> Image:
    """A board that starts and does nothing: its kernel is empty."""
    for name in ("vmlinuz", "initrd", "card.img"):
        (tmp_path / name).write_bytes(bytes(4096))
    return Image(tmp_path)


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_first_boot_is_on_the_boot_partition(tmp_path: Path) -> None:
    card = tmp_path / "card.img"
    with card.open("wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mformat", "-i", f"{card}@@1M", "-T", "20480", "-h", "4", "-s", "16", "::"],
                   check=True)  # fmt: skip
    site = Site(tmp_path)
    site.prepare("usb0")
    for _ in range(2):
        write_first_boot(card, site)

    def read(file: str) -> str:
        asked = ["mtype", "-i", f"{card}@@1M", f"::/{file}"]
        return subprocess.run(asked, check=True, capture_output=True, text=True).stdout

    assert read("user-data").startswith("#cloud-config\n")
    told = yaml.safe_load(read("user-data"))
    key = site.key.with_suffix(".pub").read_text().strip()
    assert told["hostname"] == "board"
    assert told["users"][0]["ssh_authorized_keys"] == [key]
    assert yaml.safe_load(read("network-config"))["ethernets"] == {"usb0": {"dhcp4": True}}


def test_qemu_ends_with_its_block(image: Image, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), power_on("virt", image, image.card, tmp_path / "c") as board:
        assert is_there(board.process.pid)
        raise RuntimeError
    assert not is_there(board.process.pid)


def test_qemu_ends_when_its_starter_is_killed(image: Image, tmp_path: Path) -> None:
    starter = (
        "import sys, time; from pathlib import Path; from board.qemu import power_on;"
        " from board.image import Image; here = Path(sys.argv[1])\n"
        "with power_on('virt', Image(here), here / 'card.img', here / 'c') as board:\n"
        "    print(board.process.pid, flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", starter, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    time.sleep(0.5)  # setpriv has become qemu
    assert is_there(pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    end = time.monotonic() + 10
    while is_there(pid) and time.monotonic() < end:
        time.sleep(0.1)
    assert not is_there(pid)


def test_a_machine_that_cannot_start_says_where_to_look(image: Image, tmp_path: Path) -> None:
    with (
        pytest.raises(BoardError, match=r"no-card\.img': No such file"),
        power_on("virt", image, tmp_path / "no-card.img", tmp_path / "console") as board,
    ):
        board.host_key(20)


def test_a_board_that_is_busy_is_asked_again() -> None:
    answers = iter(["/proc/7/status:Name:\tsh\n/proc/7/status:VmHWM:\t 9000 kB\n"])
    asked = threading.Event()

    def ask(_: str) -> str:
        if not asked.is_set():
            asked.set()
            raise BoardError("it took too long")
        return next(answers, "")

    with Watch(ask, seconds=0.01) as watch:
        until = time.monotonic() + 10
        while not watch.peaks and time.monotonic() < until:
            time.sleep(0.01)
    assert list(watch.peaks) == [" sh"]


def test_a_second_run_in_a_clone_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("board.run.CACHE", tmp_path)
    with the_only_one(), pytest.raises(BoardError, match="another"), the_only_one():
        raise AssertionError("it ran beside the first")
    with the_only_one():
        pass


def test_peaks_are_told_apart_by_unit() -> None:
    peaks = read_peaks(
        "/proc/7/status:Name:\tpython\n/proc/7/status:VmHWM:\t  300000 kB\n"
        "/proc/7/status:VmSwap:\t   12000 kB\n"
        "/proc/7/cgroup:0::/system.slice/fedrnn-job@a:b.service\n"
        "/proc/8/status:Name:\tpython\n/proc/8/status:VmHWM:\t    9000 kB\n"
        "/proc/8/cgroup:0::/user.slice/user-1.slice/session-3.scope\n"
        "/proc/9/status:Name:\tkthreadd\n/proc/9/cgroup:0::/\n"
    )
    told = {name: (peak.resident, peak.swap) for name, peak in peaks.items()}
    assert told == {"fedrnn-job python": (300.0, 12.0), "session python": (9.0, 0.0)}
