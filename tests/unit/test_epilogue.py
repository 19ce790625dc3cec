"""What a playbook says at its end, and while a task takes long: real playbooks on this machine."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "callbacks"))
from epilogue import command  # noqa: E402


def play(folder: Path, tasks: str, *words: str) -> subprocess.CompletedProcess[str]:
    (folder / "roles" / "slow" / "tasks").mkdir(parents=True)
    (folder / "roles" / "slow" / "tasks" / "main.yml").write_text(tasks)
    (folder / "play.yml").write_text(
        "- hosts: all\n  gather_facts: false\n  connection: local\n  roles: [slow]\n"
    )
    return run(folder, "-i", "pi1,pi2,", "play.yml", *words)


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    return subprocess.run(
        ["ansible-playbook", *words],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_what_failed_is_the_last_thing_one_reads_with_the_command_to_go_on(tmp_path):
    tasks = (
        "- name: Nobody minds\n  ansible.builtin.fail: {msg: ignored}\n  ignore_errors: true\n"
        "- name: Something is rescued\n  block: [{ansible.builtin.fail: {msg: rescued}}]\n"
        "  rescue: [{ansible.builtin.debug: {msg: well}}]\n"
        "- name: The disk has room\n  ansible.builtin.fail: {msg: no room on pi2}\n"
        "  when: inventory_hostname == 'pi2'\n"
    )
    done = play(tmp_path, tasks, "-e", "token=secret")
    assert done.returncode == 2
    last = done.stdout[done.stdout.index("PLAY RECAP") :]
    assert last.splitlines()[-4:] == [
        "pi2 failed: slow : The disk has room", "    no room on pi2", "",
        "Once that is mended, go on with: ansible-playbook -i pi1,pi2, play.yml -e …",
    ]  # fmt: skip
    assert last.count(" failed: ") == 1


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["-e", "a=secret"], "-e …"),
        (["-ea=secret", "-v"], "… -v"),
        (["--extra-vars", "a=secret"], "--extra-vars …"),
        (["--extra-vars=a=secret"], "…"),
        (["--limit", "pi1", "site.yml"], "--limit pi1 site.yml"),
    ],
)
def test_what_variables_hold_is_not_shown_again(words, shown):
    assert command(["/bin/ansible-playbook", *words]) == f"ansible-playbook {shown}"


def test_a_node_that_cannot_be_reached_is_told_of_likewise(tmp_path):
    tasks = (
        "- name: The node answers\n  ansible.builtin.command: id\n"
        "  vars: {ansible_connection: ssh, ansible_host: 127.0.0.1, ansible_port: 1}\n"
        "  when: inventory_hostname == 'pi2'\n"
    )
    done = play(tmp_path, tasks)
    assert done.returncode == 4
    last = done.stdout[done.stdout.index("PLAY RECAP") :].splitlines()[-4:]
    assert last[0] == "pi2 cannot be reached: slow : The node answers"
    assert "Connection refused" in last[1]
    assert last[2:] == [
        "",
        "Once that is mended, go on with: ansible-playbook -i pi1,pi2, play.yml",
    ]


def upgrade(folder: Path, tasks: str) -> subprocess.CompletedProcess[str]:
    """The upgrade of three nodes, with these tasks in the place of what is done to each."""
    *_, play = yaml.safe_load((ROOT / "playbooks/upgrade.yml").read_text())
    place, whole = play["tasks"]
    whole["block"] = yaml.safe_load(tasks)
    play |= {"hosts": "all", "connection": "local", "tasks": [place, whole]}
    (folder / "play.yml").write_text(yaml.safe_dump([play]))
    return run(folder, "-i", "pi1,pi2,pi3,", "play.yml")


LAST = [
    "",
    "Done before pi2: pi1. Not touched: pi3. The same command begins anew with the first node;"
    " what is done takes seconds.",
    "",
    "Once that is mended, go on with: ansible-playbook -i pi1,pi2,pi3, play.yml",
]


def test_an_upgrade_whose_node_is_gone_ends_there_and_tells_what_is_done_and_what_is_not(tmp_path):
    done = upgrade(
        tmp_path,
        "- ansible.builtin.command: id\n  when: inventory_hostname == 'pi2'\n"
        "  vars: {ansible_connection: ssh, ansible_host: 127.0.0.1, ansible_port: 1}\n",
    )
    assert done.returncode == 4, done.stdout
    assert done.stdout.splitlines()[-4:] == LAST


def test_an_upgrade_whose_node_fails_at_once_ends_there_likewise(tmp_path):
    (tmp_path / "library").mkdir()
    lie = '{"ansible_stats": {"data": {"last_words": "all nodes are well"}, "per_host": false}}'
    (tmp_path / "library/lie").write_text(f"#!/bin/sh\necho '{lie}'\n")
    done = upgrade(
        tmp_path,
        "- lie:\n- name: Its note is written\n  ansible.builtin.fail: {msg: the disk is full}\n"
        "  when: inventory_hostname == 'pi2'\n",
    )
    assert done.returncode == 2, done.stdout
    assert [line.strip() for line in done.stdout.splitlines()[-6:-4]] == [
        "pi2 failed: upgrade : Stop at the first node that fails",
        "pi2 is not upgraded: Its note is written: the disk is full. pi2 goes on as before.",
    ]
    assert done.stdout.splitlines()[-4:] == LAST


@pytest.mark.slow
def test_a_long_task_is_told_of_with_how_far_it_is_and_every_roles_time(tmp_path):
    tasks = (
        "- name: It is begun\n  ansible.builtin.shell: echo old > $FEDRNN_PROGRESS/one\n"
        "- name: It is built\n"
        "  ansible.builtin.shell: echo 3 of 7 > $FEDRNN_PROGRESS/two; sleep 17\n"
        "  when: inventory_hostname == 'pi2'\n"
    )
    done = play(tmp_path, tasks)
    assert done.returncode == 0
    assert re.fullmatch(r"… slow : It is built: 1\d s, pi2, 3 of 7\n", done.stderr)
    assert re.fullmatch(r"Time by role: slow \d\d s", done.stdout.splitlines()[-1])
