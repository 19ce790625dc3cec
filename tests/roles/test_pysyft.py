"""The datasite: who may read what, what runs, and what does not."""

import re
import shlex
import time

import pytest


def run_as(host, account, command):
    """Runs a shell command on the node as another account, through the operator's sudo."""
    return host.run(f"sudo -u {account} sh -c {shlex.quote(command)}")


@pytest.mark.parametrize(
    ("package", "version"),
    [("syft", "0.10.0"), ("syft-rds", "0.6.1"), ("syft-job", "0.1.40"), ("flwr", "1.42.0")],
)
def test_pysyft_and_flower_are_the_locked_ones(host, package, version):
    ask = f'import importlib.metadata as m; print(m.version("{package}"))'
    assert host.check_output(f"/opt/fedrnn/venv/bin/python -c '{ask}'") == version


def test_no_training_code_is_installed(host):
    found = host.check_output("find /opt/fedrnn/lib -name '*.py' | sort").split()
    ours = ("fedrnn/__init__.py", "owner.py", "printable.py")
    assert all("/datasite/" in f or f.endswith(ours) for f in found)
    assert len(found) > 5


def run_as_job(host, command):
    """Runs a shell command with the rights of a job, whose account exists while it runs."""
    groups = "--reuid=62000 --regid=fedrnn-wire --groups=fedrnn-job"
    return host.run(f"sudo setpriv {groups} sh -c {shlex.quote(command)}")


@pytest.mark.parametrize("account", ["fedrnn", "fedrnn-owner"])
def test_accounts_have_no_password(host, account):
    assert host.check_output(f"sudo getent shadow {account}").split(":")[1] in ("*", "!*")


@pytest.mark.parametrize("account", ["nobody", "fedrnn"])
@pytest.mark.parametrize(
    "path",
    ["/var/lib/fedrnn/SyftBox", "/var/lib/fedrnn/jobs", "/var/lib/fedrnn/due",
     "/var/lib/fedrnn/share", "/etc/fedrnn/datasite.json", "/etc/fedrnn/approved_jobs.json"],
)  # fmt: skip
def test_other_accounts_read_neither_data_nor_state(host, account, path):
    assert host.run(f"sudo test -e {path}").rc == 0
    reading = run_as(host, account, f"if test -d {path}; then ls {path}; else cat {path}; fi")
    assert reading.rc != 0 and "Permission denied" in reading.stderr


def test_nothing_of_the_datasite_is_open_to_every_account(host):
    """But the three folders on the way, whose own names say nothing; no account writes to them."""
    tops = "/etc/fedrnn /var/lib/fedrnn /run/fedrnn"
    found = host.check_output(f"sudo find {tops} ! -type l -perm /o+rwx -printf '%m %p\\n'")
    assert set(found.splitlines()) == {
        "755 /etc/fedrnn", "755 /run/fedrnn", "1775 /var/lib/fedrnn",
    }  # fmt: skip
    assert host.check_output("stat -c %G /var/lib/fedrnn") == "fedrnn-owner"
    # The log is there from the first decision on.
    secrets = "/var/lib/fedrnn/decisions.jsonl /run/fedrnn/launch /etc/ssh/ssh_host_*_key"
    modes = host.check_output(f"sudo sh -c 'find {secrets} -printf \"%m \" 2>&-; true'").split()
    assert len(modes) >= 2 and set(modes) == {"600"}


def test_the_owner_reads_the_data_so_the_test_above_can_fail(host):
    reading = run_as(host, "fedrnn-owner", "cat /var/lib/fedrnn/SyftBox/*/private/*/names/*.txt")
    assert reading.rc == 0 and len(reading.stdout) > 1000


def test_nothing_writes_where_it_has_no_business(host):
    for account, path in [
        ("fedrnn", "/opt/fedrnn/lib/x"), ("fedrnn", "/etc/fedrnn/researchers.keys"),
        ("fedrnn", "/var/lib/fedrnn/published/x"), ("fedrnn", "/var/lib/fedrnn/due/x"),
        ("fedrnn-owner", "/etc/fedrnn/approved_jobs.json"), ("fedrnn-owner", "/opt/fedrnn/lib/x"),
    ]:  # fmt: skip
        writing = run_as(host, account, f"echo x >> {path}")
        assert writing.rc != 0, (account, path)
    for path in ("/var/lib/fedrnn/due/x", "/var/lib/fedrnn/mailbox/new/x", "/run/fedrnn/x"):
        assert run_as_job(host, f"echo x >> {path}").rc != 0, path


def test_only_the_datasite_reaches_the_launcher(host):
    connect = 'import socket; socket.socket(socket.AF_UNIX).connect("/run/fedrnn/launch")'
    probe = f"python3 -c '{connect}'"
    for account in ("nobody", "fedrnn"):
        assert "PermissionError" in run_as(host, account, probe).stderr, account
    assert "PermissionError" in run_as_job(host, probe).stderr
    assert run_as(host, "fedrnn-owner", probe).rc == 0


def test_nothing_of_the_datasite_stays_in_memory(host):
    assert host.check_output("systemctl is-active fedrnn-datasite.path") == "active"
    assert host.check_output("systemctl is-active fedrnn-launch.socket") == "active"
    assert host.run("pgrep -u fedrnn-owner").stdout == ""
    assert host.run("pgrep -G fedrnn-wire").stdout == ""


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ("", "describe"),
        ("-c id", "id"),
        ("-c 'exec /opt/fedrnn/bin/gate; id'", "describe"),
        ("-c 'exec /opt/fedrnn/bin/gate --sender controller@lab.local'", ""),
        ("-c 'exec /opt/fedrnn/bin/gate --sender a@b; id'", "describe"),
        ("-i -c 'exec /opt/fedrnn/bin/gate --sender a@b'", "describe"),
    ],
)
def test_the_gates_account_has_no_shell_even_for_a_key_without_a_forced_command(host, words, asked):
    shell = host.check_output("getent passwd fedrnn").split(":")[6]
    given = f"SSH_ORIGINAL_COMMAND={asked}" if asked else ""
    done = host.run(f"sudo -u fedrnn env {given} {shell} {words}")
    assert done.rc == 2 and "refused" in done.stderr and done.stdout == ""


def test_the_gates_account_serves_a_forced_command_so_the_test_above_can_fail(host):
    words = "-c 'exec /opt/fedrnn/bin/gate --sender controller@lab.local'"
    done = host.run(f"sudo -u fedrnn env SSH_ORIGINAL_COMMAND=status /opt/fedrnn/bin/shell {words}")
    assert done.rc == 0 and done.stdout.startswith("[")


class Probe:
    """A hand-made job under the real unit, started as only root can."""

    def __init__(self, host, name, script):
        self.host, self.key = host, f"controller@lab.local:{name}"
        self.unit = f"fedrnn-job@{self.key}.service"
        self.note = f"/var/lib/fedrnn/due/{self.key}"
        self.folder = f"/var/lib/fedrnn/jobs/{self.key}"
        owner = "install -d -o fedrnn-owner -g fedrnn-job"
        self.sudo(f"{owner} -m 2750 '{self.folder}' '{self.folder}/code'")
        self.sudo(f"{owner} -m 2770 '{self.folder}/code/outputs'")
        self.sudo(f"cat > '{self.folder}/run.sh' <<'END'\n{script}\nEND")
        self.sudo(f"touch '{self.folder}/environment'; chmod 644 '{self.folder}'/*[!e]")

    def sudo(self, command):
        return self.host.check_output(f"sudo sh -c {shlex.quote(command)}")

    def start(self):
        self.sudo(f"echo 'start {self.key}' | /opt/fedrnn/bin/launch")
        self.sudo(f"until systemctl is-active '{self.unit}' || test -e '{self.note}'; do :; done")

    def run(self, seconds=20):
        self.start()
        self.sudo(f"timeout {seconds} sh -c \"until test -e '{self.note}'; do sleep 0.1; done\"")

    def output(self):
        return self.sudo(f"cat '{self.folder}/stdout.txt'")

    def remove(self):
        self.sudo(f"systemctl stop '{self.unit}'; rm -rf '{self.folder}' '{self.note}'")


@pytest.fixture
def probe(host):
    made = []
    host.check_output("sudo systemctl stop fedrnn-datasite.path")  # it would read their notes
    yield lambda name, script: made.append(Probe(host, name, script)) or made[-1]
    for one in made:
        one.remove()
    # Many tests in a row would come to the limit on starts.
    host.check_output("sudo systemctl reset-failed fedrnn-datasite.path")
    host.check_output("sudo systemctl start fedrnn-datasite.path")


def test_the_job_sees_its_data_and_nothing_of_the_datasite(probe):
    job = probe(
        "probe",
        """
id; ls /var/lib/fedrnn; ls /var/lib/fedrnn/SyftBox/*;
cat /etc/fedrnn/datasite.json 2>&1; ls /opt/fedrnn/lib 2>&1; ls /home 2>&1;
cat /var/lib/fedrnn/SyftBox/*/private/*/names/*.txt | wc -l;
touch /var/lib/fedrnn/SyftBox/x /tmp/ok code/outputs/ok 2>&1;
cat /proc/self/net/dev; grep Cap /proc/self/status; grep NoNewPrivs /proc/self/status
echo run: $(ls /run/fedrnn)
""",
    )
    job.run()
    out = job.output()
    assert 61184 <= int(re.match(r"uid=(\d+)", out)[1]) <= 65519, "no account of its own"
    assert "(fedrnn-wire)" in out and "(fedrnn-job)" in out
    assert "\nSyftBox\ndue\njobs\nprivate\npublic\n" in out, out
    assert "Permission denied" in out and "launcher" not in out
    assert "owner" not in out.replace("fedrnn-owner", ""), "it read datasite.json"
    assert "cannot touch '/var/lib/fedrnn/SyftBox/x'" in out
    assert "lo:" in out and "eth0:" not in out
    assert "CapEff:\t0000000000000000" in out and "NoNewPrivs:\t1" in out
    assert out.endswith(f"run: {job.key}"), out


def test_no_job_reaches_another(host, probe):
    first = probe("first", "python3 -c 'import socket as s; t = s.socket(s.AF_UNIX);"
                  ' t.bind("/run/fedrnn/controller@lab.local:first/worker.sock"); t.listen();'
                  " input()' < /dev/zero & ipcmk -Q; echo here; exec sleep 60")  # fmt: skip
    first.start()
    pid = first.sudo(f"systemctl show -P MainPID '{first.unit}'")
    second = probe(
        "second",
        f"""
ls /run/fedrnn /var/lib/fedrnn/jobs
ls /run/fedrnn/{first.key} {first.folder} /proc/{pid} 2>&1
kill -9 {pid} 2>&1; ipcs -q | grep -c 0x
id -u
""",
    )
    second.run()
    out = second.output()
    uid = host.check_output(f"stat -c %u /proc/{pid}")
    assert out.startswith(f"/run/fedrnn:\n{second.key}\n\n/var/lib/fedrnn/jobs:\n{second.key}\n")
    assert out.count("No such file or directory") == 3, out
    assert "kill: (" in out and ("not permitted" in out or "No such process" in out)
    assert out.split()[-2:][0] == "0", "it sees the other's message queues"
    assert out.split()[-1] != uid
    assert host.run(f"systemctl is-active '{first.unit}'").stdout.strip() == "active"


def test_a_job_has_bounds(host, node, probe, variables):
    # Virtual nodes have one kernel: it counts the processes of an account, which a name makes.
    job = probe(f"bounds-{node}", "for n in $(seq 100); do sleep 20 & done; sleep 20")
    job.start()
    until, there = time.monotonic() + 30, 0
    while there < 40 and time.monotonic() < until:
        there = int(host.run("pgrep -c -G fedrnn-wire").stdout)
    assert there >= 40, "it has not come near its limit"
    time.sleep(1)
    bound = host.check_output(f"systemctl show -P RuntimeMaxUSec '{job.unit}'")
    asked = host.check_output(f"systemd-analyze timespan {variables['pysyft_job_hours']}h")
    assert asked.endswith(f"Human: {bound}")
    assert int(host.check_output("pgrep -c -G fedrnn-wire")) <= 64


def size_of(variables, name):
    """Bytes of a size as systemd writes it, where it is one."""
    said = re.fullmatch(r"(\d+)([KMGT]?)", str(variables[name]))
    if not said:
        pytest.skip(f"{name} is {variables[name]}")
    return int(said[1]) << 10 * " KMGT".index(said[2] or " ")


def test_a_job_that_takes_more_memory_than_it_may_is_ended_and_does_not_go_on_in_swap(
    host, probe, variables
):
    if "memory" not in host.run("cat /sys/fs/cgroup/cgroup.controllers").stdout.split():
        pytest.skip("this kernel limits nobody's memory")
    memory, swap = (size_of(variables, f"pysyft_job_{kind}") for kind in ("memory", "swap"))
    chunks = (memory + swap) // 10**7 + 40
    take = "all = []; [(all.append(b'x' * 10**7), print(len(all), flush=True)) for _ in range(%d)]"
    job = probe("greedy", f"exec python3 -c {shlex.quote(take % chunks)}")
    job.run(300)
    assert job.sudo(f"cat '{job.note}'").split()[0] == "oom-kill"
    # The interpreter needs some, too.
    taken = int(job.output().split()[-1]) * 10**7
    assert memory - 130 * 10**6 < taken <= memory + swap


def test_what_the_datasite_writes_for_a_job_reaches_no_command_of_roots(host, probe):
    """A PATH of the datasite's would have root run a program out of a folder of the datasite's."""
    job = probe("forged", "exit 0")
    due = "/var/lib/fedrnn/due"
    trap = (
        "printf '#!/bin/sh\\n/usr/bin/id -u > rooted\\n' | tee rm mv chown; chmod 755 rm mv chown"
    )
    job.sudo(f"cd {due} && {trap}; echo PATH=. > '{job.folder}/environment'")
    try:
        job.run()
        assert job.sudo(f"cat '{job.note}'").split()[1] == "exited"
        assert job.sudo(f"cd {due}; ls").split() == sorted(["chown", job.key, "mv", "rm"])
    finally:
        job.sudo(f"cd {due} && /usr/bin/rm -f rm mv chown rooted")


def test_the_datasite_stops_a_job_with_all_that_it_started(host, probe):
    job = probe("stopped", "sleep 60 & sleep 60")
    job.start()
    say = (
        "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/fedrnn/launch');"
        f"s.sendall(b'stop {job.key}\\n'); print(s.makefile().read())"
    )
    done = run_as(host, "fedrnn-owner", f"python3 -c {shlex.quote(say)}")
    assert done.stdout.strip() == "done", done.stderr
    assert host.run("pgrep -G fedrnn-wire").stdout == ""
    assert job.sudo(f"cat '{job.note}'").split() == ["success", "killed", "TERM"]


def test_outputs_that_the_job_has_locked_are_the_datasites(host, probe):
    job = probe(
        "locked",
        "cd code/outputs; mkdir -p a/b; echo 1 > a/b/c; ln -s /etc/fedrnn/datasite.json link;"
        " ln -s /etc d; chmod 0 a/b/c a/b a",
    )
    before = host.check_output("stat -c '%a %U' /etc /etc/fedrnn/datasite.json")
    job.run()
    reading = run_as(host, "fedrnn-owner", f"cat '{job.folder}/code/outputs/a/b/c'")
    assert reading.stdout == "1\n", reading.stderr
    assert run_as(host, "fedrnn-owner", f"rm -r '{job.folder}/code/outputs/a'").rc == 0
    assert host.check_output("stat -c '%a %U' /etc /etc/fedrnn/datasite.json") == before


def test_nothing_is_imported_from_the_current_folder(host):
    # A word that no hash in the log spells by chance.
    host.run_test("mkdir -p /tmp/here; echo 'print(\"planted\")' > /tmp/here/json.py")
    done = host.run("cd /tmp/here && sudo fedrnn-owner log")
    assert done.rc == 0 and "planted" not in done.stdout
    units = host.check_output("systemctl cat fedrnn-datasite.service")
    assert "python -P -m" in units
    host.run_test("rm -r /tmp/here")
