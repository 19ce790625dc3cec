"""What `fedrnn.nodes` makes of what boards print, and how it tells it."""

from __future__ import annotations

import asyncio
import io
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from fedrnn import nodes
from fedrnn.checkout import ROOT
from fedrnn.inventory import Inventory, Node
from fedrnn.reporting.glance import PROBE, glance

PI3 = """
@ clock
1764000000
1764000000

@ root
yes

@ container

@ model
Raspberry Pi 3 Model B Plus Rev 1.3

@ memory
MemTotal:         927876 kB

@ swaps
/var/swap                               file\t\t1048572\t\t52224\t\t-2

@ disk
/dev/root        30324228 3957512  25103420      14% /

@ mounts
/dev/mmcblk0p2 / ext4 rw,noatime 0 0
/dev/mmcblk0p1 /boot/firmware vfat rw,relatime 0 0

@ identity
0123456789abcdef0123456789abcdef

@ installed
yes

@ kernel_log

@ temperature
52616

@ throttled
throttled=0x0

@ end

@ kernel_release
6.12.47+rpt-rpi-v8

@ pretty
Debian GNU/Linux 13 (trixie)

@ uptime
93784.26 361829.92

@ meminfo
MemTotal:         927876 kB
MemAvailable:     512000 kB
SwapTotal:       1048572 kB
SwapFree:         996348 kB

@ venv
Python 3.13.5
syft-0.10.0
torch-2.9.1

@ vcgencmd
/usr/bin/vcgencmd

@ datasite
active

@ datasite_failed
inactive

@ last_job
{"job": "train-20261125-150844-660354", "status": "done", "reason": null}

@ told
"""


def said(old: str, new: str) -> dict:
    assert old in PI3
    return glance("pi1", PI3.replace(old, new))


def test_a_healthy_pi_is_told_in_full():
    row = glance("pi1", PI3)
    assert row == {
        "node": "pi1", "reachable": True, "identity": "0123456789abcdef" * 2,
        "model": "Raspberry Pi 3 Model B Plus Rev 1.3", "os": "Debian GNU/Linux 13 (trixie)",
        "kernel": "6.12.47+rpt-rpi-v8", "uptime_seconds": 93784.26, "celsius": 52.616,
        "throttled": "no", "memory_mb": {"total": 906, "free": 500},
        "swap_mb": {"total": 1023, "used": 51},
        "disk": {"total_mb": 29613, "free_mb": 24515}, "card_errors": 0, "python": "3.13.5",
        "torch": "2.9.1", "pysyft": "0.10.0", "datasite": "listens",
        "last_job": {"job": "train-20261125-150844-660354", "status": "done"},
        "problems": [], "notices": [],
    }  # fmt: skip
    assert nodes.is_healthy(row)


@pytest.mark.parametrize(
    ("flags", "words", "healthy"),
    [
        ("throttled=0x0", "no", True),
        ("throttled=0x50005", "under-voltage now; throttled now", False),
        ("throttled=0x50000", "under-voltage since it was switched on; throttled since", True),
        ("throttled=0x80008", "soft limit of temperature now", False),
        ("throttled=0xe0006", "the frequency is capped, throttled", False),
        ("50005", "under-voltage now", False),  # the kernel's own file, without vcgencmd
        ("VCHI initialization failed", "no", True),
        ("error=1 error_msg=\"Command not registered\"", "no", True),
    ],
)  # fmt: skip
def test_the_firmwares_flags_are_told_in_words(flags, words, healthy):
    row = said("throttled=0x0", flags)
    assert row["throttled"].startswith(words) and nodes.is_healthy(row) == healthy
    assert bool(row["problems"] or row["notices"]) == (words != "no")


def test_a_node_without_vcgencmd_says_so_and_is_healthy():
    row = glance("pi1", PI3.replace("throttled=0x0", "").replace("/usr/bin/vcgencmd", ""))
    assert row["throttled"] == "no vcgencmd" and nodes.is_healthy(row)


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("@ kernel_log\n", "@ kernel_log\nmmc0: error -110 whilst initialising SD card\n", "card"),
        ("52616", "84200", "84 °C"),
        ("25103420", "120000", "free under /opt"),
        ("/ ext4 rw,", "/ ext4 ro,", "read-only"),
        ("@ datasite\nactive", "@ datasite\ninactive", "does not listen"),
        (
            "@ datasite\nactive",
            "@ drained\n/etc/fedrnn/drained\n\n@ datasite\ninactive",
            "playbooks/upgrade.yml",
        ),
        ("@ datasite_failed\ninactive", "@ datasite_failed\nfailed", "has failed"),
    ],
)
def test_what_is_wrong_is_said(old, new, word):
    row = said(old, new)
    assert not nodes.is_healthy(row) and word in row["problems"][0]


@pytest.mark.parametrize("length", range(0, len(PI3), 61))
def test_a_node_that_answers_half_is_told_for_what_it_said(length):
    row = glance("pi1", PI3[:length])
    assert row["problems"] or row["notices"]
    assert row["reachable"] == ("@ clock" in PI3[:length])
    nodes.show(Console(file=io.StringIO(), width=150), [row])
    json.dumps(row)


def test_nonsense_is_no_answer():
    row = glance("pi1", "Welcome! \x1b]0;owned\x07 Please change your password.")
    assert not row["reachable"] and not nodes.is_healthy(row)


@pytest.mark.parametrize("width", [40, 80, 110, 160])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_table_fits_a_terminal_of_any_width(width, encoding):
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
    console = Console(file=file, width=width, force_terminal=True, color_system=None)
    rows = [glance("pi1", PI3), nodes.unreachable("[b]pi2", "no route\x1b[2J to it")]
    nodes.show(console, rows)
    file.flush()
    text = file.buffer.getvalue().decode(encoding)
    assert "[b]pi2" in text and "\x1b" not in text and "1 of 2 nodes are healthy" in text
    assert max(len(line) for line in text.splitlines()) <= width


def test_this_machine_answers_the_real_question():
    question = f"ASKED_AT=1\nTHOROUGH=no\nSITES=''\n{PROBE}"
    done = subprocess.run(["sh", "-c", question], capture_output=True, text=True, check=True)
    row = glance("here", done.stdout)
    assert row["memory_mb"]["total"] > 100 and row["uptime_seconds"] > 0 and row["kernel"]
    assert "it answered in part only" not in row["notices"]


def test_a_node_that_is_away_does_not_keep_the_others(tmp_path):
    (tmp_path / "known_hosts").write_text("")
    inventory = Inventory(tmp_path, "me@lab.local", tmp_path / "key", "language", 0, ())
    away = tuple(Node(f"pi{n}", "127.0.0.1", 9, "o@lab.local", "pi") for n in range(3))
    rows = asyncio.run(nodes.ask_all(inventory, away))
    assert [row["reachable"] for row in rows] == [False] * 3
    assert "Connect" in rows[0]["problems"][0]


@pytest.mark.parametrize("damaged", ["the key", "the pin"])
def test_a_damaged_file_of_one_node_does_not_keep_the_others(tmp_path, damaged):
    keys = tmp_path / "keys"
    keys.mkdir()
    for name, phrase in (("locked", "secret"), ("good", "")):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", phrase, "-f", keys / name]
        subprocess.run(command, check=True)
    (keys / "damaged").write_text("no key\n")
    (tmp_path / "known_hosts").write_text("pi1\n" if damaged == "the pin" else "")
    inventory = Inventory(tmp_path, "me@lab.local", tmp_path / "key", "language", 0, ())
    away = tuple(
        Node(name, "127.0.0.1", 9, "o@lab.local", "pi", operator_key=str(keys / name))
        for name in ("damaged", "locked", "good")
    )
    rows = asyncio.run(nodes.ask_all(inventory, away))
    assert [row["reachable"] for row in rows] == [False] * 3
    if damaged == "the key":
        assert "Invalid" in rows[0]["problems"][0]
        assert all("Connect" in row["problems"][0] for row in rows[1:])


def test_the_exit_code_is_2_for_what_is_asked_wrongly(tmp_path, capsys):
    assert nodes.main(["--inventory", str(tmp_path / "nothing")]) == 2
    assert "there is no inventory" in capsys.readouterr().err


def test_ctrl_c_before_the_first_answer_ends_it_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "known_hosts").touch()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        where = f"{{ansible_host: 127.0.0.1, ansible_port: {silent.getsockname()[1]}}}"
        (tmp_path / "hosts.yml").write_text(f"nodes:\n  hosts: {{pi1: {where}}}\n")
        command = [sys.executable, "-m", "fedrnn.nodes", "--inventory", str(tmp_path)]
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        connection, _ = silent.accept()
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=30)[1]
        connection.close()
    assert process.returncode == 130 and "Traceback" not in said, said


@pytest.mark.parametrize("as_json", [False, True])
def test_it_asks_again_until_ctrl_c(tmp_path: Path, as_json: bool) -> None:
    """Two looks at two nodes that are away; the exit code is that of the last."""
    (tmp_path / "known_hosts").touch()
    away = "{ansible_host: 127.0.0.1, ansible_port: 9}"
    (tmp_path / "hosts.yml").write_text(f"nodes:\n  hosts: {{pi1: {away}, pi2: {away}}}\n")
    words = ["--inventory", str(tmp_path), "--watch", "0.5", *["--json"] * as_json]
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "fedrnn.nodes", *words],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout
    lines, looks, sign = [], 0, '"nodes": ' if as_json else "0 of 2 nodes are healthy"
    while looks < 2 and (line := process.stdout.readline()):
        lines.append(line)
        looks += sign in line
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=30)[1]
    assert looks == 2 and process.returncode == 1 and "Traceback" not in said, said
    if as_json:
        told = [json.loads(line) for line in lines]
        assert [one["healthy"] for one in told] == [False, False]
        assert [row["node"] for row in told[1]["nodes"]] == ["pi1", "pi2"]
    else:
        assert "pi2: " in "".join(lines) and "\x1b" not in "".join(lines)
