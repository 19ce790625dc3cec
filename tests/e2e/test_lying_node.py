"""A node whose Python gives any answer to a module, and whose programs give any to preflight."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import INVENTORY, Lab, Run, ansible_playbook, flat

LIAR, OTHER = "pi1", "pi2"  # the first node of a lock has its wheels fetched
# What is asked by -c is preflight's; all else is a module, on standard input.
PYTHON = """#!/bin/sh
case $1 in -*) exec /usr/bin/python3.11 "$@" ;; esac
cat >> /root/asked
cat /root/lie
"""
TRUE = {"changed": False, "rc": 0, "stdout": "", "stderr": "", "drift": [], "fresh": False,
        "paths": [], "stat": {"exists": False}}  # fmt: skip
MARK = "c0ffee" * 8
FORGED = "all nodes are well"


class Liar:
    """The lying node, and what on the controller is none of its business: `folder`."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.folder = lab, folder
        (folder / "secret.txt").write_text(f"{MARK}\n")
        (folder / "main.py").write_text("print('private')\n")
        self.before = self.files()

    def root(self, command: str) -> str:
        return self.lab.podman("exec", self.lab.container(LIAR), "sh", "-euc", command)

    def files(self) -> dict[str, str]:
        return {str(path): path.read_text() for path in sorted(self.folder.rglob("*"))}

    def says(self, **answers: object) -> None:
        """Let every module of the node answer this."""
        lie = shlex.quote(json.dumps({**TRUE, **answers}))
        self.root(f"printf %s {lie} > /root/lie; : > /root/asked")

    def facts(self) -> dict[str, object]:
        """What would make paths of the controller, were they variables."""
        up = "../" * 30
        return {
            "wheelhouse_lock": f"{up}{self.folder}/secret",
            "preflight_lock": f"{up}{self.folder}/secret",
            "preflight_lock_file": f"{self.folder}/secret.txt",
            "wheelhouse_cache": str(self.folder),
            "dataset_shares": str(self.folder),
            "pysyft_approved_jobs": [str(self.folder)],
            "ansible_local": {"preflight_told": {}},
        }

    def check(self, run: Run) -> None:
        """Nothing of the folder was read or written."""
        asked = self.root("cat /root/asked")
        assert len(asked) > 1000, run.tail()  # modules have met the liar
        private = hashlib.sha256((self.folder / "main.py").read_bytes()).hexdigest()
        assert MARK not in asked + run.text and private not in asked, run.tail()
        assert self.files() == self.before, run.tail()
        assert "Traceback" not in run.text


@pytest.fixture
def liar(lab: Lab, tmp_path: Path) -> Iterator[Liar]:
    node = Liar(lab, tmp_path)
    node.root(f"rm /usr/bin/python3; printf %s {shlex.quote(PYTHON)} > /usr/bin/python3;"
              " chmod 755 /usr/bin/python3")  # fmt: skip
    yield node
    node.root("ln -sfn python3.11 /usr/bin/python3; rm -f /root/asked /root/lie")


@pytest.mark.parametrize("tags", ["os_configure,wheelhouse", "wheelhouse,pysyft"])
def test_facts_of_a_node_lead_nowhere(liar: Liar, tags: str) -> None:
    liar.root("rm -f /opt/fedrnn/.os-in-force")  # role os has something to ask
    names = liar.facts()
    if "pysyft" in tags:  # the lock is right, so that all else is reached
        names = {name: value for name, value in names.items() if "lock" not in name}
    liar.says(ansible_facts=names)
    liar.check(ansible_playbook("--limit", LIAR, "--tags", tags, "playbooks/cluster.yml"))


def test_a_result_that_is_none_stops_that_node_alone(liar: Liar) -> None:
    liar.says(drift={"x": 1}, fresh="{{ 1 }}")
    limit = f"{LIAR},{OTHER},localhost"
    run = ansible_playbook("--limit", limit, "--tags", "wheelhouse", "site.yml")
    liar.check(run)
    assert f"{LIAR} did not compare /opt/fedrnn/venv with its lock" in flat(run.text)
    assert run.rc == 2 and OTHER in run.changed and f"{OTHER} failed" not in run.text


PROBES = {"dpkg": "../../../etc/x", "date": "²", "uname": "$(reboot)", "df": "a b"}


def test_a_malformed_answer_stops_its_node_and_names_the_question(liar: Liar) -> None:
    for program, says in PROBES.items():
        text = f"#!/bin/sh\necho {shlex.quote(says)}\n"
        path = f"/usr/local/bin/{program}"
        liar.root(f"printf %s {shlex.quote(text)} > {path}; chmod 755 {path}")
    try:
        run = ansible_playbook("--limit", f"{LIAR},{OTHER}", "playbooks/preflight.yml")
    finally:
        liar.root("cd /usr/local/bin; rm " + " ".join(PROBES))
    stops = [line for line in run.text.splitlines() if "STOP" in line and "malformed" in line]
    assert run.rc == 2 and len(stops) == 1 and LIAR in stops[0], run.tail()
    assert "malformed answer to: clock, kernel, userland, hostname, disk" in flat(run.text)
    assert "Traceback" not in run.text and "../etc/x" not in run.text


PLAYBOOKS = {
    "upgrade": ("playbooks/upgrade.yml",),
    "flower": ("playbooks/flower.yml",),
    "reset": ("-e", "confirm=lab", "playbooks/reset.yml"),
}


@pytest.mark.apart
@pytest.mark.parametrize("name", PLAYBOOKS)
def test_the_other_playbooks_believe_no_more(liar: Liar, name: str) -> None:
    key = f"ssh-rsa AAAA\n{FORGED}"
    liar.says(ansible_facts=liar.facts(), stat={"exists": name == "flower"}, public_key=key,
              ansible_stats={"data": {"last_words": FORGED}, "per_host": False})  # fmt: skip
    run = ansible_playbook("--limit", f"{LIAR},localhost", *PLAYBOOKS[name])
    liar.check(run)
    assert f"\n{FORGED}\n" not in run.text
    assert not (INVENTORY / f"keys/flower/{LIAR}.pub").exists()
    if name == "flower":
        assert f"What {LIAR} gives as its public key is none" in flat(run.text)
