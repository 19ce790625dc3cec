"""Debian 11, whose Python is 3.9: role python builds one beside it. `make test-python`.

Compiles for some minutes, so it is not among the tests of `make test`. Role pysyft comes there too,
but the systemd of Debian 11 starts no job in its sandbox, so nothing is asked of it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from clone import clone, give
from cluster import Lab, ansible_playbook, flat, must

pytestmark = pytest.mark.apart
SITE = "site.yml"
WORK = "/opt/fedrnn/build"
FAR = r"(?m)^ok: \[old\] => \(item=(.*)\)"  # a line that tells how far it is
COMPILED = r"compiling \d+ at a time: (\d+) of about \d+ files"
SYSTEM = (
    "find /usr/bin/python3* /usr/lib/python3* -type f ! -name '*.pyc' -exec sha256sum {} + |"
    " sort | sha256sum; python3 --version"
)


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A clone with one bare node of Debian 11."""
    with clone(tmp_path_factory.mktemp("python") / "fedrnn", old="bullseye") as lab:
        give(lab, "old", {"preflight_distributions": {"debian": "11"}})
        must(ansible_playbook("playbooks/lab_up.yml", cwd=lab.root))
        yield lab


@pytest.fixture(scope="module")
def system(old: Lab) -> str:
    """The sums of the bare node's own Python, and its version."""
    return old.ssh("old", SYSTEM).stdout


@pytest.fixture(scope="module")
def interrupted(old: Lab, system: str) -> str:
    """What Ansible said of a build in whose middle the node was restarted."""
    log = old.root / ".cache" / "interrupted.log"
    command = [Path(sys.executable).with_name("ansible-playbook"), SITE, "--tags", "python"]
    with log.open("w") as output:
        running = subprocess.Popen(
            command, cwd=old.root, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        deadline = time.monotonic() + 1200
        while not (far := re.findall(COMPILED, log.read_text())) or int(far[-1]) < 60:
            assert running.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(1)
        # As a power cut leaves it: the end of what was written last is missing.
        newest = f"ls -t {WORK}/objects/*/*.o | head -n 1"
        old.ssh("old", f"sudo truncate -s 100 $({newest}); sudo systemctl reboot")
        assert running.wait(timeout=300) != 0
    must(ansible_playbook("playbooks/lab_up.yml", cwd=old.root))
    assert old.ssh("old", "test -e /opt/fedrnn/python").returncode == 1, "it was done already"
    return log.read_text()


@pytest.fixture(scope="module")
def finished(old: Lab, interrupted: str) -> str:
    """What Ansible said of the run that finished the build."""
    return must(ansible_playbook(SITE, "--tags", "python", cwd=old.root, timeout=2400)).text


def test_debian_11_is_refused_as_long_as_nobody_asks_for_it(old: Lab) -> None:
    run = ansible_playbook(
        "-e", '{"preflight_distributions": {"debian": "12"}}', SITE, cwd=old.root
    )
    assert run.rc != 0 and "runs debian 11, and supported are debian 12" in flat(run.text)


def test_what_is_to_be_built_is_told_before(interrupted: str) -> None:
    assert "has Python 3.9, and needs 3.11 or newer" in flat(interrupted)
    assert "site.yml builds Python 3.11 beside it" in flat(interrupted)


def test_a_build_tells_every_half_minute_how_far_it_is(interrupted: str) -> None:
    told = re.findall(FAR, interrupted)
    assert "configuring" in told
    made = [int(found[1]) for line in told if (found := re.fullmatch(COMPILED, line))]
    assert made == sorted(made) and made[-1] >= 60
    seconds = re.search(r"python : Python is built \(.*? (\d+)\.\d+s", interrupted)
    assert len(told) >= int(seconds[1]) // 30


def test_as_many_files_at_a_time_as_memory_allows(old: Lab, interrupted: str) -> None:
    """The node has 1 GiB, or as much as this machine where that cannot be limited."""
    limited = "--memory" in old.engine["run_flags"]
    memory = 2**30 if limited else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    most = min(os.cpu_count(), round(memory / 2**29))
    assert f"compiling {most} at a time" in interrupted


def test_a_build_that_a_restart_has_interrupted_goes_on(interrupted: str, finished: str) -> None:
    assert "UNREACHABLE" in interrupted
    assert "item=configuring" not in finished, "it began anew"
    assert re.findall(FAR, finished)[-1] == "built"


def test_the_standard_library_is_whole(old: Lab, finished: str) -> None:
    modules = "bz2, ctypes, hashlib, lzma, sqlite3, ssl, zlib"
    tell = "print(sys.version.split()[0], sys.base_prefix, ssl.OPENSSL_VERSION)"
    said = old.ssh("old", f"/opt/fedrnn/venv/bin/python -c 'import sys, {modules}; {tell}'")
    assert said.stdout.startswith("3.11.2 /opt/fedrnn/python OpenSSL"), said


def test_the_systems_python_is_untouched_and_the_build_is_gone(
    old: Lab, system: str, finished: str
) -> None:
    assert "Python 3.9" in system and old.ssh("old", SYSTEM).stdout == system
    assert old.ssh("old", f"ls {WORK}").returncode == 2


def test_torch_stands_on_it_and_a_second_run_changes_nothing(old: Lab, finished: str) -> None:
    must(ansible_playbook(SITE, cwd=old.root))
    run = must(ansible_playbook(SITE, cwd=old.root))
    assert set(run.changed.values()) == {0}, run.changed
    stands = "test_python or test_wheelhouse or test_torch"
    looks = [sys.executable, "-m", "pytest", "-q", "tests/roles", "-k", stands]
    done = subprocess.run(looks, cwd=old.root, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout
