"""What the documentation tells people to type: it is there, and is understood."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from fedrnn import nodes, predict, report
from fedrnn.arguments import parse

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OURS = {"fedrnn.run": parse, "fedrnn.nodes": nodes.main, "fedrnn.report": report.main,
        "fedrnn.predict": predict.main}  # fmt: skip


def commands(page: Path) -> list[list[str]]:
    found = []
    for line in re.findall(r"(?m)^ {4,}(.+)$|`([^`\n]+)`", page.read_text()):
        text = "".join(line).split("   #")[0].split(" > ")[0].strip()
        if text.startswith(("python -m fedrnn.", "make ")):
            found.append(shlex.split(text))
    return found


ALL = [(page.name, words) for page in PAGES for words in commands(page)]


def test_the_pages_have_commands():
    assert len(ALL) > 20


@pytest.mark.parametrize(("page", "words"), ALL, ids=[f"{p}: {' '.join(w)}" for p, w in ALL])
def test_every_command_of_the_documentation_is_understood(page, words, capsys):
    if words[0] == "make":
        targets = re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text())
        assert words[1] in targets
        return
    module, arguments = words[2], words[3:]
    assert (ROOT / f"{module.replace('.', '/')}.py").is_file()
    if module in OURS and not {"…", "N"} & set(arguments):
        # With --help behind it, a command looks at all that stands before it and does nothing.
        with pytest.raises(SystemExit) as ended:
            OURS[module]([*arguments, "--help"])
        assert ended.value.code == 0, capsys.readouterr().err


def test_every_picture_and_page_that_is_named_is_there():
    for page in PAGES:
        for name in re.findall(r'\]\(([^)#:]+)(?:#[^)]*)?\)|src="([^":]+)"', page.read_text()):
            assert (page.parent / "".join(name)).exists(), f"{page.name} names {''.join(name)}"


def test_pictures_are_small():
    for picture in (ROOT / "docs").glob("*.png"):
        assert picture.stat().st_size <= 150_000, picture.name
