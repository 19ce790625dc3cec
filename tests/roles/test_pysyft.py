"""The datasite: who may read what, what runs, and what does not."""

import shlex

import pytest

JOB_UNIT = "fedrnn-job@controller@lab.local:probe.service"


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
    assert all("/datasite/" in f or f.endswith(("fedrnn/__init__.py", "owner.py")) for f in found)
    assert len(found) > 5


@pytest.mark.parametrize("account", ["fedrnn", "fedrnn-owner", "fedrnn-job"])
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


def test_the_owner_reads_the_data_so_the_test_above_can_fail(host):
    reading = run_as(host, "fedrnn-owner", "cat /var/lib/fedrnn/SyftBox/*/private/*/names/*.txt")
    assert reading.rc == 0 and len(reading.stdout) > 1000


def test_nothing_writes_where_it_has_no_business(host):
    for account, path in [
        ("fedrnn", "/opt/fedrnn/lib/x"), ("fedrnn", "/etc/fedrnn/researchers.keys"),
        ("fedrnn", "/var/lib/fedrnn/published/x"), ("fedrnn", "/var/lib/fedrnn/due/x"),
        ("fedrnn-owner", "/etc/fedrnn/approved_jobs.json"), ("fedrnn-owner", "/opt/fedrnn/lib/x"),
        ("fedrnn-job", "/var/lib/fedrnn/due/x"), ("fedrnn-job", "/var/lib/fedrnn/mailbox/new/x"),
    ]:  # fmt: skip
        writing = run_as(host, account, f"echo x >> {path}")
        assert writing.rc != 0, (account, path)


def test_only_the_datasite_reaches_the_launcher(host):
    connect = 'import socket; socket.socket(socket.AF_UNIX).connect("/run/fedrnn/launch")'
    probe = f"python3 -c '{connect}'"
    for account in ("nobody", "fedrnn", "fedrnn-job"):
        assert "PermissionError" in run_as(host, account, probe).stderr, account
    assert run_as(host, "fedrnn-owner", probe).rc == 0


def test_nothing_of_the_datasite_stays_in_memory(host):
    assert host.check_output("systemctl is-active fedrnn-datasite.path") == "active"
    assert host.check_output("systemctl is-active fedrnn-launch.socket") == "active"
    assert host.run("pgrep -u fedrnn-owner").stdout == ""
    assert host.run("pgrep -u fedrnn-job").stdout == ""


def test_the_job_sees_its_data_and_nothing_of_the_datasite(host):
    """Starts the real unit on a hand-made job, as root can, and reads what it could see."""
    folder = "/var/lib/fedrnn/jobs/controller@lab.local:probe"
    script = """
id -un; ls /var/lib/fedrnn; ls /var/lib/fedrnn/SyftBox/*;
cat /etc/fedrnn/datasite.json 2>&1; ls /opt/fedrnn/lib 2>&1; ls /home 2>&1;
cat /var/lib/fedrnn/SyftBox/*/private/*/names/*.txt | wc -l;
touch /var/lib/fedrnn/SyftBox/x /tmp/ok code/outputs/ok 2>&1;
cat /proc/self/net/dev; grep Cap /proc/self/status; grep NoNewPrivs /proc/self/status
"""
    with host.sudo():
        host.run_test(
            f"install -d -o fedrnn-owner -g fedrnn-job -m 2750 '{folder}' '{folder}/code'"
        )
        host.run_test(f"install -d -o fedrnn-owner -g fedrnn-job -m 2770 '{folder}/code/outputs'")
        host.run_test(f"cat > '{folder}/run.sh' <<'END'\n{script}\nEND")
        host.run_test(f"touch '{folder}/environment'; chmod 644 '{folder}'/*[!e]")
        host.run(f"systemctl start --wait '{JOB_UNIT}'")
        out = host.file(f"{folder}/stdout.txt").content_string
        made = host.run(f"stat -c %U:%G '{folder}/code/outputs/ok'").stdout.strip()
        host.run_test(f"rm -r '{folder}'")
    assert out.startswith("fedrnn-job\nSyftBox\ndue\njobs\nprivate\npublic\n"), out
    assert "Permission denied" in out and "launcher" not in out
    assert "owner" not in out, "it read datasite.json"
    assert "cannot touch '/var/lib/fedrnn/SyftBox/x'" in out
    assert "lo:" in out and "eth0:" not in out
    assert "CapEff:\t0000000000000000" in out and "NoNewPrivs:\t1" in out
    assert made == "fedrnn-job:fedrnn-job"
