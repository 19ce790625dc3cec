"""Links that break and come back: the run ends as if nothing had been, or nearly so."""

from __future__ import annotations

import re
import signal
import time

import pytest
from faults import EASIER, NEAR, ROUNDS, inside, root
from relay import relayed


def test_a_network_that_is_cut_for_ten_seconds_costs_ten_seconds(start, link, undisturbed):
    cut, restore = link
    # Evaluated at the end alone: it is a round that waits.
    run = start("--set", f"evaluate_every={ROUNDS}")
    run.until_round(60)
    cut("pi2")
    time.sleep(10)
    restore("pi2")
    assert run.end() == 0, run.said
    assert run.accuracy() > undisturbed.accuracy() - NEAR
    assert 9 < run.longest() < 40 and run.summary()["rounds"] == ROUNDS
    assert len(run.without("pi2")) < 60, run.said


LOSS = ("-m", "statistic", "--mode", "random", "--probability", "0.05", "-j", "DROP")


@pytest.fixture
def loss(lab):
    """Have one packet in twenty to and from a node lost, until told otherwise."""
    bad = []

    def change(node, how):
        for chain in ("INPUT", "OUTPUT"):
            inside(lab, node, "iptables", how, chain, "-p", "tcp", *LOSS)

    def start(node):
        change(node, "-A")
        bad.append(node)

    def dropped(node):
        """How many packets were lost, to the node and from it."""
        told = [inside(lab, node, "iptables", "-nvxL", chain) for chain in ("INPUT", "OUTPUT")]
        return [int(re.search(r"^ *(\d+) .* statistic ", rules, re.M)[1]) for rules in told]

    def stop():
        while bad:
            change(bad.pop(), "-D")

    yield start, dropped, stop
    stop()


def test_packets_that_are_lost_cost_time_and_nothing_else(start, loss, undisturbed):
    begin, dropped, stop = loss
    run = start()
    run.until_round(60)
    begin("pi2")
    run.until_round(90, 240)
    while not all(dropped("pi2")):  # so few rounds may be lucky, but not all that are left
        run.until_round(len(run.rounds()) + 10, 240)
    stop()
    assert run.end() == 0, run.said
    assert not run.without("pi2"), run.said
    assert run.summary()["model_sha256"] == undisturbed.summary()["model_sha256"]


def test_a_path_that_dies_within_a_frame_costs_its_node_the_run_and_nobody_else(
    start, tmp_path, undisturbed
):
    with relayed(tmp_path, "pi2") as (inventory, relay):
        run = start("--inventory", str(inventory), "--set", "timeout=10")
        run.until_round(60)
        before, now = (event["traffic"]["pi2"]["up"] for event in run.rounds()[-2:])
        relay.cut = (now - before) // 2  # of a reply, which are much of a size
        assert run.end() == 0, run.said
        assert relay.is_dead
    assert "pi2 is left out from round" in run.said and "pi2: no reply in time" in run.said
    assert "pi2: its worker is out of reach: " in run.said
    assert run.longest() < 15 and run.summary()["rounds"] == ROUNDS
    assert run.summary()["jobs"]["pi2"].startswith("unknown")
    assert run.accuracy("pi1", "pi3") > undisturbed.accuracy("pi1", "pi3") + EASIER[2]
    again = start("--rounds", "5")  # over a path that is whole: nobody need free the node by hand
    assert again.end() == 0, again.said
    assert f"pi2: still has the job {run.job()} of a run that ended while it was" in again.said


def test_a_path_with_a_delay_of_200_ms_costs_200_ms_a_round(start, tmp_path, undisturbed):
    with relayed(tmp_path, "pi2") as (inventory, relay):
        run = start("--inventory", str(inventory))
        run.until_round(60)
        relay.delay = 0.2
        run.until_round(120)
        relay.delay = 0.0
        assert run.end() == 0, run.said
    slow = sorted(event["seconds"] for event in run.rounds()[65:115])
    assert slow[0] > 0.2 and slow[25] < 0.5, slow
    assert not run.without("pi2"), run.said
    assert run.summary()["model_sha256"] == undisturbed.summary()["model_sha256"]


@pytest.mark.quick
def test_an_sshd_that_is_restarted_with_its_sessions_killed_is_reached_anew(start, lab):
    """In a quarter of the rounds: accuracy is not the point."""
    few = ("--rounds", str(ROUNDS // 4))
    undisturbed = start(*few)
    assert undisturbed.end() == 0, undisturbed.said
    run = start(*few)
    run.until_round(5)
    root(lab, "pi1", "systemctl restart ssh; pkill -9 -f '[s]shd: fedrnn'")
    assert run.end() == 0, run.said
    assert "pi1: its worker is out of reach: " in run.said, run.said
    assert "pi1: its worker is there again, after " in run.said
    assert run.longest() < 10 and not run.without("pi1")
    assert run.summary()["reconnects"] == 1
    assert run.summary()["model_sha256"] == undisturbed.summary()["model_sha256"]


def test_with_fewer_nodes_than_min_nodes_a_run_ends_in_words_and_can_be_resumed(start, link):
    """It never waits for ever."""
    cut, restore = link
    run = start("--min-nodes", "2", "--rounds", "2000")
    run.until_round(60)
    for node in ("pi2", "pi3"):
        cut(node)
    started = time.monotonic()
    assert run.end(120) == 1, run.said
    assert time.monotonic() - started < 110
    assert "--min-nodes is 2" in run.said and "pi1" in run.said, run.said
    assert f"python -m fedrnn.run --resume runs/{run.folder.name}" in run.said
    assert "Traceback" not in run.said
    for node in ("pi2", "pi3"):
        restore(node)
    again = start("--resume")  # which also ends the jobs that nobody could end on those two
    again.folder = run.folder
    again.until_round(done := len(run.rounds()) + 1)
    again.process.send_signal(signal.SIGINT)
    assert again.end() == 130 and len(again.rounds()) >= done
    assert set(again.summary()["jobs"].values()) == {"done"}
