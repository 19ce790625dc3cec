"""What can happen to a job: killed, out of memory, started by a datasite that is killed."""

from __future__ import annotations

import re
import threading

import pytest
from faults import EASIER, ROUNDS, WORKER, root

# One that the kernel ends first, beside one who takes memory until it does. The limit is the
# container's; that of the job's own unit is a board's to show.
STARVE = f"""
worker={WORKER}
echo 1000 > /proc/$worker/oom_score_adj
python3 - $worker <<'END'
import os, sys, time
taken = []
while os.path.isdir(f"/proc/{{sys.argv[1]}}") and len(taken) < 100:
    taken.append(b"x" * (20 << 20))
    time.sleep(0.02)
END
true  # who takes it may be ended as well, before what the other had is free
"""
ENDINGS = {
    "killed": (f"kill -9 {WORKER}", ("it was ended by the signal KILL",)),
    "out of memory": (
        STARVE,
        ("it was ended by the signal KILL", "it needed more memory than this node gives a job"),
    ),
}
EVENTS = "/sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.oom_control"  # cgroup v2, v1


def starved(lab, node):
    """How many processes of a node the kernel has ended for memory, if it tells."""
    told = re.search(r"^oom_kill (\d+)", root(lab, node, f"cat {EVENTS} 2>/dev/null; true"), re.M)
    return told and int(told[1])


@pytest.mark.parametrize("how", ENDINGS)
def test_a_run_goes_on_at_once_without_a_worker_that_is(how, start, lab, undisturbed):
    command, reasons = ENDINGS[how]
    before = starved(lab, "pi2")
    run = start()
    run.until_round(60)
    root(lab, "pi2", command)
    if before is not None:
        assert (starved(lab, "pi2") > before) == (how == "out of memory")
    assert run.end() == 0, run.said
    assert any(f"pi2: the job is failed: {reason}" in run.said for reason in reasons), run.said
    assert re.search(r"pi2 is left out from round \d+ on: pi2: the job is failed", run.said)
    assert "anew" not in run.said
    summary = run.summary()
    assert summary["jobs"] == {"pi1": "done", "pi2": "failed", "pi3": "done"}
    assert summary["rounds"] == ROUNDS and run.longest() < 15
    others = ("pi1", "pi3")
    assert run.accuracy(*others) > undisturbed.accuracy(*others) + EASIER[2]


JOBS = "/var/lib/fedrnn/jobs"
KILL = "systemctl kill -s KILL fedrnn-datasite.service 2>/dev/null"


@pytest.mark.parametrize("delay", [0.0, 0.15])
def test_a_datasite_that_is_killed_while_it_starts_a_job_starts_it_in_the_next_pass(
    start, lab, delay, undisturbed
):
    """Killed three times: once it has staged the job, and twice in what it does about that."""
    kills = "; ".join([f"sleep {delay}; {KILL}; sleep 0.3"] * 3)
    until = f"until ls {JOBS} | grep -q .; do sleep 0.01; done"
    killer = threading.Thread(
        target=root, args=(lab, "pi2", f"timeout 60 sh -c '{until}'; {kills}; true")
    )
    since = root(lab, "pi2", "date +@%s").strip()
    killer.start()
    run = start()
    assert run.end() == 0, run.said
    killer.join()
    log = root(lab, "pi2", f"journalctl --no-pager -u fedrnn-datasite --since {since}")
    assert "status=9/KILL" in log, log
    assert not run.without("pi2"), run.said
    assert set(run.summary()["jobs"].values()) == {"done"}
    assert run.summary()["model_sha256"] == undisturbed.summary()["model_sha256"]
