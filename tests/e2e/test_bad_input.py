"""Input that is broken, too large or in the way: said so in words, and the node goes on."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from hashlib import sha256

import asyncssh
import pytest
from cluster import RESEARCHER, Lab
from login import NODE, OWNER, Journal, Login, unique

from fedrnn.datasite.policy import fingerprint
from tests.tars import HOSTILE

VAR = "/var/lib/fedrnn"
LIST = "/etc/fedrnn/approved_jobs.json"
CHUNK = bytes(1 << 16)
PASS = "systemctl start fedrnn-datasite"


@pytest.fixture
def login(lab: Lab) -> Iterator[Login]:
    with Login(lab) as login:
        yield login


def root(lab: Lab, script: str) -> str:
    """What a script prints that root runs on the node."""
    done = lab.ssh(NODE, f"sudo sh -ec {shlex.quote(script)}")
    assert done.returncode == 0, done.stderr
    return done.stdout


def arrives(login: Login) -> bool:
    """Tell whether an honest job comes in, up to where its owner decides."""
    job = unique("honest")
    login.submit(job)
    login.wait([job], "pending")
    return True


def test_a_stream_that_is_no_job_is_refused_and_logged(lab: Lab, login: Login) -> None:
    journal, job = Journal(lab), unique("bad")
    answers = login.ask_all((f"submit {job}", data) for data in HOSTILE.values())
    for kind, answer in zip(HOSTILE, answers, strict=True):
        assert answer.refused and b"Traceback" not in answer.err, (kind, answer)
    said = journal.read()
    assert said.count("\n") == said.count(f"refused {RESEARCHER}: 'submit {job}'") == len(HOSTILE)
    assert root(lab, f"find {VAR}/mailbox -mindepth 2") == ""
    assert root(lab, f"find / -xdev -name evil -newermt @{journal.begin}") == ""
    assert arrives(login)


def test_a_gigabyte_is_cut_off_after_eight_mebibytes(lab: Lab, login: Login) -> None:
    sent, used = login.run(_upload(lab, login, 1 << 30))
    assert sent < 64 << 20, f"{sent} bytes were taken"
    assert 8_000 < used < 64_000, f"the gate has used {used} kB"
    assert root(lab, f"find {VAR}/mailbox -mindepth 2") == ""
    assert arrives(login)


async def _upload(lab: Lab, login: Login, size: int) -> tuple[int, int]:
    """Send that much; return how much was taken, and the memory of the gate in kB on the way."""
    upload = await login.connection.create_process(f"submit {unique('big')}", encoding=None)
    sent = used = 0
    try:
        while sent < size:
            if sent == 8 << 20:
                await upload.stdin.drain()
                look = 'sudo grep VmHWM /proc/$(pgrep -u fedrnn -f "gate --sender")/status'
                used = int(lab.ssh(NODE, look).stdout.split()[1])
            upload.stdin.write(CHUNK)
            await upload.stdin.drain()
            sent += len(CHUNK)
    except (BrokenPipeError, ConnectionError, asyncssh.Error):
        pass
    await upload.wait_closed()
    assert upload.exit_status == 2
    return sent, used


def test_a_full_disk_of_the_mailbox_is_said_and_leaves_no_half_job(lab: Lab, login: Login) -> None:
    box, path = f"{VAR}/mailbox", "fedrnn-datasite.path"
    rights = f"install -d -m 2770 -o fedrnn -g fedrnn-owner {box} {box}/new"
    try:
        root(lab, f"mount -t tmpfs -o size=64k none {box}; {rights}; systemctl restart {path}")
        large = login.job("x", {"code/big.py": b"#" * 100_000})
        refused = login.ask(f"submit {unique('full')}", large)
        assert refused.refused
        assert b"No space left on device: its owner must make room" in refused.err
        assert root(lab, f"find {box} -mindepth 1") == f"{box}/new\n"
        assert arrives(login), "there is room for a small one"
    finally:
        root(lab, f"umount {box}; systemctl restart {path}")
    assert arrives(login)


def test_an_allow_list_that_cannot_be_trusted_starts_nothing_and_says_why(
    lab: Lab, login: Login
) -> None:
    job, files = unique("allowed"), {"run.sh": b"true\n", "code/main.py": b"print('listed')\n"}
    listed = fingerprint({name: sha256(text).hexdigest() for name, text in files.items()})
    good = json.dumps({listed: {}})
    root(lab, f"cp -p {LIST} {LIST}.kept; : > {LIST}")
    try:
        login.submit(job, files)
        login.wait([job], "pending")
        for text, mode, why in (
            ("", "640", "it is no JSON"), ("{", "640", "it is no JSON"),
            ("[]", "640", "it is no table of fingerprints"),
            (good, "646", "others than its operator can write it"),
        ):  # fmt: skip
            root(lab, f"printf %s '{text}' > {LIST}; chmod {mode} {LIST}; {PASS}")
            told, said = login.state(job), lab.ssh(NODE, "sudo fedrnn-owner list").stderr
            assert told["status"] == "pending" and why in told["reason"], (text, told)
            assert f"{LIST} counts as empty: {why}" in said and "--tags pysyft" in said
        root(lab, f"chmod 640 {LIST}; {PASS}")
        login.wait([job], "done")  # by the same list, out of the reach of others
        assert login.state(job)["approval"] == "auto"
    finally:
        root(lab, f"mv {LIST}.kept {LIST}")


def test_a_data_set_that_vanished_after_the_approval_is_said_with_its_remedy(
    lab: Lab, login: Login
) -> None:
    holder, job = unique("holder"), unique("late")
    login.submit(holder, {"code/main.py": b"import time; time.sleep(300)\n"})
    login.submit(job)
    login.wait([holder, job], "pending")
    said = root(lab, f"fedrnn-owner approve {holder}; fedrnn-owner approve {job}")
    assert f"{holder}: running" in said and f"{job}: approved" in said
    data = f"{VAR}/SyftBox/{OWNER}/private/syft_datasets/names"
    root(lab, f"mv {data} {VAR}/.vanished")
    try:
        assert login.ask(f"cancel {holder}").code == 0
        login.wait([job], "failed")
    finally:
        root(lab, f"mv {VAR}/.vanished {data}")
    reason = login.state(job)["reason"]
    assert "has vanished from this node" in reason and "site.yml --tags dataset" in reason
