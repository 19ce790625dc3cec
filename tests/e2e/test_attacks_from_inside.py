"""An approved job gets no further than its data and its folder, and no longer than its time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster import WORKERS, Lab
from governed import BOX, NODE, VAR, Governed, governed, key, unit

HOSTILE = Path(__file__).parent / "hostile"
ERRORS = ("PermissionError", "FileNotFoundError", "ConnectionRefusedError", "OSError", "gaierror",
          "TimeoutExpired")  # fmt: skip
SOCKET = "import socket; s = socket.socket(socket.AF_UNIX)"
LISTENER = f"{SOCKET}; s.bind('\\0fedrnn-test-abstract'); s.listen(); s.accept()"
SLEEPER = "import time\nprint('awake', flush=True)\ntime.sleep(300)\n"
# It shuts its ears to SIGTERM, and has a child in a session of its own that does so, too.
STUBBORN = """\
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
time.sleep(300)
"""
LEAVES_ONE_BEHIND = """\
import subprocess
subprocess.Popen(["setsid", "nohup", "sleep", "300"], stdout=subprocess.DEVNULL)
"""
GREEDY = "hoard = [bytearray(b'x' * (1 << 20)) for _ in range(900)]\n"


@pytest.fixture(scope="module")
def node(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Governed]:
    with governed(lab, tmp_path_factory.mktemp("researcher")) as found:
        yield found


@pytest.fixture(scope="module")
def inside(node: Governed) -> dict[str, Any]:
    """What came of each try of tests/e2e/hostile/inside.py, and what it saw."""
    node.lab.ssh(NODE, f'nohup python3 -c "{LISTENER}" >/dev/null 2>&1 & sleep 0.5')
    node.lab.ssh(NODE, "touch /tmp/of-the-node /var/tmp/of-the-node")
    node.root("install -d -m 1777 /srv/open /var/lib/open")  # where anybody else may write
    name = node.start(HOSTILE / "inside.py", "inside")
    told = json.loads(node.outputs(name)["tries.json"])
    connect = f"{SOCKET}; s.connect('\\0fedrnn-test-abstract')"
    reached = node.lab.ssh(
        NODE, f'python3 -c "{connect}"; rm /tmp/of-the-node /var/tmp/of-the-node'
    )
    assert reached.returncode == 0, "nobody has listened there, so that nothing was tried"
    node.root("rmdir /srv/open /var/lib/open")
    return {**told, "folder": f"{VAR}/jobs/{key(name)}", "run": f"/run/fedrnn/{key(name)}",
            "key": key(name)}  # fmt: skip


def test_nothing_that_a_job_tries_works(inside: dict[str, Any]) -> None:
    """Keys, decisions, others; network, DNS, D-Bus; setuid, sudo, mount, unshare, ptrace."""
    tries = inside["tries"]
    assert {name: came for name, came in tries.items() if came.startswith("OPEN")} == {}
    assert len(tries) > 120 and len(inside["lists"]["privileged"]) > 8, "it has tried too little"
    failed = {n: c for n, c in tries.items() if ":" in c and n.split()[0] not in ("command", "run")}
    odd = {name: came for name, came in failed.items() if not came.startswith(ERRORS)}
    assert odd == {}, "these were not tried, they went wrong"


def test_a_job_reads_its_owners_data_and_its_own_code_and_nothing_else_that_is_private(
    node: Governed, inside: dict[str, Any]
) -> None:
    described = node.node._loop.run(node.node.client.describe())
    assert inside["rows"] == described["rows"], "it has not read its data"
    own = (f"{BOX}/private/", f"{BOX}/public/", f"{inside['folder']}/")
    assert [path for path in inside["lists"]["secret"] if not path.startswith(own)] == []
    seen = inside["lists"]
    assert seen["var"] == ["SyftBox", "due", "jobs"] and seen["box"] == ["private", "public"]
    assert seen["jobs"] == seen["run/fedrnn"] == [inside["key"]]
    assert sorted(seen["run"]) == ["fedrnn", "systemd"] and seen["tmp"] == []
    assert seen["processes"] == ["python inside.py "], "it sees processes of others"


def test_a_job_writes_to_its_outputs_and_to_memory_that_goes_with_it(
    node: Governed, inside: dict[str, Any]
) -> None:
    """It has tried every folder and every file there is."""
    memory = {"/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue"}
    outputs = f"{inside['folder']}/code/outputs"
    assert set(inside["lists"]["created"]) == {outputs, inside["run"], *memory}
    devices = {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"}
    assert set(inside["lists"]["opened"]) <= {*devices, "/dev/pts/ptmx", "/dev/ptmx"}
    assert node.root("find / -xdev -name '.probe-*'; ls /dev/shm") == ""


def test_a_job_has_no_socket_no_interface_and_no_capability(inside: dict[str, Any]) -> None:
    assert inside["lists"]["sockets"] == [] and inside["lists"]["interfaces"] == ["lo"]
    may = inside["lists"]["may"]
    assert may.pop("NoNewPrivs") == "1" and may.pop("Seccomp") == "2"
    assert len(may) == 5 and set(may.values()) == {"0000000000000000"}
    owner = [name for name in inside["lists"]["environment"] if "SSH" in name or "SUDO" in name]
    assert owner == [] and "FEDRNN_BY" not in inside["lists"]["environment"]


def test_a_job_descends_from_the_runners_start(node: Governed) -> None:
    """Who asked the launcher is in the name that systemd gives its unit: number-PID-UID."""
    began = node.root("date +%s.%6N").strip()
    name = node.start(SLEEPER, "descent")
    try:
        show = node.root(f"systemctl show -P MainPID -P ControlGroup '{unit(name)}'").split()
        pid = next(word for word in show if word.isdigit())
        group = next(word for word in show if not word.isdigit())
        assert node.root(f"ps -o ppid= -p {pid}").strip() == "1"
        assert "/system.slice/" in group and group.endswith(f"/{unit(name)}")
        assert unit(name) in node.root(f"cat /proc/{pid}/cgroup")
        uid = int(node.root(f"stat -c %u /proc/{pid}"))
        assert 61184 <= uid <= 65519, "no account of its own"
        journal = f"journalctl -q -o cat --since=@{began} _PID=1"
        asked = [w for w in node.root(journal).split() if w.startswith("fedrnn-launch@")]
        assert len({word.partition(".service")[0] for word in asked}) == 1, asked
        owner = node.root("id -u fedrnn-owner").strip()
        assert asked[0].partition(".service")[0].split("-")[-1] == owner
        events = [line.split("event=")[1].split()[0] for line in node.owner("log").splitlines()
                  if f"job={key(name)} " in line]  # fmt: skip
        assert events == ["receive", "approve", "start"]
    finally:
        node.owner(f"deny {name} --reason enough")


@pytest.mark.parametrize("account", ["fedrnn", "fedrnn-owner", "nobody"])
def test_no_account_starts_the_unit_of_a_job_by_another_way(node: Governed, account: str) -> None:
    name = node.submit(SLEEPER, "other-way")
    try:
        words = f"'{unit(name)}'"
        path = "/org/freedesktop/systemd1 org.freedesktop.systemd1"
        bus = f"busctl call org.freedesktop.systemd1 {path}.Manager"
        send = "dbus-send --system --print-reply --dest=org.freedesktop.systemd1"
        launch = f"{SOCKET}; s.connect('/run/fedrnn/launch'); s.sendall(b'start {key(name)}\\n')"
        ways = {
            "systemctl": f"systemctl --no-ask-password start {words}",
            "restart": f"systemctl --no-ask-password restart {words}",
            "bus": f"{bus} StartUnit ss {words} replace",
            "transient": f"systemd-run --no-ask-password -p Slice={words} true",
            "properties": f"{bus} SetUnitProperties 'sba(sv)' {words} true 1 User s root",
            "reload": f"{bus} Reload",
            "dbus-send": f"{send} {path}.Manager.StartUnit string:{words} string:replace",
            "sudo": f"sudo -n systemctl start {words}",
            "link": "systemctl --no-ask-password link /opt/x.service",
            "run": "touch /run/systemd/system/x",
            "etc": "touch /etc/systemd/system/x /usr/local/lib/systemd/system/x",
            "drop-in": f"mkdir '/run/systemd/system/{unit(name)}.d'",
            "launcher": f"echo 'start {key(name)}' | /opt/fedrnn/bin/launch",
            "datasite": "systemctl --no-ask-password start fedrnn-datasite.service",
        }  # fmt: skip
        if account != "fedrnn-owner":  # the datasite's own way: below
            ways["socket"] = f'python3 -c "{launch}"'
        came = node.attempts(account, ways)
        assert {way: text for way, (code, text) in came.items() if code == 0} == {}
        denials = ("denied", "refused", "required", "not permitted", "not allowed")
        odd = {w: text for w, (_, text) in came.items() if not any(d in text for d in denials)}
        assert odd == {}, "these did not come to be refused"
        assert node.lab.ssh(NODE, WORKERS).stdout == ""
        assert node.node.status(name)["status"] == "pending"
    finally:
        node.owner(f"deny {name} --reason enough")


def test_the_launcher_starts_nothing_that_was_not_staged(node: Governed) -> None:
    """Not even for the datasite's account: a job that waits has no folder to run in."""
    name = node.submit(SLEEPER, "unstaged")
    began = node.root("date +%s.%6N").strip()
    words = [f"start {key(name)}", f"stop {key(name)}", "start ../../etc", "start x; id",
             "start \\$(id)", "start", "", "restart x", "start -H", "start " + "a" * 4000,
             "start a b", "\\0"]  # fmt: skip
    try:
        say = f"{SOCKET}; s.settimeout(10); s.connect('/run/fedrnn/launch'); s.sendall(b'%s\\n'); "
        tries = {word: f'python3 -c "{say % word}print(s.makefile().read())"' for word in words}
        for word, (code, text) in node.attempts("fedrnn-owner", tries).items():
            assert code == 0 and "uid=" not in text, (word, text)
            assert "done" not in text or word.startswith("stop "), (word, text)
        assert node.lab.ssh(NODE, WORKERS).stdout == ""
        said = node.root(f"journalctl -q -o cat --since=@{began} _PID=1")
        assert f"Started {unit(name)}" not in said and "Started fedrnn-job@" not in said, said
        node.until(lambda: node.root(f"ls {VAR}/due") == "")
        assert node.node.status(name)["status"] == "pending"
    finally:
        node.owner(f"deny {name} --reason enough")
    assert node.is_gone(name)


@pytest.fixture
def limits(node: Governed) -> Iterator[None]:
    """A node that gives a job two seconds, and one to end in."""
    folder = "/run/systemd/system/fedrnn-job@.service.d"
    text = "[Service]\\nRuntimeMaxSec=2\\nTimeoutStopSec=1\\n"
    node.root(f"mkdir -p {folder}; printf '{text}' > {folder}/test.conf; systemctl daemon-reload")
    yield
    node.root(f"rm -r {folder}; systemctl daemon-reload")


@pytest.mark.usefixtures("limits")
def test_a_job_ends_at_its_time_limit_whatever_it_does(node: Governed) -> None:
    name = node.start(STUBBORN, "stubborn")
    node.until(lambda: node.lab.ssh(NODE, WORKERS).stdout.count("stubborn.py") == 2)
    state = node.wait(name, "failed")
    assert state["reason"] == "it ran into the time limit of this node"
    assert node.until(lambda: node.is_gone(name))


def test_what_a_job_leaves_in_the_background_ends_with_it(node: Governed) -> None:
    name = node.start(LEAVES_ONE_BEHIND, "behind")
    assert node.wait(name, "done", "failed")["status"] == "done"
    assert node.until(lambda: node.is_gone(name))


def test_a_job_gets_no_more_memory_than_its_node_gives(node: Governed) -> None:
    """900 MiB, where a job may have 600."""
    name = node.start(SLEEPER, "memory")
    show = node.root(f"systemctl show -P ControlGroup '{unit(name)}'").strip()
    bound = (f"cat '/sys/fs/cgroup{show}/memory.max' '/sys/fs/cgroup/memory{show}/"
             "memory.limit_in_bytes' 2>/dev/null || true")  # fmt: skip
    in_force = node.root(bound).split()
    node.owner(f"deny {name} --reason enough")
    if not in_force:
        pytest.skip(
            "no memory controller reaches systemd in this container, so that MemoryMax= is not in "
            "force: on a Pi it is (cgroup_enable=memory)"
        )
    assert in_force == [str(600 << 20)]
    greedy = node.start(GREEDY, "greedy")
    state = node.wait(greedy, "failed", "done")
    assert state["reason"] == "it needed more memory than this node gives a job", state
