"""A node that lags: left out with a word, and taken back."""

from __future__ import annotations

import threading

from faults import root

NEAR = 0.01
WORKER = "$(pgrep -G fedrnn-wire | head -n 1)"


def test_a_node_ten_times_slower_is_left_out_by_the_deadline_and_taken_back(
    start, lab, undisturbed
):
    """Its late replies are dropped, and no round waits for it while it works on an old one."""
    run = start("--set", "timeout=2")
    run.until_round(40)
    turn = f"kill -STOP {WORKER}; sleep 2.7; kill -CONT {WORKER}; sleep 0.3"
    slow = f"for i in $(seq 6); do {turn}; done"
    braked = threading.Thread(target=root, args=(lab, "pi2", slow))
    braked.start()
    assert run.end() == 0, run.said
    braked.join()
    assert "pi2 is left out from round" in run.said and "pi2 is back in round" in run.said
    assert "pi2: no reply in time" in run.said
    late = [event for event in run.rounds() if event["seconds"] > 1.9]
    assert 1 <= len(late) <= 8 and run.longest() < 4, "rounds wait for a node that is known to lag"
    assert abs(run.summary()["accuracy"] - undisturbed["accuracy"]) < NEAR
