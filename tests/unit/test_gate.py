"""The gate, run as sshd runs it: a process with the client's words in SSH_ORIGINAL_COMMAND."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from fedrnn.datasite.layout import SENDER as SENDER_RULE
from fedrnn.datasite.layout import Site
from tests.tars import HOSTILE, job

ROOT = Path(__file__).parents[2]
SENDER = "controller@lab.local"


@pytest.fixture
def site(tmp_path_factory) -> Site:
    site = Site.at(tmp_path_factory.mktemp("s"))
    for folder in (site.mailbox, site.run, site.published(SENDER) / "jobs"):
        folder.mkdir(parents=True)
    return site


def gate(site: Site, command: str, data: bytes = b"", sender: str = SENDER):
    root = site.var.parent
    return subprocess.run(
        [sys.executable, "-m", "fedrnn.datasite.gate", "--root", root, "--sender", sender],
        input=data,
        capture_output=True,
        cwd=ROOT,
        env={**os.environ, "SSH_ORIGINAL_COMMAND": command},
        timeout=30,
    )


@pytest.mark.parametrize("command", ["", "sh", "cat /etc/passwd", "internal-sftp", "describe x y"])
def test_there_is_no_shell_behind_it(site, command):
    done = gate(site, command)
    assert done.returncode == 2
    assert done.stdout == b""
    assert b"refused" in done.stderr


@pytest.mark.parametrize("identity", ["", "0123456789abcdef" * 2])
def test_describe_tells_which_node_this_is(site, identity):
    (site.published(SENDER) / "describe.json").write_text('{"rows": 1, "identity": "of the data"}')
    if identity:
        site.identity.write_text(f"{identity}\n")
    assert json.loads(gate(site, "describe").stdout) == {"rows": 1, "identity": identity}


def test_a_job_arrives_whole(site):
    done = gate(site, "submit job-1", job())
    assert done.returncode == 0, done.stderr
    parcel = site.mailbox / f"{SENDER}:job-1"
    found = {p.relative_to(parcel).as_posix() for p in parcel.rglob("*") if p.is_file()}
    assert found == {"run.sh", "config.yaml", "code/main.py"}
    assert json.loads(gate(site, "status job-1").stdout)["status"] == "sent"


def test_a_job_is_never_written_over(site):
    assert gate(site, "submit job-1", job()).returncode == 0
    again = gate(site, "submit job-1", job({"code/evil.py": b"2"}))
    assert again.returncode == 2 and b"exists" in again.stderr
    assert not (site.mailbox / f"{SENDER}:job-1" / "code" / "evil.py").exists()


@pytest.mark.parametrize("name", ["../x", "a/b", "A", "", "x" * 41, ".hidden", "a;b", "a b"])
def test_names_that_could_mean_a_path_are_refused(site, name):
    assert gate(site, f"submit '{name}'", job()).returncode == 2
    assert list(site.mailbox.iterdir()) == []


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_what_has_no_place_in_a_job_is_refused(site, data):
    done = gate(site, "submit job-1", data)
    assert done.returncode == 2, done.stdout
    assert done.stderr.startswith(b"refused: ") and b"Traceback" not in done.stderr
    assert list(site.mailbox.iterdir()) == []
    assert list(site.mailbox.parent.iterdir()) == [site.mailbox], "half a parcel stays"


def test_many_files_of_little_size_are_too_much_together(site):
    entries = {f"code/{n}": b"x" * (1 << 20) for n in range(7)}
    assert gate(site, "submit job-1", job(entries)).returncode == 0
    repeated = job({**entries, "code/7": b"x" * (1 << 20)})
    assert gate(site, "submit job-2", repeated).returncode == 2


def test_a_sender_has_at_most_twenty_jobs_that_have_not_ended(site):
    states = site.published(SENDER) / "jobs"
    for number in range(19):
        (states / f"old-{number}.json").write_text('{"status": "running"}')
        (states / f"done-{number}.json").write_text('{"status": "done"}')
    assert gate(site, "submit job-1", job()).returncode == 0
    refused = gate(site, "submit job-2", job())
    assert refused.returncode == 2 and b"wait, or cancel" in refused.stderr
    assert gate(site, "submit job-2", job(), sender="other@lab.local").returncode == 0


def test_who_sends_what_never_runs_all_the_time_has_to_wait(site):
    states = site.published(SENDER) / "jobs"
    for number in range(50):
        (states / f"old-{number}.json").write_text('{"status": "rejected"}')
        (states / f"done-{number}.json").write_text('{"status": "done"}')
    refused = gate(site, "submit job-1", job())
    assert refused.returncode == 2 and b"within an hour: wait" in refused.stderr
    assert gate(site, "submit job-1", job(), sender="other@lab.local").returncode == 0
    an_hour_ago = time.time() - 3601
    os.utime(states / "old-7.json", (an_hour_ago, an_hour_ago))
    assert gate(site, "submit job-1", job()).returncode == 0


def test_a_job_that_does_not_come_to_an_end_is_not_waited_for(site):
    patient = (
        "import sys, fedrnn.datasite.gate as gate; gate.MAX_SECONDS = 1; sys.exit(gate.main())"
    )
    words = [sys.executable, "-c", patient, "--root", site.var.parent, "--sender", SENDER]
    environment = {**os.environ, "SSH_ORIGINAL_COMMAND": "submit job-1"}
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, env=environment
    ) as waiting:
        waiting.stdin.write(job()[:700])
        waiting.stdin.flush()
        assert b"has not arrived within 1 s" in waiting.stderr.read()
    assert waiting.returncode == 2 and list(site.mailbox.iterdir()) == []


def test_a_sender_fills_a_share_of_the_mailbox_and_no_more(site):
    waiting = site.mailbox / f"{SENDER}:job"
    waiting.mkdir()
    with (waiting / "big").open("wb") as big:
        big.truncate((32 << 20) - 4096)
    refused = gate(site, "submit job-1", job({"code/a": b"x" * 5000}))
    assert refused.returncode == 2 and b"32 MiB of yours wait" in refused.stderr
    assert gate(site, "submit job-1", job(), sender="other@lab.local").returncode == 0


def test_sessions_at_once_do_not_pass_the_quota_together(site):
    states = site.published(SENDER) / "jobs"
    for number in range(17):
        (states / f"old-{number}.json").write_text('{"status": "running"}')
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda n: gate(site, f"submit job-{n}", job()), range(8)))
    assert sorted(d.returncode for d in done) == [0] * 3 + [2] * 5
    assert len(list(site.mailbox.iterdir())) == 3


def test_a_name_that_no_socket_can_have_is_refused(site):
    sender = "a" * 20 + "@" + "b" * 19
    assert gate(site, f"submit {'j' * 35}", job(), sender=sender).returncode == 0
    refused = gate(site, f"submit {'j' * 36}", job(), sender=sender)
    assert refused.returncode == 2 and b"choose a shorter job name" in refused.stderr
    path = Site().socket(f"{sender}:{'j' * 35}")
    assert len(str(path)) <= 100
    assert gate(site, "submit j", job(), sender=f"a{sender}").returncode != 0


def test_cancel_leaves_a_note_for_a_job_of_the_sender_alone(site):
    assert gate(site, "cancel job-1").returncode == 2
    assert gate(site, "submit job-1", job()).returncode == 0
    assert gate(site, "cancel job-1", sender="mallory@lab.local").returncode == 2
    assert {p.name for p in site.mailbox.iterdir()} == {f"{SENDER}:job-1"}
    assert gate(site, "cancel job-1").returncode == 0
    assert (site.mailbox / f"{SENDER}:job-1.cancel").is_file()


def test_a_job_that_has_ended_is_not_cancelled(site):
    (site.published(SENDER) / "jobs" / "job-1.json").write_text('{"status": "done"}')
    assert gate(site, "cancel job-1").returncode == 0
    assert list(site.mailbox.iterdir()) == []


def test_another_senders_job_is_not_there(site):
    (site.published(SENDER) / "jobs" / "job-1.json").write_text('{"status": "done"}')
    assert gate(site, "status job-1").returncode == 0
    assert gate(site, "status job-1", sender="mallory@lab.local").returncode == 2
    assert gate(site, "attach job-1", sender="mallory@lab.local").returncode == 2


def test_attach_hands_the_session_to_the_worker(site):
    """The worker reads and writes the client's own descriptors; its end is the session's."""
    path = site.socket(f"{SENDER}:job-1")
    path.parent.mkdir()
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()

    def echo():
        peer, _ = server.accept()
        _, (first, second), *_ = socket.recv_fds(peer, 1, 2)
        with peer, open(first, "rb") as said, open(second, "wb") as told:
            told.write(b"hello" + said.read(3_000_000)[::-1])

    thread = threading.Thread(target=echo)
    thread.start()
    sent = bytes(range(250)) * 12_000
    done = gate(site, "attach job-1", sent)
    thread.join(10)
    assert done.returncode == 0
    assert done.stdout == b"hello" + sent[::-1]


def test_attach_without_a_worker_says_why(site):
    done = gate(site, "attach job-1")
    assert done.returncode == 2
    assert b"has no worker here" in done.stderr


@pytest.fixture
def listening(site) -> socket.socket:
    path = site.socket(f"{SENDER}:job-1")
    path.parent.mkdir()
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()
    yield server
    server.close()


def test_attach_follows_no_link(site, listening):
    mine = site.socket(f"{SENDER}:job-2")
    mine.parent.mkdir()
    mine.symlink_to(site.socket(f"{SENDER}:job-1"))
    done = gate(site, "attach job-2")
    assert done.returncode == 2 and b"has no worker here" in done.stderr
    mine.unlink()
    mine.parent.rmdir()
    mine.parent.symlink_to(site.socket(f"{SENDER}:job-1").parent)
    done = gate(site, "attach job-2")
    assert done.returncode == 2 and b"no socket of a job" in done.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives a folder away")
def test_attach_talks_to_nobody_but_the_account_that_the_folder_is_for(site, listening):
    os.chown(site.socket(f"{SENDER}:job-1").parent, 12345, -1)
    done = gate(site, "attach job-1")
    assert done.returncode == 2 and b"another account" in done.stderr


def test_the_role_admits_the_senders_that_the_gate_takes_and_plain_keys_alone():
    """What sshd reads has one line per key: options or a second line would be another login."""
    patterns = yaml.safe_load((ROOT / "roles" / "pysyft" / "vars" / "main.yml").read_text())
    assert patterns["pysyft_sender"] == SENDER_RULE.pattern
    plain = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ+/w=="
    for key in (plain, f"{plain} me@home, my key", plain.replace("ssh-ed", "sk-ssh-ed")):
        assert re.match(patterns["pysyft_key"], key)
    for key in (
        f"{plain}\n{plain}", f"{plain} me\n{plain}", f"restrict {plain}", f'command="sh" {plain}',
        f"# {plain}", "", "ssh-ed25519", plain.replace(" ", "\t"), "-----BEGIN", f"{plain}\n",
    ):  # fmt: skip
        assert not re.match(patterns["pysyft_key"], key), key
