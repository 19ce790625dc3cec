"""Training over SSH on the lab: what it reaches, what it costs, and what stops it."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import statistics
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import pytest
from cluster import ENDLESS, INVENTORY, ROOT, Lab, ansible_playbook, must

from fedrnn.inventory import read_inventory
from fedrnn.learning.data import PARTS, examples, read_folder
from fedrnn.transport.grid import Loop

NODES = ("pi1", "pi2", "pi3")
RESIDENT = """
import grp, pwd
from pathlib import Path
total, wire = 0, str(grp.getgrnam("fedrnn-wire").gr_gid)

def is_ours(fields, command):
    try:
        account = pwd.getpwuid(int(fields["Uid"].split()[0])).pw_name
    except KeyError:  # the account of a job has no name
        account = ""
    job = fields["Gid"].split()[0] == wire
    return job or account.startswith("fedrnn") or "sshd: fedrnn" in command

for file in Path("/proc").glob("[0-9]*/status"):
    try:
        fields = dict(line.split(":", 1) for line in file.read_text().splitlines())
        if is_ours(fields, (file.parent / "cmdline").read_text()):
            total += int(fields["VmRSS"].split()[0])
    except (OSError, KeyError):
        pass
print(total / 1000)
"""


def python(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *words], cwd=cwd, capture_output=True, text=True, timeout=600
    )


def run(*words: str) -> dict:
    """Trains and returns the summary."""
    done = python("fedrnn.run", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((ROOT / "runs" / "latest" / "summary.json").read_text())


@pytest.fixture(scope="module", autouse=True)
def no_leftovers(lab: Lab) -> None:
    """Workers of an interrupted test live for minutes, and would be counted as this module's."""
    for node in NODES:
        lab.ssh(node, "sudo systemctl stop 'fedrnn-job@*'")


@pytest.fixture(scope="module")
def trained(lab: Lab) -> dict:
    """The default run, with the memory of our processes on a node sampled while it goes on."""
    sampled: list[float] = []
    stop = threading.Event()

    def sample() -> None:
        while not stop.wait(3):
            sampled.append(float(lab.ssh("pi1", f"sudo python3 -c '{RESIDENT}'").stdout))

    watcher = threading.Thread(target=sample)
    watcher.start()
    try:
        summary = run()
    finally:
        stop.set()
        watcher.join()
    return {**summary, "sampled_mb": max(sampled)}


def test_the_hardest_split_is_learned(trained: dict) -> None:
    assert trained["rounds"] == 300 and trained["split"] == "language"
    assert trained["accuracy"] >= 0.71 and trained["macro_recall"] >= 0.71
    assert trained["seconds_total"] < 600
    assert set(trained["jobs"].values()) == {"done"}


def test_a_node_needs_little_memory(trained: dict) -> None:
    assert 250 < trained["sampled_mb"] < 350
    for node in trained["nodes"].values():
        assert 250 < sum(node["rss_mb_max"].values()) < 350


def test_nothing_runs_on_a_node_after_training(lab: Lab, trained: dict) -> None:
    for node in NODES:
        left = lab.ssh(
            node, "pgrep -a -u fedrnn-owner,fedrnn; pgrep -a -G fedrnn-wire; ls /run/fedrnn"
        )
        assert left.stdout.split() == ["launch"], left.stdout


def test_no_name_of_the_test_part_is_trained_on(lab: Lab, trained: dict, tmp_path: Path) -> None:
    """By what lies on the nodes, read over SSH, and what the workers said of it in the run."""
    events = (ROOT / "runs" / "latest" / "metrics.jsonl").read_text().splitlines()
    (said,) = (e for e in map(json.loads, events) if e["event"] == "nodes")
    seen: dict[str, set[tuple[int, ...]]] = {part: set() for part in PARTS}
    for node in NODES:
        private = "/var/lib/fedrnn/SyftBox/*/private/*/names"
        packed = lab.ssh(node, f"sudo sh -c 'tar -C {private} -c . | base64'").stdout
        with tarfile.open(fileobj=io.BytesIO(base64.b64decode(packed))) as tar:
            tar.extractall(tmp_path / node, filter="data")
        names = read_folder(tmp_path / node)
        assert sorted(names) == said["nodes"][node]["labels"]
        for part, rows in examples(names, said["labels"], 0).items():
            assert len(rows.targets) == said["nodes"][node][part], (node, part)
            seen[part] |= {tuple(i for i in row if i) for row in rows.ids.tolist()}
    assert len(seen["test"]) > 1000
    assert not seen["train"] & (seen["test"] | seen["validation"])


def test_no_other_account_opens_a_worker_s_socket(lab: Lab) -> None:
    training = subprocess.Popen(
        [sys.executable, "-m", "fedrnn.run", "--nodes", "pi1", *ENDLESS],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        for line in training.stdout:
            if " of 4000" in line:
                break
        find = "sudo find /run/fedrnn -mindepth 2 -type s"
        (socket,) = lab.ssh("pi1", find).stdout.splitlines()
        connect = f'import socket; socket.socket(socket.AF_UNIX).connect("{socket}")'
        for account in ("pi", "nobody"):
            tried = lab.ssh("pi1", f"sudo -u {account} python3 -c '{connect}'")
            assert "PermissionError" in tried.stderr, (account, tried)
        # The gate's account may, or else the refusals would mean nothing.
        assert lab.ssh("pi1", f"sudo -u fedrnn python3 -c '{connect}'").returncode == 0
    finally:
        training.send_signal(signal.SIGTERM)  # as a system that goes down
        training.communicate(timeout=60)
    assert training.returncode == 130
    summary = json.loads((ROOT / "runs" / "latest" / "summary.json").read_text())
    assert summary["interrupted"] and summary["jobs"] == {"pi1": "done"}


def test_a_round_without_compute_costs_four_bare_echoes_at_most(lab: Lab) -> None:
    """A delayed acknowledgement in each round would cost thirty."""
    from bench.echo import Bare, Ours, timed

    inventory, loop = read_inventory(INVENTORY), Loop()
    ours = Ours(inventory, loop)
    bare = Bare(inventory, loop, ours.size())
    try:
        mine, theirs = map(statistics.median, timed(200, ours.round, bare.round))
        assert mine <= 4 * theirs, (mine, theirs)
    finally:
        bare.close()
        ours.close()


def test_the_same_seed_makes_the_same_model(lab: Lab) -> None:
    """Over SSH and without, where the nodes hold the same shares in the same order.

    Twice over SSH: tests/faults. Another seed, another model: tests/unit/test_server_app.py.
    """
    seeded = ("--rounds", "12", "--seed", "5")
    first, again = run(*seeded), run("--local", str(len(NODES)), *seeded)
    assert first["model_sha256"] == again["model_sha256"]


def test_two_nodes_can_be_chosen_and_averaged(lab: Lab) -> None:
    summary = run("--nodes", "pi1,pi3", "--strategy", "fedavg", "--rounds", "1")
    assert set(summary["nodes"]) == {"pi1", "pi3"} and summary["strategy"] == "fedavg"


def test_a_node_that_is_down_is_named_with_a_remedy(lab: Lab) -> None:
    lab.podman("stop", "-t", "2", lab.container("pi2"))
    try:
        done = python("fedrnn.run", "--rounds", "1")
    finally:
        must(ansible_playbook("playbooks/lab_up.yml"))
    assert done.returncode == 1
    assert "pi2 (127.0.0.1, port" in done.stderr and "--nodes" in done.stderr
    assert "pi1" not in done.stderr and "Traceback" not in done.stderr


def test_a_changed_host_key_is_refused(lab: Lab, tmp_path: Path) -> None:
    known = INVENTORY / "known_hosts"
    before = known.read_text()
    swapped = [line for line in before.splitlines() if f":{lab.port('pi1')} " not in line]
    other = next(line for line in before.splitlines() if f":{lab.port('pi2')} " in line)
    swapped.append(other.replace(str(lab.port("pi2")), str(lab.port("pi1"))))
    known.write_text("\n".join(swapped) + "\n")
    try:
        done = python("fedrnn.run", "--rounds", "1")
    finally:
        known.write_text(before)
    assert done.returncode == 1
    assert "its host key is not the one in" in done.stderr and "ssh-keygen -R" in done.stderr


def test_a_stranger_s_key_opens_nothing(lab: Lab, tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    refused = ssh_as(lab, "fedrnn", key, "describe")
    assert refused.returncode == 255 and "Permission denied" in refused.stderr


@pytest.mark.parametrize(
    "words",
    [["true"], ["cat", "/etc/passwd"], [], ["describe", ";", "id"], ["attach", "../../launch"]],
)
def test_the_researcher_s_key_opens_the_gate_alone(lab: Lab, words: list[str]) -> None:
    refused = ssh_as(lab, "fedrnn", INVENTORY / "keys" / "researcher", *words)
    assert refused.returncode == 2 and refused.stdout == "" and "refused" in refused.stderr


def test_the_researcher_s_key_forwards_nothing(lab: Lab) -> None:
    key = INVENTORY / "keys" / "researcher"
    back = ["-R5999:127.0.0.1:22", "-oExitOnForwardFailure=yes"]
    tried = ssh_as(lab, "fedrnn", key, "describe", options=back)
    assert tried.returncode == 255 and "remote port forwarding failed" in tried.stderr
    # -L and -D ask for the same kind of channel.
    tried = ssh_as(lab, "fedrnn", key, options=["-W", "127.0.0.1:22"])
    assert tried.returncode == 255 and "administratively prohibited" in tried.stderr


def test_sftp_and_the_operator_s_account_are_closed_to_it(lab: Lab) -> None:
    key = INVENTORY / "keys" / "researcher"
    assert ssh_as(lab, "fedrnn", key, "sftp", options=["-s"]).returncode != 0
    assert ssh_as(lab, "pi", key, "true").returncode == 255


def ssh_as(
    lab: Lab, account: str, key: Path, *words: str, options: list[str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ssh", "-F", os.devnull, "-i", key, "-p", str(lab.port("pi1")), "-o", "BatchMode=yes",
         "-o", "IdentitiesOnly=yes", "-o", f'UserKnownHostsFile="{INVENTORY}/known_hosts"',
         *(options or []), f"{account}@127.0.0.1", *words],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60,
    )  # fmt: skip
