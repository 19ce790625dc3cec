"""Links that break and come back: the run ends as if nothing had been, or nearly so."""

from __future__ import annotations

import time

import pytest
from faults import inside

NEAR = 0.01


@pytest.fixture
def link(lab):
    """Cut a node off, and have it back in any case."""
    down = []

    def cut(node):
        down.append(node)
        inside(lab, node, "ip", "link", "set", "eth0", "down")

    def restore(node):
        inside(lab, node, "ip", "link", "set", "eth0", "up")

    yield cut, restore
    for node in down:
        restore(node)


def test_a_network_that_is_cut_for_ten_seconds_costs_ten_seconds(start, link, undisturbed):
    cut, restore = link
    run = start()
    run.until_round(60)
    cut("pi2")
    time.sleep(10)
    restore("pi2")
    assert run.end() == 0, run.said
    assert abs(run.summary()["accuracy"] - undisturbed["accuracy"]) < NEAR
    assert run.longest() < 40 and run.summary()["rounds"] == 300
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

    def stop():
        while bad:
            change(bad.pop(), "-D")

    yield start, stop
    stop()


def test_packets_that_are_lost_cost_time_and_nothing_else(start, loss, undisturbed):
    begin, stop = loss
    run = start()
    run.until_round(60)
    begin("pi2")
    run.until_round(160, 240)
    stop()
    assert run.end() == 0, run.said
    assert not run.without("pi2"), run.said
    assert run.summary()["model_sha256"] == undisturbed["model_sha256"]
