"""Two nodes of a clone, from bare to an upgraded cluster and back: what each step leaves behind.

The tests are steps of one story, in this order; what comes first of a later one is checked there.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from clone import clone
from cluster import RESEARCHER, Lab, Run, ansible_playbook, flat, must

pytestmark = pytest.mark.apart
NODES = ("pi1", "pi2")
JOB = f"{RESEARCHER}:waiting"
CONFIG = (
    'canonical_name: JobSubmissionMetadata\\nversion: "1"\\nname: waiting\\ntype: python\\n'
    f"submitted_by: {RESEARCHER}\\ndatasite_email: pi2@lab.local\\nentrypoint: main.py\\n"
    'submitted_at: "2026-11-24T00:00:00+00:00"\\nfiles: [main.py]\\n'
)
LOOK = (Path(__file__).parents[1] / "look.sh").read_text()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("back") / "fedrnn"
    with clone(folder, **dict.fromkeys(NODES, "bookworm")) as lab:
        must(play(lab, "playbooks/lab_up.yml"))
        yield lab


@pytest.fixture(scope="module")
def bare(site: Lab) -> dict[str, set[str]]:
    return {node: look(site, node) for node in NODES}


def play(lab: Lab, *arguments: str) -> Run:
    return ansible_playbook(*arguments, cwd=lab.root)


def reset(lab: Lab, *more: str) -> Run:
    return play(lab, "-e", "confirm=lab", *more, "playbooks/reset.yml")


def look(lab: Lab, node: str) -> set[str]:
    return set(lab.podman("exec", lab.container(node), "sh", "-c", LOOK).splitlines())


def root(lab: Lab, node: str, command: str) -> str:
    return lab.podman("exec", lab.container(node), "sh", "-euc", command)


# Of somebody who has chosen such a name, and is at work.
# A system account, for which useradd notes no further ids.
THEIRS = (
    "useradd --system --create-home fedrnn;"
    " systemd-run --quiet --unit theirs --uid fedrnn sleep 900"
)
THEIRS_IS_LEFT = "systemctl is-active theirs; systemctl stop theirs; userdel --remove fedrnn"


def test_a_half_finished_site_is_taken_back(site: Lab, bare: dict[str, set[str]]) -> None:
    must(play(site, "--tags", "os,python", "site.yml"))
    root(site, "pi1", THEIRS)
    # As a run that was killed in the middle of installing wheels leaves it.
    for node in NODES:
        root(site, node, "mkdir -p /opt/fedrnn/wheels/cache; echo half > /opt/fedrnn/wheels/x.whl")
        assert look(site, node) != bare[node]
    # One that breaks off keeps its note of what was before, and the next goes on.
    broken = "/etc/apt/apt.conf.d/broken"
    root(site, "pi1", f"echo 'DPkg::Pre-Invoke {{ \"false\"; }};' > {broken}")
    run = reset(site)
    assert run.rc != 0 and "apt-get" in run.text and "failed" in run.text
    root(site, "pi1", f"rm {broken}; test -e /opt/fedrnn/.before.json; test ! -e /etc/fedrnn")
    must(reset(site))
    root(site, "pi1", THEIRS_IS_LEFT)
    for node in NODES:
        assert look(site, node) ^ bare[node] == set()


def test_a_second_reset_changes_nothing(site: Lab) -> None:
    root(site, "pi1", THEIRS)
    run = must(reset(site))
    root(site, "pi1", THEIRS_IS_LEFT)
    assert set(run.changed.values()) == {0}
    assert "there is nothing of fedrnn" in run.text


def test_another_inventorys_name_or_none_changes_nothing(site: Lab) -> None:
    for more, words in (
        (("-e", "confirm=home"), "You have named home, and this inventory is lab"),
        ((), "The inventory is lab, and nothing was typed"),
    ):
        run = play(site, *more, "playbooks/reset.yml")
        assert run.rc != 0 and words in flat(run.text) and set(run.changed.values()) <= {0}


@pytest.fixture(scope="module")
def older(site: Lab) -> Path:
    """The lock of these nodes with an older idna, and the current text beside it."""
    (lock,) = (site.root / "roles/wheelhouse/files/locks").glob("x86_64-cp311.txt")
    folder = site.root / ".cache/older"
    fetch = ["-m", "pip", "download", "-q", "--no-deps", "-d", folder, "idna==3.10"]
    subprocess.run([sys.executable, *fetch], check=True)
    (wheel,) = folder.glob("*.whl")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    current = lock.with_suffix(".current")
    current.write_text(lock.read_text())
    line = f"idna==3.10 --hash=sha256:{digest}"
    lock.write_text(re.sub(r"(?m)^idna==.*$", line, lock.read_text()))
    assert lock.read_text() != current.read_text()
    # A wheelhouse of its own: the clone's is this one's, and others would fetch anew.
    shared = site.root / ".cache/wheelhouse"
    origin = shared.resolve()
    shared.unlink()
    shared.mkdir()
    if (kept := origin / lock.stem).exists():
        subprocess.run(["cp", "-a", "--reflink=auto", kept, shared], check=True)
    return lock


def idna(lab: Lab, node: str) -> str:
    python = "/opt/fedrnn/venv/bin/python -c 'import idna; print(idna.__version__)'"
    return root(lab, node, python).strip()


def test_an_upgrade_that_fails_in_the_middle_leaves_the_rest_alone(site: Lab, older: Path) -> None:
    must(play(site, "site.yml"))
    assert [idna(site, node) for node in NODES] == ["3.10", "3.10"]
    older.write_text(older.with_suffix(".current").read_text())
    # The data set of pi2 cannot be written: it fails after its datasite was started anew.
    root(site, "pi2", "rm /var/lib/fedrnn/share/.sha256")
    root(site, "pi2", "mount -t tmpfs -o ro tmpfs /var/lib/fedrnn/share")
    try:
        run = play(site, "playbooks/upgrade.yml")
    finally:
        root(site, "pi2", "umount /var/lib/fedrnn/share")
    said = flat(run.text)
    assert run.rc != 0 and "pi2 is not upgraded" in said and "pi2 starts no job until it is" in said
    assert "Done before pi2: pi1. Not touched: none." in said
    assert "go on with: ansible-playbook playbooks/upgrade.yml" in said
    assert idna(site, "pi1") != "3.10"
    assert root(site, "pi2", "systemctl is-active fedrnn-datasite.path || true") == "inactive\n"


def test_a_node_that_failed_starts_no_job_even_after_a_restart(site: Lab, older: Path) -> None:
    lay = (
        f"cd /var/lib/fedrnn/mailbox; mkdir -p {JOB}/code; cd {JOB}; echo 'sleep 1' > run.sh;"
        f"echo 'pass' > code/main.py; printf '{CONFIG}' > config.yaml;"
        f"cd ..; chown -R fedrnn:fedrnn-owner {JOB}; chmod -R g+rwX {JOB}; mv {JOB} new/"
    )
    root(site, "pi2", lay)
    site.podman("restart", site.container("pi2"))
    until = time.monotonic() + 60
    while JOB in root(site, "pi2", "ls /var/lib/fedrnn/mailbox/new"):
        assert time.monotonic() < until, "no pass has taken the job in"
        time.sleep(1)
    # Its owner's word does not start it either.
    assert root(site, "pi2", "fedrnn-owner approve waiting") == "waiting: approved\n"
    assert root(site, "pi2", "systemctl list-units --plain --no-legend 'fedrnn-job@*'") == ""


def test_a_node_with_a_job_goes_on_and_is_not_upgraded(site: Lab, older: Path) -> None:
    unit = "fedrnn-job@someone:train.service"
    file = f"/run/systemd/system/{unit}"
    make = f"printf '[Service]\\nExecStart=sleep 900\\n' > {file}; systemctl daemon-reload"
    root(site, "pi1", f"{make}; systemctl start {unit}")
    try:
        run = play(site, "-e", "upgrade_wait=5", "playbooks/upgrade.yml")
    finally:
        root(site, "pi1", f"systemctl stop {unit}; rm {file}; systemctl daemon-reload")
    said = flat(run.text)
    assert run.rc != 0 and f"pi1 still runs {unit}" in said
    assert "pi1 goes on as before" in said and "Not touched: pi2" in said


def test_the_same_command_again_upgrades_every_node(site: Lab, older: Path) -> None:
    # In the place of a SuperNode, which would go on with the wheels of before.
    unit = "/usr/local/lib/systemd/system/flower-supernode.service"
    write = f"printf '[Service]\\nExecStart=sleep infinity\\n' > {unit}; systemctl daemon-reload"
    root(site, "pi1", f"{write}; systemctl start flower-supernode")
    pid = "systemctl show -P MainPID flower-supernode"
    first = root(site, "pi1", pid)
    must(play(site, "playbooks/upgrade.yml"))
    assert root(site, "pi1", pid) not in (first, "0\n")
    for node in NODES:
        assert idna(site, node) != "3.10"
        assert root(site, node, "systemctl is-active fedrnn-datasite.path") == "active\n"
    # What has waited is begun.
    until = time.monotonic() + 60
    while (found := root(site, "pi2", "fedrnn-owner list").split())[0] != "done":
        assert time.monotonic() < until, found
        time.sleep(1)


def typed(lab: Lab, remedy: str, said: str) -> None:
    """Type the command that a finding names."""
    (command,) = re.findall(rf"`({remedy}[^`]+)`", flat(said))
    subprocess.run(["sh", "-c", command], cwd=lab.root, check=True)


def test_a_replaced_and_a_renamed_node(site: Lab) -> None:
    """Each is accepted after the command that its finding names."""
    pins = site.root / "inventory/lab/known_nodes"
    before = pins.read_text().splitlines()
    root(site, "pi2", "rm /opt/fedrnn/.identity")  # as on a card that was flashed anew
    refused = play(site, "site.yml")
    assert refused.rc != 0 and "shows no identity" in refused.text
    typed(site, "sed -i '/", refused.text)
    assert pins.read_text().splitlines() == before[:1]
    must(play(site, "site.yml"))
    after = pins.read_text().splitlines()
    assert after[0] == before[0] and after[1].split()[0] == "pi2" and after != before
    assert root(site, "pi2", "cat /opt/fedrnn/.identity").strip() == after[1].split()[1]

    folder = site.root / "inventory/renamed"
    shutil.copytree(pins.parent, folder)
    for name in ("hosts.yml", "ports.yml"):
        (folder / name).write_text((folder / name).read_text().replace("pi2", "loft"))
    look = ("-i", "inventory/renamed", "playbooks/preflight.yml")
    refused = play(site, *look)
    assert refused.rc != 0 and "shows the identity that is pinned for pi2" in flat(refused.text)
    typed(site, "sed -i 's/", refused.text)
    must(play(site, *look))


def test_a_reset_node_has_no_pin(site: Lab) -> None:
    pins = site.root / "inventory/lab/known_nodes"
    must(reset(site, "--limit", "pi2"))
    assert [line.split()[0] for line in pins.read_text().splitlines()] == ["pi1"]
    must(play(site, "site.yml"))
    assert [line.split()[0] for line in pins.read_text().splitlines()] == ["pi1", "pi2"]


def test_a_reset_that_would_lock_the_operator_out_takes_nothing(site: Lab) -> None:
    # What the hardening overrules: sshd takes the first value that it reads.
    old = "/etc/ssh/sshd_config.d/90-old.conf"
    root(site, "pi1", f"echo 'KexAlgorithms diffie-hellman-group1-sha1' > {old}")
    try:
        run = reset(site, "--limit", "pi1")
        left = root(site, "pi1", "ls /etc/ssh/sshd_config.d; test -e /etc/fedrnn/researchers.keys")
    finally:
        root(site, "pi1", f"rm {old}")
    assert run.rc != 0 and "pi1 did not let pi in with SSH's new settings" in flat(run.text)
    assert {"05-fedrnn-hardening.conf", "50-fedrnn.conf"} <= set(left.split())


def test_reset_keeps_results_and_decisions_and_nothing_else(
    site: Lab, bare: dict[str, set[str]]
) -> None:
    write = (
        "cd /var/lib/fedrnn; echo '{}' > decisions.jsonl; mkdir -p archive/r; echo 1 > archive/r/x;"
        "chown -R fedrnn-owner archive decisions.jsonl; echo mine > /opt/mine"
    )
    root(site, "pi1", write)
    # A researcher's session at the gate, which goes on.
    root(site, "pi1", "systemd-run --quiet --collect --unit session --uid fedrnn sleep 900")
    # What a role installs that builds Python; none has here.
    (site.root / "owner.yml").write_text(
        "- import_playbook: playbooks/lab_up.yml\n"  # which brings apt's way out
        "- hosts: pi1\n  tasks: [{ansible.builtin.apt: {name: make, install_recommends: false}}]\n"
    )
    must(play(site, "owner.yml"))
    must(reset(site))
    after = look(site, "pi1") - bare["pi1"]
    mine = [line.split() for line in after if not line.startswith("/var/lib/fedrnn-kept")]
    assert sorted(words[0] for words in mine) == ["/opt/mine", "package"]
    assert [words[2] for words in mine if words[0] == "package"] == ["make"]
    assert bare["pi1"] - look(site, "pi1") == set()
    kept = root(site, "pi1", "cd /var/lib/fedrnn-kept/*; find . -type f | sort")
    assert kept == "./archive/r/x\n./decisions.jsonl\n"
    assert root(site, "pi1", "stat -c '%a %U' /var/lib/fedrnn-kept") == "700 root\n"
    assert bare["pi2"] - look(site, "pi2") == set()
    after = look(site, "pi2") - bare["pi2"]
    assert {line for line in after if not line.startswith("/var/lib/fedrnn-kept")} == set()


def test_purge_takes_them_too(site: Lab, bare: dict[str, set[str]]) -> None:
    must(reset(site, "-e", "purge=true"))
    root(site, "pi1", "rm /opt/mine; apt-get --yes purge make")
    for node in NODES:
        assert look(site, node) ^ bare[node] == set()
