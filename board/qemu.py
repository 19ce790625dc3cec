"""One emulated board, from power on to power off."""

from __future__ import annotations

import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from board.image import Image

COMMON = ["-display", "none", "-monitor", "none"]
# cortex-a53, four of them, 1 GB: a Pi 3B's, on qemu's own devices, which are fast.
VIRT = [
    *("-M", "virt", "-cpu", "cortex-a53", "-smp", "4", "-m", "1024"),
    *("-accel", "tcg,thread=multi"),
    *("-append", "root=LABEL=rootfs rw console=ttyAMA0"),
    *("-drive", "file={card},if=none,id=card,format=raw,cache=unsafe"),
    *("-device", "virtio-blk-device,drive=card"),
    *("-netdev", "user,id=net,hostfwd=tcp:127.0.0.1:{port}-:22"),
    *("-device", "virtio-net-device,netdev=net", "-device", "virtio-rng-device"),
    *("-serial", "file:{console}"),
]
# The machine model has no power switch and no clock; its network is a USB adapter.
RASPI3B = [
    *("-M", "raspi3b", "-accel", "tcg,thread=multi", "-dtb", "{folder}/bcm2837-rpi-3-b.dtb"),
    *(
        "-append",
        "root=LABEL=rootfs rw dwc_otg.fiq_fsm_enable=0 console=ttyAMA0,115200 console=ttyS1,115200",
    ),
    *("-drive", "file={card},if=sd,format=raw,cache=unsafe"),
    *("-usb", "-device", "usb-net,netdev=net"),
    *("-netdev", "user,id=net,hostfwd=tcp:127.0.0.1:{port}-:22"),
    *("-serial", "file:{console}", "-serial", "file:{console}.1"),
]
MODELS = {"virt": VIRT, "raspi3b": RASPI3B}
# What the kernel calls the network of each.
INTERFACES = {"virt": "eth0", "raspi3b": "usb0"}
HOST_KEY = re.compile(r"^(ssh-ed25519 [A-Za-z0-9+/=]+)", re.M)


class BoardError(Exception):
    """What a board did not do, and where to look."""


@dataclass
class Board:
    """A running board. `port` on 127.0.0.1 is its SSH.

    `console` is what the board prints on its serial lines, `log` what qemu itself says.
    """

    process: subprocess.Popen[bytes]
    port: int
    console: Path
    log: Path

    def printed(self) -> str:
        """Everything that the board has printed on its serial lines."""
        lines = [self.console, self.console.with_name(f"{self.console.name}.1")]
        texts = [line.read_text(errors="replace") for line in lines if line.exists()]
        return "\n".join(texts).replace("\r", "")

    def host_key(self, seconds: float) -> str:
        """Wait for the SSH host key that the board prints at its first boot.

        The console is the one way to it that nobody on a network can change.
        """
        return self._wait_for(HOST_KEY, seconds)[1]

    def off(self, seconds: float) -> None:
        """Wait until the board, told to power off, has done so. A Pi's qemu stays: see model."""
        self._wait_for(re.compile(r"reboot: (Power down|System halted)"), seconds)

    def _wait_for(self, pattern: re.Pattern[str], seconds: float) -> re.Match[str]:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            ended = self.process.poll() is not None
            if match := pattern.search(self.printed()):
                return match
            if ended:
                said = self.log.read_text(errors="replace").strip()
                raise BoardError(f"qemu ended ({self.process.returncode}): {said} {self.console}")
            time.sleep(1)
        raise BoardError(
            f"no {pattern.pattern!r} on the console in {seconds:.0f} s: {self.console}"
        )


def free_port() -> int:
    """Return a port on 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def power_on(model: str, image: Image, card: Path, console: Path) -> Iterator[Board]:
    """Start a board on a card of its own; it ends with this block, by its pid.

    Also when this process is killed: the kernel then ends qemu.
    """
    port = free_port()
    names = {"card": card, "folder": image.folder, "port": port, "console": console}
    command = [
        *("setpriv", "--pdeathsig", "KILL", "qemu-system-aarch64", *COMMON),
        *("-kernel", str(image.folder / "vmlinuz"), "-initrd", str(image.folder / "initrd")),
        *(argument.format(**names) for argument in MODELS[model]),
    ]
    log = console.with_suffix(".qemu.log")
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
        )
    try:
        yield Board(process, port, console, log)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
