"""Every login of the account `fedrnn` ends in the gate, whatever it asks sshd for."""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest
from cluster import INVENTORY, RESEARCHER, Lab
from login import KEY, NODE, Journal, Login, unique

COMMANDS = [
    "sh", "bash -i", "/bin/sh -c id", "id", "describe; id", "describe && id", "describe | id",
    "describe\nid", "$(id)", "`id`", "'describe", 'status "', "describe\\", "../../../bin/sh",
    "../gate describe", "/opt/fedrnn/bin/gate --sender pi1@lab.local", "--root / describe",
    "describe --root=/", "DESCRIBE", "python3 -c 1", "internal-sftp", "scp -t /tmp",
    "scp -f /etc/passwd", "rsync --server --sender . /etc", "git-upload-pack '/'",
    "submit ../../../etc/cron.d/x", "submit '/tmp/x'", "submit 'a\nb'", "submit ''", "submit .x",
    "status ../../../etc/passwd", "status '*'", "status a/../b", "status 'x\x1b[2J'",
    "results ../../..", "results '*'", "results ''", "cancel ../new", "cancel 'x.cancel'",
    "attach ../launch", "attach ..", "attach /run/systemd/journal/stdout", "attach 'a\tb'",
    "attach 'other@lab.local:x'", "status " + "x" * 100_000,
]  # fmt: skip


@pytest.fixture(scope="module")
def login(lab: Lab) -> Iterator[Login]:
    with Login(lab) as login:
        yield login


def ssh(lab: Lab, *words: str | bytes, key: Path = KEY, user: str = "fedrnn") -> list[str | bytes]:
    """The command line of plain OpenSSH, which asks for whatever it is told to."""
    return [
        "ssh", f'-oUserKnownHostsFile="{INVENTORY}/known_hosts"', "-oGlobalKnownHostsFile=none",
        "-F/dev/null", "-oStrictHostKeyChecking=yes", "-oBatchMode=yes", "-oIdentitiesOnly=yes",
        "-oExitOnForwardFailure=yes", f"-i{key}", f"-p{lab.port(NODE)}", f"{user}@127.0.0.1",
        *words,
    ]  # fmt: skip


def test_no_command_is_run_but_the_verbs_of_the_gate(lab: Lab, login: Login) -> None:
    journal = Journal(lab)
    for command, answer in zip(COMMANDS, login.ask_all((c, b"") for c in COMMANDS), strict=True):
        assert answer.refused, (command, answer)
        assert b"uid=" not in answer.err and b"Traceback" not in answer.err, (command, answer)
    said = journal.read()
    assert said.count(f"refused {RESEARCHER}: ") == len(COMMANDS) == said.count("\n"), said
    assert "\x1b" not in said and r"describe\nid" in said


def test_words_that_are_no_text_and_no_words_at_all_are_refused(lab: Lab) -> None:
    for words in ([b"status \xff\xfe"], [b"describe \xc3"], []):
        done = subprocess.run(
            ssh(lab, "-T", *words), capture_output=True, input=b"id\n", timeout=30
        )
        assert done.returncode == 2 and done.stdout == b"" and b"refused: " in done.stderr, done
        assert b"Traceback" not in done.stderr


def test_there_is_no_sftp_no_scp_and_no_terminal(lab: Lab, login: Login, tmp_path: Path) -> None:
    with pytest.raises(asyncssh.Error):
        login.run(login.connection.start_sftp_client())
    with pytest.raises(asyncssh.Error):
        login.run(login.connection.create_process("describe", term_type="xterm"))
    where = f"-P{lab.port(NODE)}"
    for old in ([], ["-O"]):
        options = [str(w) for w in ssh(lab)[1:-2] if not str(w).startswith("-p")]
        target = "fedrnn@127.0.0.1:/var/lib/fedrnn/mailbox/new/x"
        done = subprocess.run(
            ["scp", *old, *options, where, "/etc/hostname", target], capture_output=True, timeout=30
        )
        assert done.returncode != 0 and done.stdout == b"", done
    assert lab.ssh(NODE, "sudo ls -A /var/lib/fedrnn/mailbox/new").stdout == ""


def test_nothing_is_forwarded_either_way(lab: Lab, login: Login) -> None:
    """What -L, -D, -W and -R ask for, with a session beside them and without."""
    to = login.connection
    for opening in (
        to.open_connection("127.0.0.1", 22),
        to.open_unix_connection("/run/fedrnn/launch"),
        to.open_unix_connection("/run/systemd/journal/stdout"),
    ):
        with pytest.raises(asyncssh.ChannelOpenError, match="open failed"):
            login.run(opening)
    for listening in (
        to.forward_remote_port("", 0, "127.0.0.1", 22),
        to.forward_remote_path("/var/lib/fedrnn/mailbox/s", "/dev/null"),
    ):
        with pytest.raises(asyncssh.ChannelListenError):
            login.run(listening)
    done = subprocess.run(
        ssh(lab, "-NR", "0:127.0.0.1:22"), capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 255 and "remote port forwarding failed" in done.stderr, done


def test_no_variable_agent_or_display_of_the_client_comes_along(lab: Lab, tmp_path: Path) -> None:
    sent = ["LD_PRELOAD=/x", "PYTHONPATH=/tmp", "PYTHONINSPECT=1", "FEDRNN_DATA=/etc",
            "SSH_ORIGINAL_COMMAND=describe", "BASH_ENV=/x", "ENV=/x", "IFS=x", "LC_ALL=tr_TR.UTF-8",
            "LC_x=() { id; }"]  # fmt: skip
    agent = subprocess.Popen(
        ["ssh-agent", "-D", "-a", tmp_path / "agent"], stdout=subprocess.DEVNULL
    )
    environment = {**os.environ, "SSH_AUTH_SOCK": str(tmp_path / "agent"), "DISPLAY": "127.0.0.1:9"}
    words = ["-A", "-X", "-oSetEnv=" + " ".join(f'"{s}"' for s in sent)]
    name = unique("open")
    waiting = subprocess.Popen(
        ssh(lab, *words, f"submit {name}"),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
    )  # fmt: skip
    try:
        look = (
            'until pid=$(pgrep -u fedrnn -f "gate --sender"); do sleep 0.1; done; sudo cat '
            "/proc/$pid/environ | tr '\\0' '\\n'; ls -d /tmp/ssh-* 2>&1; ss -Hltn"
        )
        seen = lab.ssh(NODE, f"timeout 20 sh -c {shlex.quote(look)}").stdout
    finally:
        _, errors = waiting.communicate(b"", timeout=30)
        agent.terminate()
    assert f"SSH_ORIGINAL_COMMAND=submit {name}\n" in seen, seen
    for refused in (*(s for s in sent if not s.startswith("LC_")), "SSH_AUTH_SOCK", "DISPLAY"):
        assert refused not in seen, refused
    assert ":60" not in seen and "ls: cannot access" in seen, seen
    assert waiting.returncode == 2, errors
    assert b"uid=" not in errors


def test_a_key_opens_the_account_that_it_is_for_and_no_other(lab: Lab, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-qt", "ed25519", "-N", "", "-f", tmp_path / "k"], check=True)
    for key, user in (
        (tmp_path / "k", "fedrnn"), (INVENTORY / "keys" / "operator", "fedrnn"),
        (KEY, "pi"), (KEY, "root"), (KEY, "fedrnn-owner"),
    ):  # fmt: skip
        done = subprocess.run(
            ssh(lab, "describe", key=key, user=user), capture_output=True, text=True, timeout=30
        )
        assert done.returncode == 255 and "Permission denied (publickey" in done.stderr, (key, user)
    assert subprocess.run(ssh(lab, "describe"), capture_output=True, timeout=30).returncode == 0


def test_the_controllers_keys_are_its_users_alone() -> None:
    keys = INVENTORY / "keys"
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    found = {f.name: stat.S_IMODE(f.stat().st_mode) for f in keys.iterdir() if f.suffix != ".pub"}
    assert found.keys() >= {"operator", "researcher"} and set(found.values()) == {0o600}, found
