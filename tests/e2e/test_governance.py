"""No code that its owner did not approve runs on a node, whatever a researcher tries."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster import (
    ENDLESS,
    RESEARCHER,
    ROOT,
    WORKERS,
    Lab,
    ansible_playbook,
    job_in,
    must,
    read_until,
    start_run,
)  # fmt: skip

NODES = ("pi1", "pi2", "pi3")
LIST = "sudo fedrnn-owner list"

ORDINARY_JOB = """\
import syft as sy

path = sy.resolve_dataset_file_path("names")
with open(path) as names:
    count = sum(1 for line in names)
print("counted", count)
with open("outputs/count.txt", "w") as output:
    output.write(str(count))
"""


@pytest.fixture(scope="class")
def empty_allow_list(lab: Lab) -> Iterator[None]:
    must(ansible_playbook("-e", '{"pysyft_approved_jobs": []}', "--tags", "pysyft", "site.yml"))
    yield
    must(ansible_playbook("--tags", "pysyft", "site.yml"))


@pytest.mark.usefixtures("empty_allow_list")
class TestEmptyAllowList:
    def test_no_worker_exists_until_the_owners_approve(self, lab: Lab) -> None:
        waiting = start_run("--rounds", "2")
        seen = read_until(waiting, "fedrnn-owner approve", times=6)
        job = job_in(seen)
        time.sleep(2)
        for node in NODES:
            assert lab.ssh(node, WORKERS).stdout == ""
            assert f"pending    {job}" in lab.ssh(node, LIST).stdout
        for node in NODES:
            shown = lab.ssh(node, f"sudo fedrnn-owner show {job}").stdout
            # What the owner has approved before is not shown again, but for its fingerprint.
            assert "=== run.sh" in shown and "code/fedrnn/federation/client_app.py" in shown
            approved = lab.ssh(node, f"sudo fedrnn-owner approve {job}")
            assert "running" in approved.stdout, approved
        rest, _ = waiting.communicate(timeout=180)
        assert waiting.returncode == 0, rest
        for node in NODES:
            assert f"done       {job}" in lab.ssh(node, LIST).stdout
            log = lab.ssh(node, "sudo fedrnn-owner log").stdout
            assert (
                f"event=approve  job=controller@lab.local:{job}" in log and "method=manual" in log
            )

    def test_an_owner_who_denies_ends_the_run_with_his_reason(self, lab: Lab) -> None:
        waiting = start_run("--rounds", "2", "--nodes", "pi1")
        seen = read_until(waiting, "fedrnn-owner approve")
        job = job_in(seen)
        lab.ssh("pi1", f"sudo fedrnn-owner deny {job} --reason 'not on a Sunday'")
        rest, _ = waiting.communicate(timeout=60)
        assert waiting.returncode == 1 and "pi1: the job is rejected: not on a Sunday" in rest
        assert lab.ssh("pi1", WORKERS).stdout == ""


def test_with_the_datasite_masked_nothing_starts(lab: Lab) -> None:
    units = "fedrnn-datasite.path fedrnn-datasite.service"
    lab.ssh("pi1", f"sudo systemctl mask --now {units}")
    try:
        waiting = start_run("--rounds", "2", "--nodes", "pi1")
        seen = read_until(waiting, "submitted")
        job = job_in(seen)
        read_until(waiting, "pi1: its datasite takes no jobs")
        assert waiting.poll() is None
        assert lab.ssh("pi1", WORKERS).stdout == ""
        assert job not in lab.ssh("pi1", LIST).stdout
        waiting.send_signal(2)
        assert waiting.wait(30) == 130
    finally:
        waiting.kill()
        lab.ssh("pi1", f"sudo systemctl unmask {units}; sudo systemctl start fedrnn-datasite.path")
    until = time.monotonic() + 20
    while job not in (listed := lab.ssh("pi1", LIST).stdout) and time.monotonic() < until:
        time.sleep(0.5)
    assert f"rejected   {job}" in listed, "the interrupted run has not cancelled its job"
    assert lab.ssh("pi1", WORKERS).stdout == ""
    assert job not in lab.ssh("pi1", "sudo grep '\"start\"' /var/lib/fedrnn/decisions.jsonl").stdout


def test_cancel_ends_a_running_job_and_one_that_waits(lab: Lab, tmp_path: Path) -> None:
    import fedrnn

    (tmp_path / "sleep.py").write_text("import time\nprint('slept', flush=True)\ntime.sleep(300)\n")
    names = [f"sleep-{time.time_ns()}-{kind}" for kind in ("run", "wait")]
    with fedrnn.connect(ROOT / "inventory" / "lab", tmp_path / "SyftBox") as nodes:
        node = nodes["pi3"]
        for name in names:
            node.submit_python_job(tmp_path / "sleep.py", name)
        wait_for(node, names, "pending")
        lab.ssh("pi3", f"sudo fedrnn-owner approve {names[0]}")
        wait_for(node, names[:1], "running")
        assert "sleep.py" in lab.ssh("pi3", WORKERS).stdout
        for name in names:
            cancel(lab, name)
        wait_for(node, names[:1], "failed")
        wait_for(node, names[1:], "rejected")
        for name in names:
            assert node.status(name)["reason"] == "cancelled by its sender"
    assert lab.ssh("pi3", WORKERS).stdout == ""
    assert "sleep-" not in lab.ssh("pi3", "ls /run/fedrnn /run/systemd/system").stdout


def wait_for(node: Any, names: list[str], status: str) -> None:
    until = time.monotonic() + 30
    while (found := [node.status(n)["status"] for n in names]) != [status] * len(names):
        assert time.monotonic() < until, found
        time.sleep(0.3)


def cancel(lab: Lab, name: str) -> None:
    """What the gate does for its sender."""
    words = f"SSH_ORIGINAL_COMMAND='cancel {name}' /opt/fedrnn/bin/gate --sender {RESEARCHER}"
    done = lab.ssh("pi3", f"sudo -u fedrnn env {words}")
    assert done.returncode == 0, done.stderr


def test_training_code_is_nowhere_but_in_the_job(lab: Lab) -> None:
    found = lab.ssh("pi2", "sudo grep -rl CharRNN /opt /usr/local /home /etc --include=*.py")
    assert found.stdout == ""
    training = start_run("--nodes", "pi2", *ENDLESS)
    try:
        read_until(training, " of 4000")
        processes = lab.ssh("pi2", "ps -eo user,args | grep -c '[p]ython main.py'").stdout
        users = lab.ssh("pi2", "ps -eo user:20,args | grep '[p]ython main.py'").stdout
        assert processes.strip() == "1" and not users.startswith(("root", "pi", "fedrnn-owner"))
        unit = lab.ssh("pi2", "systemctl list-units --plain --no-legend 'fedrnn-job@*'").stdout
        assert unit.startswith("fedrnn-job@controller@lab.local:train-") and "running" in unit
        training.send_signal(2)
        rest, _ = training.communicate(timeout=60)
    finally:
        training.kill()  # an assert that failed must not let it go on for minutes
    assert training.returncode == 130, rest
    assert lab.ssh("pi2", WORKERS).stdout == ""


def test_an_ordinary_pysyft_job_runs_once_approved(lab: Lab, tmp_path: Path) -> None:
    import fedrnn

    (tmp_path / "count.py").write_text(ORDINARY_JOB)
    name = f"count-{time.time_ns()}"
    with fedrnn.connect(ROOT / "inventory" / "lab", tmp_path / "SyftBox") as nodes:
        node = nodes["pi3"]
        (dataset,) = node.datasets
        assert dataset.name == "names" and len(dataset.mock_files) >= 5
        assert all(f.read_text().strip() for f in dataset.mock_files)
        node.submit_python_job(tmp_path / "count.py", name)
        until = time.monotonic() + 20
        while node.status(name)["status"] != "pending" and time.monotonic() < until:
            time.sleep(0.3)
        assert node.status(name)["status"] == "pending"
        assert lab.ssh("pi3", WORKERS).stdout == ""
        lab.ssh("pi3", f"sudo fedrnn-owner approve {name}")
        job = node.wait(name, 90)
        assert job.status == "done", node.status(name)
        (output,) = (p for p in job.output_paths if p.name == "count.txt")
    assert int(output.read_text()) > 100
    mirrored = [p for p in (tmp_path / "SyftBox").rglob("*") if p.is_file()]
    assert not [p for p in mirrored if "private" in p.parts]
