"""What researchers send to a node: nothing runs that its owner did not approve."""

from __future__ import annotations

import io
import json
import re
import shlex
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cluster import RESEARCHER, Lab, ansible_playbook, must
from login import KEY, NODE, OWNER, Journal, Login, unique

from fedrnn.datasite.job_code import RUN, training_code
from tests.tars import HOSTILE
from tests.tars import job as tar

MALLORY = "mallory@lab.local"
PLAYBOOK = ("--limit", NODE, "--tags", "pysyft_configure", "playbooks/cluster.yml")
VAR = "/var/lib/fedrnn"
INBOX = f"{VAR}/SyftBox/{OWNER}/app_data/job/inbox"
AWAY = f"{VAR}/.away"  # where what is replaced by a link is moved to
PASSES = "-u fedrnn-datasite.service"

# What whoever got into the owner's account could do to a submission, in its folder.
CHANGES = {
    "run-script": "echo 'echo evil > code/outputs/evil' > run.sh",
    "code": "echo 'print(666)' >> code/main.py",
    "added": "echo 'print(666)' > code/json.py",
    "beside": "echo 'print(666)' > json.py",
    "removed": "rm code/other.py",
    "renamed": "mv code/other.py code/json.py",
    "link": f"mv code/other.py {AWAY}; ln -s {AWAY}/other.py code/other.py",
    "folder-link": f"mv code {AWAY}; ln -s {AWAY}/code code",
}
FILES = {"code/other.py": b"print('other')\n"}


@pytest.fixture
def alice(lab: Lab) -> Iterator[Login]:
    with Login(lab) as login:
        yield login


@pytest.fixture
def mallory(lab: Lab, second_key: Path) -> Iterator[Login]:
    with Login(lab, second_key, MALLORY) as login:
        yield login


@pytest.fixture(scope="module")
def second_key(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The key of a second researcher of the node."""
    key = tmp_path_factory.mktemp("keys") / "mallory"
    subprocess.run(["ssh-keygen", "-qt", "ed25519", "-N", "", "-f", key], check=True)
    both = [{"email": RESEARCHER, "key": f"{KEY}.pub"}, {"email": MALLORY, "key": f"{key}.pub"}]
    told = json.dumps({"pysyft_researchers": both})
    forget = f"sudo find {VAR} -depth -name {MALLORY} -exec rm -r {{}} +"
    lab.ssh(NODE, forget)  # what a run that was killed has left
    must(ansible_playbook("-e", told, *PLAYBOOK))
    try:
        lab.ssh(NODE, "sudo systemctl start fedrnn-datasite")  # it publishes to a new researcher
        yield key
    finally:
        found = subprocess.check_output(["ssh-keygen", "-lf", key], text=True)
        must(ansible_playbook("-e", f"pysyft_retired_keys={found.split()[1]}", *PLAYBOOK))
        lab.ssh(NODE, forget)


def owner(lab: Lab, *commands: str) -> str:
    """What `fedrnn-owner` prints, both outputs, of each of these."""
    return lab.ssh(NODE, "; ".join(f"sudo fedrnn-owner {c} 2>&1" for c in commands)).stdout


@pytest.fixture
def change(lab: Lab) -> Iterator[Callable[[str, dict[str, str]], None]]:
    """Do to each submission of a sender what CHANGES says, by kind."""

    def do(sender: str, jobs: dict[str, str]) -> None:
        words = [f"cd {INBOX}/{sender}/v1/{job} && ( {CHANGES[k]} )" for k, job in jobs.items()]
        script = f"umask 027; mkdir {AWAY}; {'; '.join(words)}"
        done = lab.ssh(NODE, f"sudo -u fedrnn-owner sh -ec {shlex.quote(script)}")
        assert done.returncode == 0, done.stderr

    yield do
    lab.ssh(NODE, f"sudo rm -r {AWAY}")


def test_two_keys_are_two_senders_whatever_a_job_says(
    lab: Lab, alice: Login, mallory: Login
) -> None:
    """The inner sender, owner and name of a job are held against its key and its name."""
    journal = Journal(lab)
    wrong = {
        unique("sender"): {"submitted_by": RESEARCHER},
        unique("owner"): {"datasite_email": "pi2@lab.local"},
        unique("name"): {"name": "another"},
        unique("path"): {"name": "../../review/x"},
    }
    for job, config in wrong.items():
        mallory.submit(job, **config)
    mallory.wait(wrong, "refused")
    for job, config in wrong.items():
        ((field, value),) = config.items()
        assert f"says {field} {value!r}" in mallory.state(job)["reason"]
    said = journal.read(PASSES)
    assert all(f"refused '{MALLORY}:{job}': its config.yaml says" in said for job in wrong), said
    assert not wrong.keys() & alice.states().keys()


def test_an_approval_that_a_job_brings_along_is_refused(lab: Lab, mallory: Login) -> None:
    journal, job = Journal(lab), unique("own")
    approved = b"status: approved\napproved_by: pi1@lab.local\n"
    places = [
        "state.yaml", "code/../state.yaml", f"../../../../review/{MALLORY}/v1/{job}/state.yaml",
        f"{VAR}/SyftBox/{OWNER}/app_data/job/review/{MALLORY}/v1/{job}/state.yaml",
        f"code/../../../../../review/{RESEARCHER}/v1/{job}/state.yaml", "syft.pub.yaml",
        "../syft.pub.yaml", f"{VAR}/decisions.jsonl", "/etc/fedrnn/approved_jobs.json",
        f"../../published/{MALLORY}/jobs/{job}.json", f"../../due/{MALLORY}:{job}",
    ]  # fmt: skip
    for answer in mallory.ask_all((f"submit {job}", tar({p: approved})) for p in places):
        assert answer.refused and b"has no place in a job" in answer.err, answer
    assert journal.read().count(f"refused {MALLORY}: 'submit {job}'") == len(places)
    mallory.submit(job, {"code/state.yaml": approved}, status="approved", approved_by=OWNER)
    mallory.wait([job], "pending")
    time.sleep(0.5)
    assert mallory.state(job)["status"] == "pending", "it has approved itself"
    assert list(events(lab, f"{MALLORY}:{job}").values()) == [["receive"]]
    assert mallory.ask(f"cancel {job}").code == 0


def events(lab: Lab, *keys: str) -> dict[str, list[str]]:
    """What the decision log has of these jobs."""
    log = lab.ssh(NODE, f"sudo cat {VAR}/decisions.jsonl").stdout
    entries = [json.loads(line) for line in log.splitlines()]
    return {key: [e["event"] for e in entries if e["job"] == key] for key in keys}


def test_a_job_is_its_senders_and_nobody_elses(
    lab: Lab, alice: Login, mallory: Login, tmp_path: Path
) -> None:
    """Held against a real worker: what its sender may do so shows that the others cannot."""
    job = unique("train")
    code = training_code(tmp_path / "code")  # which the operator's allow-list holds
    files = {f"code/{p.relative_to(code)}": p.read_bytes() for p in code.rglob("*.py")}
    alice.submit(job, {**files, "run.sh": RUN.format(entrypoint="main.py").encode()})
    try:
        until = time.monotonic() + 60
        while not alice.state(job)["worker"]:
            assert time.monotonic() < until, alice.state(job)
            time.sleep(0.3)
        refuse_to(mallory, job, lab)
        assert alice.state(job)["status"] == "running" and alice.state(job)["worker"]
    finally:
        alice.ask(f"cancel {job}")
    alice.wait([job], "failed")
    assert any(job in name for name in tar_names(alice.ask(f"results {job}").out))


def refuse_to(mallory: Login, job: str, lab: Lab) -> None:
    """The running job of RESEARCHER is nothing that its node lets another sender see or touch."""
    key = f"{RESEARCHER}:{job}"
    modes = lab.ssh(NODE, f"cd /run/fedrnn; sudo stat -c '%a %G' {key} {key}/worker.sock").stdout
    assert modes == "750 fedrnn-wire\n660 fedrnn-wire\n"
    journal, names = Journal(lab), (job, key, f"../{RESEARCHER}/jobs/{job}", f"{job}/../{job}")
    words = [f"{verb} '{name}'" for name in names for verb in ("status", "cancel", "attach")]
    for word, answer in zip(words, mallory.ask_all((w, b"") for w in words), strict=True):
        assert answer.refused, (word, answer)
    said = journal.read().splitlines()
    assert len([line for line in said if f"refused {MALLORY}: " in line]) == len(words), said
    mallory.submit(job)  # the same name: another job, of another sender
    mallory.wait([job], "pending")
    for name in names:
        assert not [n for n in tar_names(mallory.ask(f"results '{name}'").out) if RESEARCHER in n]
    assert mallory.ask(f"cancel {job}").code == 0
    mallory.wait([job], "rejected")


def tar_names(data: bytes) -> list[str]:
    return tarfile.open(fileobj=io.BytesIO(data)).getnames() if data else []


def test_what_is_changed_before_the_approval_is_not_approved(
    lab: Lab, mallory: Login, change: Callable[[str, dict[str, str]], None]
) -> None:
    jobs = {kind: unique(kind) for kind in CHANGES}
    for job in jobs.values():
        mallory.submit(job, FILES)
    mallory.wait(jobs.values(), "pending")
    shown = owner(lab, f"show {jobs['run-script']}")
    assert "=== run.sh" in shown
    change(MALLORY, jobs)
    said = owner(lab, *(f"approve {job}" for job in jobs.values()))
    assert said.count("are not those that arrived: somebody has changed") == len(jobs), said
    assert "pending" in owner(lab, "list")
    for job in jobs.values():
        assert mallory.ask(f"cancel {job}").code == 0
    mallory.wait(jobs.values(), "rejected")
    logged = events(lab, *(f"{MALLORY}:{job}" for job in jobs.values()))
    assert set(map(tuple, logged.values())) == {("receive", "deny")}, logged


def test_what_is_changed_after_the_approval_does_not_start(
    lab: Lab, alice: Login, change: Callable[[str, dict[str, str]], None]
) -> None:
    """While one job holds the node the approved ones wait, and are changed; one is not."""
    holder, control = unique("holder"), unique("control")
    jobs = {kind: unique(kind) for kind in CHANGES}
    alice.submit(holder, {"code/main.py": b"import time; time.sleep(300)\n"})
    for job in (*jobs.values(), control):
        alice.submit(job, FILES)
    alice.wait([holder, control, *jobs.values()], "pending")
    said = owner(lab, *(f"approve {job}" for job in (holder, *jobs.values(), control)))
    assert said.count(": running") == 1 and said.count(": approved") == len(jobs) + 1, said
    change(RESEARCHER, jobs)
    assert alice.ask(f"cancel {holder}").code == 0
    alice.wait([control], "done")
    alice.wait(jobs.values(), "failed")
    for kind, job in jobs.items():
        reason = alice.state(job)["reason"]
        assert re.search("are not the approved ones|is a link|is no plain file", reason), kind
    logged = events(lab, *(f"{RESEARCHER}:{job}" for job in (control, *jobs.values())))
    assert logged.pop(f"{RESEARCHER}:{control}") == ["receive", "approve", "start", "end"]
    assert set(map(tuple, logged.values())) == {("receive", "approve", "refuse")}, logged
    evil = f"sudo find {VAR} -path '*{jobs['run-script']}*' -name evil"
    assert not lab.ssh(NODE, evil).stdout


def test_a_job_that_was_here_does_not_come_again(lab: Lab, alice: Login) -> None:
    """Neither under its name, after it has ended and was forgotten, nor under another."""
    first, second = unique("first"), unique("second")
    sent = alice.job(first)
    assert alice.ask(f"submit {first}", sent).code == 0
    again = alice.ask(f"submit {first}", sent)
    assert again.refused and b"exists already" in again.err
    alice.wait([first], "pending")
    owner(lab, f"approve {first}")
    alice.wait([first], "done")
    assert alice.ask(f"submit {first}", sent).refused
    lab.ssh(NODE, f"sudo rm {VAR}/published/{RESEARCHER}/jobs/{first}.json")
    for job in (first, second):
        assert alice.ask(f"submit {job}", sent).code == 0
    alice.wait([first, second], "refused")
    assert "has been here: choose another name" in alice.state(first)["reason"]
    assert f"says name {first!r}" in alice.state(second)["reason"]
    logged = events(lab, f"{RESEARCHER}:{first}", f"{RESEARCHER}:{second}")
    assert list(logged.values()) == [["receive", "approve", "start", "end"], []]


def test_a_thousand_submissions_stop_nothing_and_fill_nothing(
    lab: Lab, alice: Login, mallory: Login
) -> None:
    """Good ones, cancelled to make room for more, garbage, replays: all from one sender."""
    size = f"sudo du -sm --apparent-size {VAR}; sudo journalctl --disk-usage"
    before = lab.ssh(NODE, size).stdout
    kinds: list[Callable[[str], bytes]] = [
        mallory.job,
        mallory.job,
        lambda name: mallory.job(name, {"code/big.py": b"#" * 1_000_000}),
        lambda name: mallory.job("replayed"),
        lambda name: HOSTILE["no tar"],
        lambda name: HOSTILE["symbolic link"],
        lambda name: HOSTILE["sparse, GNU"],
        lambda name: b"",
    ]
    names = [unique(f"n{number}") for number in range(1000)]
    counted = {"taken": 0, "refused": 0}
    for start in range(0, 1000, 50):
        batch = [
            (f"submit {name}", kinds[n % 8](name)) for n, name in enumerate(names[start:][:50])
        ]
        answers = mallory.ask_all(batch)
        taken = [name for name, a in zip(names[start:], answers, strict=False) if a.code == 0]
        counted["taken"] += len(taken)
        counted["refused"] += sum(a.refused for a in answers)
        mallory.ask_all((f"cancel {name}", b"") for name in taken)
    assert counted["taken"] + counted["refused"] == 1000 and counted["taken"] >= 20, counted
    assert b"within an hour: wait" in mallory.ask("submit more", mallory.job("more")).err
    honest = unique("honest")
    alice.submit(honest)
    alice.wait([honest], "pending")
    assert alice.ask(f"cancel {honest}").code == 0
    alice.wait([honest], "rejected")
    units = "fedrnn-datasite.path fedrnn-datasite.service fedrnn-launch.socket ssh"
    assert "failed" not in lab.ssh(NODE, f"systemctl is-failed {units}").stdout
    assert lab.ssh(NODE, "systemctl is-active fedrnn-datasite.path").stdout == "active\n"
    assert lab.ssh(NODE, f"sudo ls -A {VAR}/mailbox/new").stdout == ""
    after = lab.ssh(NODE, size).stdout
    assert int(after.split()[0]) - int(before.split()[0]) < 30, (before, after)
