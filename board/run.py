"""`make board`: a Raspberry Pi that nobody has, from a blank card to a trained model.

    python -m board.run                       # Debian 13 on qemu's virtual machine
    python -m board.run --os bookworm         # Debian 12
    python -m board.run --machine raspi3b     # the model of a Pi 3B with Debian 12, up to its swap

Everything is left in .cache/board/<os>-on-<machine>/: the console, the logs, the inventory.
"""

from __future__ import annotations

import argparse
import fcntl
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console

from board.first_boot import write_first_boot
from board.image import CACHE, ROOT, ImageError, find_or_build
from board.memory import Watch
from board.qemu import INTERFACES, MODELS, Board, BoardError, power_on
from board.report import Report
from board.site import NAME, VIRTUAL, Site
from fedrnn.checkout import LATEST
from fedrnn.reporting.record import read

# Emulation on two busy cores takes ten times what a Pi takes.
BOOT_SECONDS, OFF_SECONDS = 900, 240
# What somebody may have done to his Pi before: role swap is to end with one swap of one size.
# systemd reads fstab, as after a restart.
OLD_SWAP = """sudo sh -euc '
fallocate -l 64M /old-swap; chmod 600 /old-swap
/usr/sbin/mkswap /old-swap; /usr/sbin/swapon /old-swap
echo "/old-swap none swap sw 0 0" >> /etc/fstab; systemctl daemon-reload'"""

# Which Debian where none is named: on the Pi 3B's model, the one that was seen to do all of it.
SUITES = {"virt": "trixie", "raspi3b": "bookworm"}
BOOT_ID = "cat /proc/sys/kernel/random/boot_id"


@dataclass
class Run:
    """One board on its way from a blank card to a model."""

    os: str
    machine: str
    rounds: int
    report: Report
    site: Site

    def everything(self) -> None:
        """Do all phases. Raises BoardError or ImageError."""
        whole = self.machine == "virt"
        self.on_a_new_card(self.provision_and_train if whole else self.provision_a_part)

    def on_a_new_card(self, work: Callable[[], None]) -> None:
        """Boot a board on a blank card, do some work on it; it is off and gone afterwards."""
        self.site.prepare(INTERFACES[self.machine])
        with self.report.phase("image"):
            image = find_or_build(self.os, self.site.folder / "image.log")
        card = self.site.folder / "card.img"
        console = self.site.folder / "console.log"
        console.unlink(missing_ok=True)
        try:
            with self.report.phase("card written"):
                copy = ["cp", "--sparse=always", "--reflink=auto", str(image.card), str(card)]
                subprocess.run(copy, check=True)
                write_first_boot(card, self.site)
            with power_on(self.machine, image, card, console) as board:
                self.boot(board)
                work()
                with self.report.phase("power off"):
                    self.leave("poweroff")
                    board.off(OFF_SECONDS)
        finally:
            card.unlink(missing_ok=True)
            if self.machine == "virt":
                self.site.remove(VIRTUAL)

    def boot(self, board: Board) -> None:
        """Wait for SSH with the key that the first boot brought, and for its end."""
        with self.report.phase("boot, first boot, SSH"):
            host_key = board.host_key(BOOT_SECONDS)
            virtual = VIRTUAL if self.machine == "virt" else []
            self.site.introduce(board.port, host_key, virtual)
            self.port = board.port
            self.wait_for_ssh(BOOT_SECONDS)
            # Neither a clock nor a time server: the remedy that preflight names.
            self.ask(f"sudo date -s @{time.time():.0f}")
            self.ask("cloud-init status --wait --long", 600)
        model = self.ask("tr -d '\\0' < /proc/device-tree/model")
        if self.machine == "raspi3b" and not model.startswith("Raspberry Pi 3 Model B"):
            raise BoardError(f"this was to be a Raspberry Pi 3 Model B, and says: {model}")
        self.report.figure("model", model)
        self.report.figure("kernel", self.ask("uname -rm").strip())

    def wait_for_ssh(self, seconds: float, until: str = "true") -> None:
        """Wait until the board lets the operator in, and agrees. Raises BoardError as ssh said."""
        end = time.monotonic() + seconds
        while True:
            try:
                self.ask(until)
                return
            except BoardError:
                if time.monotonic() > end:
                    raise
                time.sleep(2)

    def ask(self, command: str, seconds: float = 300) -> str:
        """Run a shell command on the board."""
        return self.site.ssh(self.port, command, seconds)

    def leave(self, how: str) -> None:
        """Have the board reboot or power off soon: its sshd ends with it, and must answer first."""
        self.ask(f"sudo systemd-run --quiet sh -c 'sleep 5; systemctl {how}'")

    def look(self, *tests: str) -> None:
        """Look at the board with testinfra."""
        where = ["--inventory", str(self.site.inventory), "-k", NAME]
        self.site.run("testinfra", "pytest", "-v", "--durations=10", *tests, *where)

    def refuse_a_bad_torch(self) -> None:
        """See preflight stop at a lock with a torch that would trap on this core."""
        locks = self.site.folder / "locks"
        locks.mkdir(exist_ok=True)
        for lock in (ROOT / "roles" / "wheelhouse" / "files" / "locks").glob("*-cp*.txt"):
            bad = re.sub(r"(?m)^torch==\S+", "torch==2.10.0", lock.read_text())
            (locks / lock.name).write_text(bad)
        with self.report.phase("preflight refuses torch 2.10.0"):
            try:
                self.site.playbook(
                    "refusal", "playbooks/cluster.yml", "--limit", NAME, "--tags", "always",
                    "-e", f"preflight_locks={locks}",
                )  # fmt: skip
            except BoardError:
                said = (self.site.folder / "refusal.log").read_text().split()
                if "would end with SIGILL" not in " ".join(said):
                    raise
            else:
                raise BoardError("preflight let torch 2.10.0 pass on a core that it traps on")

    def provision_a_part(self) -> None:
        """What the slow network of the Pi 3B's model is good for."""
        self.refuse_a_bad_torch()
        with self.report.phase("preflight, os, swap"):
            self.site.playbook("provision", "playbooks/cluster.yml", "--tags", "os,swap")
        self.report.figure("swap", self.ask("/usr/sbin/swapon --show --noheadings").strip())
        with self.report.phase("testinfra"):
            self.look("tests/roles/test_os.py", "tests/roles/test_swap.py")

    def provision_and_train(self) -> None:
        """The whole cluster: this board and two virtual nodes, then training on all three."""
        self.refuse_a_bad_torch()
        self.ask(OLD_SWAP)
        before = self.look_at_all()
        with self.report.phase("provision"):
            self.site.playbook("provision", "site.yml")
        swap = self.ask("/usr/sbin/swapon --show --noheadings").strip()
        self.report.figure("swap", swap)
        if "old-swap" in swap or len(swap.splitlines()) != 1:
            raise BoardError(f"one mechanism was to make swap, and the kernel has\n{swap}")
        python = "/opt/fedrnn/venv/bin/python"
        with self.report.phase("import of torch"):
            self.ask(f"{python} -c 'import torch'")
        with self.report.phase("testinfra"):
            self.look("tests/roles")
        with self.report.phase("federation"), Watch(self.ask) as watch:
            self.site.run(
                "federation", sys.executable, "-m", "fedrnn.run",
                "--inventory", str(self.site.inventory), "--rounds", str(self.rounds),
                # An emulated core takes longer for its share than the minute that a Pi has.
                "--set", "timeout=900",
            )  # fmt: skip
        record = read(LATEST)
        summary = record.summary
        with_all = sum({NAME, *VIRTUAL} == set(event["nodes"]) for event in record.rounds)
        if set(summary["jobs"].values()) != {"done"} or with_all < self.rounds:
            raise BoardError(f"jobs {summary['jobs']}; all three were in {with_all} rounds")
        self.report.figure("nodes", ", ".join(summary["nodes"]))
        self.report.figure("rounds", str(summary["rounds"]))
        rounds = summary["round_seconds"]
        self.report.figure("seconds a round", f"{rounds['median']:.1f} (median)")
        self.report.figure("jobs", ", ".join(f"{n}: {w}" for n, w in summary["jobs"].items()))
        if not watch.peaks:
            raise BoardError("the board did not once say what its processes hold in memory")
        for name, peak in sorted(watch.peaks.items(), key=lambda item: -item[1].resident)[:8]:
            figure = f"{peak.resident:.0f} MB, {peak.swap:.0f} MB in swap"
            self.report.figure(f"peak of {name}", figure)
        self.report.figure("model_sha256", summary["model_sha256"])
        self.take_back(before)

    def look_at_all(self) -> set[str]:
        """Return what the board is, a line for each thing that a reset must leave as it was."""
        look = shlex.quote((ROOT / "tests" / "look.sh").read_text())
        return set(self.ask(f"sudo sh -c {look}", 900).splitlines())

    def take_back(self, before: set[str]) -> None:
        """Reset the board, which is then what it was before our playbooks had seen it."""
        with self.report.phase("reset"):
            named = f"confirm={self.site.inventory.name}"
            self.site.playbook("reset", "playbooks/reset.yml", "-e", named, "-e", "purge=true")
        with self.report.phase("restart"):
            booted = self.ask(BOOT_ID).strip()
            self.leave("reboot")
            self.wait_for_ssh(BOOT_SECONDS, f'test "$({BOOT_ID})" != {booted}')
            self.ask("systemctl is-system-running --wait || true", BOOT_SECONDS)
            after = self.look_at_all()
        if before != after:
            lines = [f"- {line}" for line in sorted(before - after)]
            lines += [f"+ {line}" for line in sorted(after - before)]
            raise BoardError("reset has left the board otherwise:\n" + "\n".join(lines))
        self.report.figure("what differs after the reset", "nothing")


@contextmanager
def the_only_one() -> Iterator[None]:
    """Raise BoardError where another run of this clone has cards and virtual nodes of its own."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BoardError("another `make board` runs in this clone: wait for its end") from None
        yield


def main(arguments: list[str] | None = None) -> int:
    """Run and return the exit code: 0 done, 1 a board that did not do it, 130 Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m board.run", description=__doc__)
    parser.add_argument(
        "--os", choices=["trixie", "bookworm"], help="default: trixie; on raspi3b bookworm"
    )
    parser.add_argument("--machine", choices=list(MODELS), default="virt")
    parser.add_argument("--rounds", type=int, default=10)
    asked = parser.parse_args(arguments)
    # As Ctrl-C: what was started is ended on the way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    report = Report(Console(soft_wrap=True))
    suite = asked.os or SUITES[asked.machine]
    site = Site(CACHE / f"{suite}-on-{asked.machine}")
    title = f"{suite} on {asked.machine}"
    try:
        with the_only_one():
            Run(suite, asked.machine, asked.rounds, report, site).everything()
    except (BoardError, ImageError, OSError, subprocess.CalledProcessError) as error:
        report.show(f"{title}, until it failed")
        print(f"\n✗ {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped; the board is off.", file=sys.stderr)
        return 130
    report.show(title)
    return 0


if __name__ == "__main__":
    sys.exit(main())
