"""Nodes that are in the way of a run: real datasites of this account behind real gates."""

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from fedrnn.cluster import TRAINING, Cluster, ClusterError
from fedrnn.datasite.dataset import SCHEMA
from fedrnn.datasite.datasite import Datasite
from fedrnn.datasite.job_code import allow_list
from fedrnn.datasite.layout import DESCRIPTION, Site
from fedrnn.local import local_site
from fedrnn.member import owner_command
from fedrnn.transport.link import LocalLink

pytestmark = pytest.mark.slow  # real datasites and jobs

ROOT = Path(__file__).parents[2]
SENDER = "controller@lab.local"


@pytest.fixture
def cluster(tmp_path, names) -> Iterator:
    """Return a function that makes a cluster: of nodes that run our code, and that wait."""
    with ExitStack() as stack:

        @contextmanager
        def make(runs: int, wait: int, min_nodes: int | None, said: list[str]):
            approved, links = allow_list(["training"]), {}
            for number in range(1, runs + wait + 1):
                name = f"node{number}"
                owner = f"{name}@lab.local"
                allowed = approved if number <= runs else {}
                root = stack.enter_context(local_site(owner, SENDER, names, allowed))
                links[name] = (LocalLink(name, root, SENDER), owner)
            with Cluster(links, SENDER, tmp_path / "box", said.append, min_nodes) as made:
                yield made

        yield make


def same(member) -> dict:
    """The links of a second run to the node of a first one."""
    return {member.name: (LocalLink(member.name, member.link.root, SENDER), member.owner)}


def begin(made: Cluster) -> None:
    made.describe()
    made.submit()


def typed(line: str) -> None:
    """Do what a user does with a command that he is shown."""
    subprocess.run(line.replace("…", "'no way'"), shell=True, cwd=ROOT, check=True,
                   capture_output=True)  # fmt: skip


def shown(said: list[str], verb: str) -> str:
    """The command that the one line on a job that waits shows for a verb."""
    (line,) = (line for line in said if "the job waits" in line)
    return next(c for c in re.findall("`([^`]+)`", line) if f" {verb} train-" in c)


def in_background(made: Cluster, said: list[str], verb: str) -> threading.Thread:
    def wait_and_type() -> None:
        while not any("the job waits" in line for line in said):
            threading.Event().wait(0.05)
        typed(shown(said, verb))

    thread = threading.Thread(target=wait_and_type)
    thread.start()
    return thread


def test_the_commands_shown_for_a_local_node_work_as_they_stand(cluster):
    said: list[str] = []
    with cluster(0, 1, None, said) as made:
        begin(made)
        assert made.states() == {"node1": "pending"}
        thread = in_background(made, said, "approve")
        made.gather()
        thread.join()
        typed(shown(said, "show"))
        assert "node1: the job runs, approved by its owner" in said
        assert made.end() == {"node1": "done"}


def test_data_of_another_schema_stops_the_run_with_a_table(cluster):
    said: list[str] = []
    with cluster(2, 0, None, said) as made:
        site = Site.at(made.members[1].link.root)
        description = site.syftbox / DESCRIPTION
        told = json.loads(description.read_text())
        description.write_text(json.dumps({**told, "schema": "names.csv, two columns"}))
        Datasite(site).publish()
        table = f"differ in their schema:\n  node1: {SCHEMA}\n  node2: names.csv, two columns$"
        with pytest.raises(ClusterError, match=table):
            made.describe()


def test_a_node_whose_owner_denies_ends_the_run_with_his_reason(cluster):
    said: list[str] = []
    with cluster(0, 1, None, said) as made:
        begin(made)
        thread = in_background(made, said, "deny")
        with pytest.raises(ClusterError, match=r"^node1: the job is rejected: no way$"):
            made.gather()
        thread.join()


def test_a_node_that_is_being_upgraded_is_waited_for_in_words(cluster):
    said: list[str] = []

    def upgrade(site: Site) -> None:
        until = time.monotonic() + 60
        while not any("an upgrade keeps this node" in line for line in said):
            if time.monotonic() > until:
                break
            threading.Event().wait(0.05)
        site.drained.unlink()
        Datasite(site).step()

    with cluster(1, 0, None, said) as made:
        site = Site.at(made.members[0].link.root)
        site.drained.touch()
        upgrading = threading.Thread(target=upgrade, args=[site])
        upgrading.start()
        begin(made)
        made.gather()
        upgrading.join()
    assert [line for line in said if line.startswith("node1: the job waits: an upgrade")]
    assert "node1: the job runs" in said[-1]


def test_min_nodes_goes_on_without_an_owner_who_has_not_decided(cluster):
    said: list[str] = []
    with cluster(1, 1, 1, said) as made:
        begin(made)
        grid = made.gather()
        assert list(grid.get_node_ids()) == [1]
        assert "going on without node2: its owner has not decided" in said
        assert made.names == {1: "node1"}


def test_min_nodes_is_a_limit(cluster):
    said: list[str] = []
    with cluster(0, 2, 2, said) as made:
        begin(made)
        thread = threading.Thread(target=lambda: typed(_deny(made)))
        thread.start()
        thread.join()
        with pytest.raises(ClusterError, match="1 nodes would be left, --min-nodes is 2"):
            made.gather()


def _deny(made: Cluster) -> str:
    return f"{owner_command(made.members[1])} deny {made.job} --reason no"


def test_a_node_that_does_not_answer_is_left_out_as_long_as_enough_are_left(cluster, tmp_path):
    said: list[str] = []
    with cluster(2, 0, 1, said) as made:
        made.members[1].client.gate = LocalLink("node2", tmp_path / "gone", SENDER)
        begin(made)
        assert made.names == {1: "node1"}
        assert [line for line in said if line.startswith("going on without node2: ")]
    with cluster(1, 0, None, said) as made:
        made.members[0].client.gate = LocalLink("node1", tmp_path / "gone", SENDER)
        with pytest.raises(ClusterError, match=r"^node1: "):
            made.describe()


def test_a_second_run_is_told_who_holds_a_node_and_the_command_shown_frees_it(cluster, tmp_path):
    said: list[str] = []
    with cluster(1, 0, None, said) as first:
        begin(first)
        (member,) = first.members
        with Cluster(same(member), SENDER, tmp_path / "second", said.append) as second:
            with pytest.raises(ClusterError, match=f"{SENDER} holds it since .* {first.job}") as no:
                second.describe()
            typed(str(no.value).partition("have its owner end it: ")[2])
            second.describe()
        assert first.states() == {"node1": "failed"}


def test_what_a_run_has_left_on_a_node_that_was_out_of_reach_is_ended_by_the_next(
    cluster, tmp_path
):
    said: list[str] = []
    with cluster(1, 0, None, said) as first:
        begin(first)
        (member,) = first.members
        with Cluster(same(member), SENDER, tmp_path / "second", said.append) as second:
            with pytest.raises(ClusterError, match="holds it since"):
                second.describe({"train-of-another"})
            second.describe({first.job})
        assert first.states() == {"node1": "failed"}
    told = f"node1: still has the job {first.job} of a run that has ended"
    assert [line for line in said if line.startswith(told)], said


def kill(member, alone: bool) -> None:
    """Kill a local job: its worker, or all that could still get a word out, as a power cut does."""
    site = Site.at(member.link.root)
    (file,) = site.jobs.glob("*/pid")
    group = int(file.read_text())
    if not alone:
        os.killpg(group, signal.SIGKILL)
        within(10, lambda: not Path(f"/proc/{group}").exists())
        Datasite(site).step()  # as at the node's next start
        return
    children = subprocess.run(["pgrep", "-g", str(group)], capture_output=True, text=True)
    os.kill(max(map(int, children.stdout.split())), signal.SIGKILL)


def within(seconds: float, condition, told=lambda: "") -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, told()
        time.sleep(0.05)


def test_a_job_that_a_power_cut_has_ended_is_sent_anew_and_takes_part_again(cluster):
    said: list[str] = []
    with cluster(1, 0, None, said) as made:
        begin(made)
        grid = made.gather()
        (member,) = made.members
        kill(member, alone=False)
        within(5, grid.away)
        within(30, lambda: not grid.away(), lambda: said)
        told = f"node1: its job is lost, and was sent anew as {made.job}-again2: it ended without"
        assert [line for line in said if line.startswith(told)], said
        assert made.end() == {"node1": "done"}


def test_what_a_power_cut_has_left_of_a_resumed_run_is_ended_too(cluster, tmp_path):
    said: list[str] = []
    with cluster(1, 0, None, said) as first:
        begin(first)
        first.gather()
        (member,) = first.members
        kill(member, alone=False)
        within(30, lambda: any("the job runs" in line for line in said[2:]))
        with Cluster(same(member), SENDER, tmp_path / "second", said.append) as second:
            second.end_former([f"{TRAINING}unknown", first.job])
            second.describe()


@pytest.mark.parametrize("who", ["a signal", "its owner"])
def test_a_job_that_somebody_has_ended_is_not_sent_anew_and_costs_no_more_waiting(cluster, who):
    said: list[str] = []
    with cluster(1, 0, None, said) as made:
        begin(made)
        grid = made.gather()
        (member,) = made.members
        if who == "a signal":
            kill(member, alone=True)
        else:
            typed(f"{owner_command(member)} deny {made.job} --reason 'no more'")
        within(20, lambda: grid.workers[1]._task.done())
        why = "no more" if who == "its owner" else "it ended with the exit code 137"
        assert grid.away() == {1: f"node1: the job is failed: {why}"}
        assert made.end() == {"node1": "failed"} and not [line for line in said if "anew" in line]
