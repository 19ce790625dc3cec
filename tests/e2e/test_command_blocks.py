"""The command blocks of README and docs, typed line by line in a copy of the checkout.

A line is either run, or stands in ELSEWHERE with the test that does what it does or the reason why
one machine cannot.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cluster import INVENTORY

from fedrnn.checkout import ROOT

# The tutorial leaves the model that the other pages ask.
PAGES = [ROOT / "docs" / "tutorial.md", ROOT / "README.md",
         *sorted((ROOT / "docs").glob("*.md"))]  # fmt: skip
SETTING = re.compile(r"[a-z_]+: ")  # a line of an inventory
PIS, OWNER = "needs Pis at those addresses", "tests/e2e/test_governance.py, as a node's owner"
BACK = "tests/e2e/test_back_again.py"
BOARD = "an hour of emulation; tests/board has its parts"
ELSEWHERE = {
    "make demo": "may install system packages; its three commands are lines of their own",
    "make venv": "tests/unit/test_venv.py; here it would make another Python for the lab",
    "make venv && source .venv/bin/activate": "tests/unit/test_venv.py",
    "source .venv/bin/activate": "here the Python of the tests goes first",
    "ansible-playbook site.yml": "tests/e2e/test_site.py",
    "python -m fedrnn.run": "tests/e2e/test_training.py, whose default run it is",
    "import fedrnn": "tests/e2e/test_governance.py, with the lines below it",
    "with fedrnn.connect() as nodes:": "tests/e2e/test_governance.py",
    "python -m fedrnn.run --resume": "tests/faults/test_controller.py, after a kill",
    "python -m fedrnn.run --resume runs/2026-01-31T12-00-00": "tests/unit/test_resume.py",
    "ansible-playbook -i inventory/home site.yml": PIS,
    "python -m fedrnn.run --inventory inventory/home": PIS,
    "python -m fedrnn.nodes --inventory inventory/home --watch": PIS,
    "ansible-playbook -i inventory/home playbooks/preflight.yml": PIS,
    "make verify INVENTORY=inventory/home": PIS,
    "ssh-keyscan -t ed25519 192.168.1.21 192.168.1.22 > inventory/home/known_hosts": PIS,
    "ssh-keygen -lf inventory/home/known_hosts": PIS,
    "ssh-keyscan -t ed25519 192.168.1.24 >> inventory/home/known_hosts": PIS,
    "ssh-keyscan -t ed25519 192.168.1.21 >> inventory/home/known_hosts": PIS,
    "ssh-keygen -R 192.168.1.21 -f inventory/home/known_hosts": PIS,
    "ssh-keygen -R 192.168.1.23 -f inventory/home/known_hosts": PIS,
    "ansible-playbook -i inventory/home playbooks/reset.yml --limit pi-garage": BACK,
    "sed -i '/^pi-garage /d' inventory/home/known_nodes": BACK,
    "sed -i '/^pi-kitchen /d' inventory/home/known_nodes": BACK,
    "sed -i 's/^pi-attic /pi-loft /' inventory/home/known_nodes": BACK,
    "$EDITOR inventory/home/hosts.yml": "needs a person",
    "$EDITOR inventory/home/hosts.yml inventory/home/group_vars/nodes.yml": "needs a person",
    'echo "$USER ALL=(ALL) NOPASSWD: ALL" | sudo tee /etc/sudoers.d/010_operator':
        "changes who may what here; lab/tasks/base.yml does so for the lab",
    "ansible-playbook -i inventory/home playbooks/sdcard.yml --limit pi-kitchen "
    "-e image=~/Downloads/raspios-trixie-arm64-lite.img.xz -e device=/dev/sdX":
        "overwrites a disk; tests/e2e/test_sdcard.py writes a file",
    "scp -r you@first-controller:fedrnn/inventory/home/keys inventory/home/": "needs two machines",
    "ansible-playbook -i inventory/home site.yml -e pysyft_retired_keys=SHA256:…":
        "tests/e2e/test_preflight.py",
    "ansible-playbook -i inventory/home playbooks/upgrade.yml": BACK,
    "ansible-playbook -i inventory/home playbooks/reset.yml --check": "tests/e2e/test_site.py",
    "ansible-playbook -i inventory/home playbooks/reset.yml": BACK,
    "ansible-playbook -i inventory/home playbooks/flower.yml": "tests/e2e/test_flower.py",
    "python -m fedrnn.run --inventory inventory/home --engine superlink --without-governance "
    "--strategy fedavg": "tests/e2e/test_flower.py",
    "fedrnn-owner list": OWNER,
    "fedrnn-owner show JOB": OWNER,
    "fedrnn-owner approve JOB": OWNER,
    "make board": BOARD,
    "make board OS=bookworm": BOARD,
    "make board MACHINE=raspi3b": BOARD,
    "make cores": "a quarter of an hour of emulation; tests/board/test_cores.py runs one core",
    "pytest tests/unit/test_codec.py": "these tests, and others",
    "pytest tests/e2e/test_os.py -k locked_out": "these tests, and others",
    "pytest -n 3 --no-loadscope-reorder tests/e2e": "these tests, and others",
}  # fmt: skip


def lines() -> list[str]:
    """Return each line of a block once, in the order of PAGES, without what explains it."""
    found = []
    for page in PAGES:
        text = re.sub(r" *\\\n *", " ", page.read_text())
        found += [line.partition("   #")[0].rstrip() for line in
                  re.findall(r"(?m)^ {4}(\S.*)$", text) if not SETTING.match(line)]  # fmt: skip
    return list(dict.fromkeys(found))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, so that its runs/ and inventory/ can be written to; the lab is this checkout's."""
    copy = tmp_path_factory.mktemp("typed") / "fedrnn"
    copy.mkdir()
    shutil.copytree(ROOT / "fedrnn", copy / "fedrnn")
    shutil.copytree(ROOT / "inventory" / "example", copy / "inventory" / "example")
    (copy / "inventory" / "lab").symlink_to(INVENTORY)
    (copy / "roles").symlink_to(ROOT / "roles")
    (copy / "names.txt").write_text("Kowalski\nVirtanen\n")
    return copy


def test_what_is_said_to_be_elsewhere_is_there_and_still_written() -> None:
    assert set(ELSEWHERE) <= set(lines())
    for why in ELSEWHERE.values():
        for name in re.findall(r"\b(?:tests|lab)/[\w/.]+", why):
            assert (ROOT / name).exists(), name


@pytest.mark.usefixtures("lab")
def test_every_other_line_works_as_it_is_written(checkout: Path) -> None:
    typed = [line for line in lines() if line not in ELSEWHERE]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    said = {}
    for line in typed:
        if "runs/2026-01-31T12-00-00" in line:  # as the pages call a run
            (checkout / "runs" / "2026-01-31T12-00-00").symlink_to("latest")
        done = subprocess.run(
            ["bash", "-euc", line], cwd=checkout, env={**os.environ, "PATH": path},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        said[line] = done.stdout
    assert len(typed) == 15
    assert json.loads(said["tail -n 1 rounds.jsonl"])["event"] == "message"
    for line in (line for line in typed if "fedrnn.predict" in line):
        assert re.search("Kowalski|Virtanen", said[line]) and (
            "%" in said[line] or "{" in said[line]
        )
    assert "3 of 3 nodes are healthy" in said["python -m fedrnn.nodes"]
    assert (checkout / "runs" / "latest" / "report.html").is_file()
    assert (checkout / "runs" / "compare.html").is_file()
    assert (checkout / "inventory" / "home" / "hosts.yml").is_file()
