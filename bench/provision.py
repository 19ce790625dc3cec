"""What provisioning costs: with nothing to do, from bare nodes, and with twice as many.

`python -m bench.provision` uses copies of this clone with labs of their own, and their warm caches;
the lab of this clone is left alone. About fifteen minutes. `--rows unchanged` measures one row.

unchanged: `site.yml` on three nodes that need nothing, as a multiple of `ansible all -m ping`
bare:      `site.yml` on three bare nodes, their images, wheels and packages in the caches, seconds
six:       the same on six bare nodes, as a multiple of `bare`
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "provision.json"
PROGRAMS = Path(sys.executable).parent
PAIRS = 3


@contextmanager
def clone(nodes: int) -> Iterator[Path]:
    """Give a copy of this clone whose lab has so many nodes; remove both afterwards.

    Its caches are linked hard: what is in them is never written to, only replaced.
    """
    folder = Path(tempfile.mkdtemp(prefix="provision-")) / "fedrnn"
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, check=True)
    for name in tracked.stdout.decode().splitlines():
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    for name in ("lab", "apt", "wheelhouse"):
        shutil.copytree(ROOT / ".cache" / name, folder / ".cache" / name, copy_function=os.link)
    # The lab's configuration of podman names its clone.
    (folder / ".cache/lab/containers.conf").unlink(missing_ok=True)
    shutil.rmtree(folder / ".cache/lab/hooks", ignore_errors=True)
    names = "".join(f"        pi{number}:\n" for number in range(1, nodes + 1))
    text = f"nodes:\n  children:\n    lab:\n      hosts:\n{names}"
    (folder / "inventory/lab/hosts.yml").write_text(text)
    try:
        yield folder
    finally:
        subprocess.run([sys.executable, folder / "lab/down.py"], check=False)
        shutil.rmtree(folder.parent)


def seconds(folder: Path, *command: str) -> float:
    """Run a program of Ansible in a clone; give what it took. Ends with its output if it fails."""
    started = time.perf_counter()
    done = subprocess.run(
        [PROGRAMS / command[0], *command[1:]],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
    return time.perf_counter() - started


def bare(folder: Path) -> float:
    """Give the seconds of site.yml on nodes that run and have nothing."""
    seconds(folder, "ansible-playbook", "playbooks/lab_up.yml")
    return seconds(folder, "ansible-playbook", "site.yml")


def unchanged(folder: Path) -> dict[str, float]:
    """Give the seconds of a run with nothing to do and of a ping, and how many pings it takes."""
    pairs = []
    for _ in range(PAIRS):
        ping = seconds(folder, "ansible", "nodes", "-m", "ping")
        pairs.append((seconds(folder, "ansible-playbook", "site.yml"), ping))
    site, ping = (statistics.median(column) for column in zip(*pairs, strict=True))
    multiple = statistics.median(run / ping for run, ping in pairs)
    return {"site_s": round(site, 1), "ping_s": round(ping, 2), "multiple": round(multiple, 1)}


def main() -> None:
    """Measure the rows, print them and keep them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default="bare,unchanged,six")
    rows = parser.parse_args().rows.split(",")
    result = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    with clone(3) as folder:
        three = bare(folder)
        result["bare"] = {"seconds": round(three, 1)}
        if "unchanged" in rows:
            result["unchanged"] = unchanged(folder)
    if "six" in rows:
        with clone(6) as folder:
            six = bare(folder)
        result["six"] = {"seconds": round(six, 1), "multiple": round(six / three, 2)}
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
