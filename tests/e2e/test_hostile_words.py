"""A node that lies with every word, and what its operator and a researcher get to see of it."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cluster import RESEARCHER, ROOT, Lab, Run, ansible_playbook

from tests.hostile_texts import FORGED, WORDS, as_json, encoded, unsafe

NODE = "pi3"
DESCRIPTION = f"/var/lib/fedrnn/published/{RESEARCHER}/describe.json"
ESCAPED = "\\x1b]52;c;"
# Its datasite, its system, its kernel, and sshd's banner.
LIES = f"""
cp -p {DESCRIPTION} description; cp -P /etc/os-release .; rm /etc/os-release
python3 -c 'import json; told = json.load(open("description"))
print(json.dumps({{**told, "schema": json.load(open("said"))["msg"]}}))' > {DESCRIPTION}
printf 'ID=$(cat /run/lies/words)\\nPRETTY_NAME="%s"\\n' "$(head -n 1 words)" > /etc/os-release
printf '#!/bin/sh\\ncat /run/lies/words\\n' > /usr/local/bin/uname; chmod 755 /usr/local/bin/uname
echo 'Banner /run/lies/banner' > /etc/ssh/sshd_config.d/91-lies.conf; systemctl reload ssh
"""
# Its Python says the same for each module; to preflight it tells its version.
MODULES = """
rm /etc/os-release /usr/local/bin/uname; cp -P os-release /etc/
cp -P /usr/bin/python3 .; rm /usr/bin/python3
cp liar /usr/bin/python3; chmod 755 /usr/bin/python3
"""
LIAR = """#!/bin/sh
[ "$1" = -I ] && exec python3.11 "$@"
cat > /dev/null; cat /run/lies/said; cat /run/lies/words >&2
"""
TRUTH = f"""
rm -f /usr/local/bin/uname /etc/ssh/sshd_config.d/91-lies.conf; systemctl reload ssh
cat description > {DESCRIPTION}; [ ! -L python3 ] || cp -P python3 /usr/bin/
cp -P os-release /etc/
"""


@pytest.fixture(scope="module")
def lying(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """The node tells lies; what is returned runs a command on it as root."""

    def root(command: str) -> str:
        return lab.podman("exec", lab.container(NODE), "sh", "-euc", f"cd /run/lies\n{command}")

    folder = tmp_path_factory.mktemp("node") / "lies"
    folder.mkdir()
    (folder / "words").write_bytes(encoded(WORDS))
    (folder / "banner").write_bytes(WORDS.encode(errors="replace"))  # another is no banner
    (folder / "said").write_text(as_json(WORDS))
    (folder / "liar").write_text(LIAR)
    lab.podman("cp", str(folder), f"{lab.container(NODE)}:/run/")
    root(LIES)
    yield root
    root(TRUTH)


def seen(run: Run, least: int = 1) -> str:
    """What a playbook has printed: the node's words are there, and rule nothing."""
    assert run.rc != 0 and unsafe(run.text) == [], run.tail()
    assert run.text.count(ESCAPED) >= least, run.tail()
    return run.text.splitlines()[-1]


def test_preflight_shows_what_a_node_answers_as_text(lying, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    options = ("--limit", NODE, "-e", f"preflight_report={file}")
    seen(ansible_playbook(*options, "playbooks/preflight.yml"), 0)
    report = file.read_text()
    assert report.isascii() and not set(report) & {"\x1b", "\x07"}
    (found,) = json.loads(report)["findings"]
    assert found["says"] == "sent a malformed answer to: release, kernel, hostname"


def test_a_banner_before_the_login_begins_no_line(lying) -> None:
    """The words of a node that lets nobody in come with ssh's own."""
    run = ansible_playbook("--limit", NODE, "-e", "ansible_user=nobody", "playbooks/preflight.yml")
    assert run.rc == 2 and unsafe(run.text) == [] and FORGED in run.text, run.tail()


def test_the_glance_and_its_json_hold_them_too(lying) -> None:
    command = [sys.executable, "-m", "fedrnn.nodes", "--nodes", NODE]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert unsafe(shown.stdout + shown.stderr) == [] and "malformed" in shown.stdout
    told = subprocess.run(
        [*command, "--json"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert told.stdout.isascii() and "\x1b" not in told.stdout
    assert "malformed" in str(json.loads(told.stdout)["nodes"][0]["problems"])


def test_a_run_shows_what_a_datasite_describes_as_text(lying) -> None:
    command = [sys.executable, "-m", "fedrnn.run", "--rounds", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "differ in their schema" in done.stderr
    assert unsafe(done.stdout + done.stderr) == [] and ESCAPED in done.stderr


def test_site_yml_shows_what_a_module_returns_as_text(lying) -> None:
    lying(MODULES)
    words = ("--limit", f"{NODE},localhost", "site.yml")
    last = seen(ansible_playbook(*words), 3)
    assert last == f"Once that is mended, go on with: ansible-playbook {shlex.join(words)}"
