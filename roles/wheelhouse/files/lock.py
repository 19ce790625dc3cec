#!/usr/bin/env python3
"""Make the locks: for each kind of node, every wheel it needs, with the hash of the one file.

    make locks                    # all of them
    lock.py aarch64-cp311         # one

uv resolves for the other machine (pip would evaluate the markers of this one); pip then says
which file of each package it would take there, and only that file's hash goes into the lock.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import wheelhouse

NAMES = ("x86_64-cp311", "aarch64-cp311", "aarch64-cp312", "aarch64-cp313")
CONTROLLER = Path(__file__).resolve().parents[3] / "requirements.txt"
PIN = re.compile(r"^([a-z0-9-]+)==([^\s;]+)")


def find_links() -> list[str]:
    """Give pip's find-links, which uv does not read by itself."""
    listed = wheelhouse.run_pip(["config", "get", "global.find-links"]).stdout
    return [*os.environ.get("PIP_FIND_LINKS", "").split(), *listed.split()]


def constraints() -> str:
    """Give the controller's versions, so that both ends agree; torch differs by architecture."""
    lines = CONTROLLER.read_text().splitlines()
    return "\n".join(line for line in lines if PIN.match(line) and not line.startswith("torch=="))


def resolve(lock: str, work: Path) -> list[str]:
    """Give ``name==version`` of every package a node of this lock needs."""
    machine, _, python = lock.partition("-cp3")
    (work / "constraints.txt").write_text(constraints())
    links = [option for place in find_links() for option in ("--find-links", place)]
    if not any(Path(place).glob("torch-*+cpu-*.whl") for place in find_links()):
        links += ["--torch-backend", "cpu"]
    command = ["uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate"]
    command += ["--only-binary", ":all:", "--python-version", f"3.{python}"]
    command += ["--python-platform", f"{machine}-manylinux_2_{wheelhouse.glibc(python)}"]
    command += [*links, "-c", str(work / "constraints.txt"), str(wheelhouse.LOCKS / "node.in")]
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    if done.returncode:
        raise wheelhouse.WheelhouseError(f"uv found no solution for {lock}:\n{done.stderr}")
    return [match[0] for line in done.stdout.splitlines() if (match := PIN.match(line))]


def choose(lock: str, packages: list[str], work: Path) -> list[wheelhouse.Pin]:
    """Ask pip which file of each package it takes on such a node; nothing is downloaded."""
    report = work / "report.json"
    options = ["install", "--dry-run", "--quiet", "--ignore-installed", "--no-deps"]
    options += ["--target", str(work / "unused"), "--report", str(report)]
    target = wheelhouse.pip_target(lock)
    pins = []
    groups = [
        ([p for p in packages if "+" not in p], [[]]),
        ([p for p in packages if "+" in p], [[], ["--index-url", wheelhouse.TORCH_CPU]]),
    ]
    for group, indexes in groups:
        if not group:
            continue
        for index in indexes:
            done = wheelhouse.run_pip([*options, *index, *target, *group])
            if done.returncode == 0:
                break
        else:
            raise wheelhouse.WheelhouseError(
                f"pip finds no wheel for {lock}:\n{wheelhouse.complaint(done)}"
            )
        for item in json.loads(report.read_text())["install"]:
            pins.append(pin_of(item))
    return sorted(pins, key=lambda pin: pin.name)


def pin_of(item: dict) -> wheelhouse.Pin:
    """Turn one entry of pip's installation report into a line of the lock."""
    info, meta = item["download_info"], item["metadata"]
    digest = info.get("archive_info", {}).get("hashes", {}).get("sha256")
    if digest is None:
        # Only a file of find-links comes without a hash from an index.
        digest = wheelhouse.sha256(Path(info["url"].removeprefix("file://")))
    name = re.sub(r"[-_.]+", "-", meta["name"]).lower()
    return wheelhouse.Pin(name, meta["version"], digest)


def main(argv: list[str]) -> int:
    """Write the locks that are named, or all."""
    for lock in argv or NAMES:
        machine, _, python = lock.partition("-cp3")
        with tempfile.TemporaryDirectory() as work:
            try:
                pins = choose(lock, resolve(lock, Path(work)), Path(work))
            except wheelhouse.WheelhouseError as error:
                print(error, file=sys.stderr)
                return 1
        head = (
            f"# Made by `make locks` from node.in: {machine}, Python 3.{python}, "
            f"glibc 2.{wheelhouse.glibc(python)}. One wheel a line.\n"
        )
        path = wheelhouse.LOCKS / f"{lock}.txt"
        path.write_text(head + "".join(f"{pin}\n" for pin in pins))
        print(f"{path.name}: {len(pins)} wheels")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
