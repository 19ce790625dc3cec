"""Every place where a node's word is used on the controller, and what has checked it there.

A node's words are what its tasks register, and every variable that is made from them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

ROOT = Path(__file__).parents[2]
# Files of which every task runs on the controller. lab_told is what a node prints, in podman.
CONTROLLER = ("lab/tasks/", "roles/card/", "roles/flower/tasks/papers.yml")
INSIDE = {"lab_told", "ansible_failed_result", "ansible_facts", "ansible_local"}
# They run on the controller wherever they stand: what they register is no node's.
OURS = ("assert", "debug", "fail", "pause", "set_fact", "set_stats", "meta",
        "include_tasks", "include_role", "import_tasks", "import_role")  # fmt: skip
READS = re.compile(r"\b(lookup|query|q)\(|\bis (file|directory|exists)\b|realpath|hostvars")

# A variable made from a node's words that is none any more.
CHECKED = {
    "preflight_lock": "judge.py: the name of a lock that exists",
    "preflight_lock_file": "judge.py: the name of a lock that exists",
    "swap_own": "a name of swap_makers",
}
# Where the words are used, and what keeps them harmless.
HOST_KEY = "its own task: a host key of ed25519, whole"
WHOM = "decides for that node alone; paths and words are ours"
PLACES = {
    "lab/tasks/node.yml": {
        "The node lets the operator in, and tells its host key and its way out": WHOM,
        "Stop if the node gives no host key": "the check itself",
        "A node with a way out is restarted without it": WHOM,
        "Stop if the node has another host key than the pinned one": HOST_KEY,
        "The node's host key is pinned": HOST_KEY,
        "A node that was not there answers ssh with its pinned key": WHOM,
    },
    "playbooks/lab_up.yml": {"The virtual nodes run": HOST_KEY},
    "roles/dataset/tasks/embedded.yml": {
        "The embedded names are shared out on the controller": WHOM,
    },
    "roles/flower/tasks/install.yml": {
        "The controller knows the public key": "a key of P-384, whole"
    },
    "roles/flower/tasks/preflight.yml": {
        "Stop if no owner has allowed it": WHOM,
        "The controller waits for no SuperNode of it": WHOM,
    },
    "roles/identity/tasks/main.yml": {
        "Pin the identities of all nodes": "questions.py: 32 hexadecimal digits"
    },
    "roles/os/vars/main.yml": {
        "os_addresses": "questions.py: an address",
        "os_hosts": "questions.py: an address; it goes to the other nodes",
        "os_settings": "questions.py; files of ours, for that node alone",
    },
    "roles/preflight/tasks/main.yml": {
        "All nodes have been judged": "JSON on standard input; questions.py",
        "The report is written": "as JSON, to a path of the operator's",
    },
    "roles/torch/vars/main.yml": {"torch_proof_of": "hashed"},
    "roles/wheelhouse/tasks/install.yml": {
        # The task before: a list of texts, of which only counts whether it is empty.
        "Every wheel of the lock is on the controller and has its hash": WHOM,
        "The wheels are in one file, to be sent to the nodes that wait for them": WHOM,
    },
}


class Task(NamedTuple):
    file: str
    name: str
    on_controller: bool
    words: dict[str, Any]


def texts(node: Any) -> Iterator[str]:
    """Yield every text in a part of a YAML file."""
    if isinstance(node, dict):
        for value in node.values():
            yield from texts(value)
    elif isinstance(node, list):
        for value in node:
            yield from texts(value)
    else:
        yield str(node)


def tasks(file: str, nodes: Any, on_controller: bool) -> Iterator[Task]:
    """Yield the tasks and blocks of a list, plays included."""
    for node in nodes or []:
        here = on_controller or node.get("delegate_to") == "localhost"
        here = here or node.get("hosts") == "localhost"
        here = here or node.get("vars", {}).get("ansible_connection") == "local"
        inner = ("block", "rescue", "always", "pre_tasks", "tasks", "roles")
        own = {key: value for key, value in node.items() if key not in (*inner, "name")}
        yield Task(file, node.get("name", ""), here, own)
        for key in inner[:-1]:
            yield from tasks(file, node.get(key), here)


def read(pattern: str) -> list[tuple[str, Any]]:
    found = sorted(ROOT.glob(pattern))
    return [(str(path.relative_to(ROOT)), yaml.safe_load(path.read_text())) for path in found]


def everything() -> list[Task]:
    found: list[Task] = []
    for pattern in (
        "roles/*/tasks/*.yml",
        "roles/*/handlers/*.yml",
        "playbooks/*.yml",
        "lab/tasks/*.yml",
    ):
        for file, nodes in read(pattern):
            found += tasks(file, nodes, file.startswith(CONTROLLER))
    for pattern in ("roles/*/defaults/*.yml", "roles/*/vars/*.yml"):
        for file, variables in read(pattern):
            found += [Task(file, name, False, {"vars": {name: value}})
                      for name, value in (variables or {}).items()]  # fmt: skip
    return found


def mentions(part: Any, names: set[str]) -> bool:
    return any(names & set(re.findall(r"\w+", text)) for text in texts(part))


def made(task: Task) -> dict[str, Any]:
    """Return the variables that a task sets, with what they are made of."""
    return {**task.words.get("vars", {}), **task.words.get("ansible.builtin.set_fact", {})}


def node_words(all_tasks: list[Task]) -> set[str]:
    names = set(INSIDE)
    while True:
        more = {
            name
            for task in all_tasks
            for name, value in made(task).items()
            if mentions(value, names)
        }
        for task in all_tasks:
            ours = any(key.removeprefix("ansible.builtin.") in OURS for key in task.words)
            given = {key: value for key, value in task.words.items() if key != "register"}
            if (
                "register" in task.words
                and not ours
                and (not task.on_controller or mentions(given, names))
            ):
                more.add(task.words["register"])
        more -= set(CHECKED)
        if more <= names:
            return names
        names |= more


def places(all_tasks: list[Task]) -> set[tuple[str, str]]:
    names = node_words(all_tasks)
    found = set()
    for task in all_tasks:
        given = {key: value for key, value in task.words.items() if key != "register"}
        includes = [value for key, value in given.items() if re.search(r"(include|import)_", key)]
        sources = [value.get("src") for value in given.values() if isinstance(value, dict)]
        if (
            mentions([given] if task.on_controller else [includes, sources], names)
            or any(READS.search(text) and mentions(text, names) for text in texts(given))
        ):  # fmt: skip
            found.add((task.file, task.name))
    return found


def test_every_use_on_the_controller_is_listed() -> None:
    listed = {(file, name) for file, names in PLACES.items() for name in names}
    assert places(everything()) == listed


NEW = {
    "a path": "command: {chdir: '{{ __new.stdout }}'}\n  delegate_to: localhost",
    "a file that is read": "copy: {content: \"{{ lookup('file', __new.stdout) }}\"}",
    "tasks": "include_tasks: {file: '{{ made_of_new }}.yml'}",
    "another node": "debug: {msg: \"{{ hostvars[item].made_of_new }}\"}",
}  # fmt: skip


@pytest.mark.parametrize("use", NEW)
def test_a_new_use_is_found(use: str) -> None:
    text = (
        "- name: It tells\n  ansible.builtin.command: uname\n  register: __new\n"
        "- name: It is kept\n  ansible.builtin.set_fact: {made_of_new: '{{ __new.stdout }}'}\n"
        f"- name: It is used\n  {NEW[use]}\n"
    )
    assert places(list(tasks("new.yml", yaml.safe_load(text), False))) == {
        ("new.yml", "It is used")
    }


def test_facts_of_a_node_are_read_nowhere() -> None:
    ours = [
        path
        for folder in ("roles", "playbooks", "lab", "inventory")
        for path in ROOT.glob(f"{folder}/**/*")
    ]
    reads = re.compile(r"\bansible_(facts|local)\b")
    found = [
        path for path in ours if path.suffix in (".yml", ".j2") and reads.search(path.read_text())
    ]
    assert found == []


def plays(file: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the plays of a playbook in their order, those that it imports included."""
    for play in yaml.safe_load(file.read_text()):
        if name := play.get("ansible.builtin.import_playbook"):
            yield from plays(file.parent / name)
        else:
            yield file, play


@pytest.mark.parametrize(
    "name", [*sorted(path.name for path in ROOT.glob("playbooks/*.yml")), "../site.yml"]
)
def test_no_node_is_asked_before_the_settings_are_checked(name: str) -> None:
    checked = False
    for file, play in plays(ROOT / "playbooks" / name):
        here = (
            play["hosts"] == "localhost"
            or play.get("vars", {}).get("ansible_connection") == "local"
        )
        checked = checked or file.name == "inventory.yml"
        assert checked or here, play["name"]
