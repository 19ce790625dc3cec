"""Ways to bring a lock's wheels onto a Pi's card, on the emulated core of a Pi 3.

`python -m bench.install` boots a board from the image of `make board` and installs the lock in each
way, one after the other: three quarters of an hour. Emulation is slower than a Pi by a factor that
is the same for all, so the ratios count and not the seconds.

uv:         all wheels by uv, linked from its cache; what role wheelhouse does
pip:        the same wheels by pip, without byte code
byte code:  that of what our processes import, beside that of all packages
unpacking:  an environment built once, packed, unpacked in place of uv's installation
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from rich.console import Console

from bench.figures import explained, publish, row
from board.image import CACHE, ROOT
from board.report import Report
from board.run import Run
from board.site import Site

RESULTS = Path(__file__).parent / "results" / "install.json"
LOCK = "aarch64-cp313"
WHEELS = ROOT / ".cache" / "wheelhouse" / LOCK
WORK = "/opt/bench"
HOURS = 7200.0
UV = (
    f"{WORK}/uv/uv-*.data/scripts/uv --no-config --offline --cache-dir={WORK}/cache pip install"
    f" --python={WORK}/venv/bin/python --no-index --no-deps --require-hashes --link-mode=hardlink"
    f" --find-links={WORK}/wheels --requirement={WORK}/wheels/lock.txt"
)
PIP = (
    f"env PYTHONPATH=$(ls {WORK}/wheels/pip-*.whl) {WORK}/pip/bin/python -m pip install --no-index"
    f" --no-deps --require-hashes --no-compile --no-cache-dir --disable-pip-version-check"
    f" --find-links={WORK}/wheels --requirement={WORK}/wheels/lock.txt"
)
MODULES = "anyascii, flwr.app, flwr.clientapp, numpy, safetensors.numpy, syft, syft_rds, torch"


def timed(run: Run, command: str) -> float:
    """Return the seconds of a command that root runs on the board, what it wrote included."""
    script = f"set -e; begin=$(date +%s%N); {{ {command} ; }} > {WORK}/log 2>&1; sync; "
    end = "echo $((($(date +%s%N) - begin) / 1000000))"
    return int(run.ask(f"sudo bash -c '{script}{end}'", HOURS)) / 1000


def send_wheels(run: Run) -> None:
    """Bring the lock, its wheels and pip's onto the board."""
    lock = ROOT / "roles" / "wheelhouse" / "files" / "locks" / f"{LOCK}.txt"
    with tempfile.TemporaryDirectory() as name:
        extra = Path(name)
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", name, "pip"],
            check=True,
        )
        (extra / "lock.txt").write_text(lock.read_text())
        tar = ["tar", "-c", "-C", name, ".", "-C", str(WHEELS), "--exclude=./.*", "."]
        with subprocess.Popen(tar, stdout=subprocess.PIPE) as packed:
            command = f"sudo mkdir -p {WORK}/wheels && sudo tar -x -C {WORK}/wheels"
            subprocess.run(
                [*run.site.login(run.port), command], stdin=packed.stdout, check=True, timeout=HOURS
            )


def measure(run: Run) -> None:
    """Install in each way and write the rows."""
    with run.report.phase("wheels sent"):
        send_wheels(run)
    for name in ("venv", "pip"):
        run.ask(f"sudo python3 -m venv --without-pip {WORK}/{name}", HOURS)
    seconds = {}
    unpack_uv = f"python3 -m zipfile -e {WORK}/wheels/uv-*.whl {WORK}/uv; chmod +x"
    for name, command in {
        "uv": f"{unpack_uv} {WORK}/uv/uv-*.data/scripts/uv; {UV}",
        "pip": PIP,
        "our byte code": f'HOME={WORK} {WORK}/venv/bin/python -I -c "import {MODULES}"',
        "packing": f"tar -cf {WORK}/venv.tar -C {WORK}/venv .",
        "unpacking": f"mkdir {WORK}/copy; tar -xf {WORK}/venv.tar -C {WORK}/copy",
        "all byte code": f"{WORK}/pip/bin/python -m compileall -q {WORK}/pip/lib || true",
    }.items():
        with run.report.phase(name):
            seconds[name] = timed(run, command)
    wheels, built = (
        int(run.ask(f"sudo du -sm {WORK}/{what}").split()[0]) for what in ("wheels", "venv.tar")
    )
    publish(
        [
            row("uv", "s", seconds["uv"], seconds["pip"], times=True, of="pip"),
            row("byte code", "s", seconds["our byte code"], seconds["all byte code"], times=True,
                of="compileall over all packages"),
            row("unpacking", "s", seconds["unpacking"], seconds["uv"], of="uv"),
            row("sent", "MB", built, wheels, of="the wheels, which uv installs"),
        ],
        RESULTS,
    )  # fmt: skip


def main() -> None:
    """Boot a board, measure, power it off."""
    explained("install", __doc__).parse_args()
    report = Report(Console(soft_wrap=True))
    run = Run("trixie", "virt", 0, report, Site(CACHE / "install"))
    run.on_a_new_card(partial(measure, run))


if __name__ == "__main__":
    main()
