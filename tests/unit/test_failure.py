"""Of a job that failed its sender reads how and where, and no word that may hold a row."""

import subprocess
import sys

import pytest
from sites import SENDER, reason, start, status, wait_for_end

from fedrnn.datasite import failure

FILES = ["run.sh", "code/main.py", "code/fedrnn/main.py"]
ROW = "Kowalski"


@pytest.fixture
def said(tmp_path):
    """Return what is told of a job that printed these lines."""

    def told(*lines: str) -> str | None:
        (tmp_path / "stderr.txt").write_text("\n".join(lines) + "\n")
        return failure.where(tmp_path / "stderr.txt", FILES)

    return told


def frame(path: str = "/var/lib/fedrnn/jobs/x/code/main.py", line: int | str = 7) -> str:
    return f'  File "{path}", line {line}, in <module>'


def test_kind_and_place_of_a_real_exception_are_told_and_its_text_is_not(tmp_path):
    (tmp_path / "code").mkdir()
    main = tmp_path / "code" / "main.py"
    main.write_text(f"def parse(name):\n    return int(name)\nparse({ROW!r})\n")
    with (tmp_path / "stderr.txt").open("w") as stderr:
        subprocess.run([sys.executable, main], stderr=stderr, check=False)
    assert ROW in (tmp_path / "stderr.txt").read_text()
    told = failure.where(tmp_path / "stderr.txt", FILES)
    assert told == "ValueError in code/main.py, line 2; its owner can read the rest"


def test_the_longest_name_that_fits_is_the_file(said):
    told = said(frame("/jobs/x/code/fedrnn/main.py", 3), "ValueError: x")
    assert told == "ValueError in code/fedrnn/main.py, line 3; its owner can read the rest"


def test_of_exceptions_one_after_the_other_the_last_is_told(said):
    told = said(
        frame(line=1), "KeyError: 'x'", "", "During handling of the above exception, …", "",
        frame(line=9), frame("/usr/lib/python3/json/decoder.py", 355), "json.ValueError: x",
    )  # fmt: skip
    assert told == "ValueError in code/main.py, line 9; its owner can read the rest"


FORGED = {
    "a row as the file's name": [frame(f"/code/{ROW}.py"), "ValueError: x"],
    "a row in front of a known file": [frame(f"/{ROW}/code/main.py"), "ValueError: x"],
    "a row as the exception's name": [frame(), f"{ROW}: no such name"],
    "a row as the exception's module": [frame(), f"{ROW}.ValueError: x"],
    "a row as a function": [frame().replace("<module>", ROW), "ValueError: x"],
    "a row as the line": [frame(line=f"7, {ROW}"), "ValueError: x"],
    "a row after the exception": [frame(), f"ValueError: {ROW}", f"ValueError.{ROW}"],
    "a row as a builtin that is no exception": [frame(), "print: x", ROW],
    "a row in another quote": [f'  File "/code/main.py" {ROW}", line 7', frame()],
}


@pytest.mark.parametrize("lines", FORGED.values(), ids=FORGED)
def test_a_forged_traceback_takes_no_row_along(said, lines):
    told = said(*lines)
    kinds = (None, "ValueError in code/main.py", "an exception in code/main.py")
    assert told in [k and f"{k}, line 7; its owner can read the rest" for k in kinds]


@pytest.mark.parametrize("lines", [
    [], ["ValueError: x"], [frame("/usr/lib/python3.11/runpy.py")], [frame(line="1234567")],
    [frame("/elsewhere/notcode/main.py.bak")], [frame("main.py")],
])  # fmt: skip
def test_without_a_line_of_submitted_code_nothing_is_told(said, lines):
    assert said(*lines) is None


def test_what_is_no_text_and_what_is_not_there_tell_nothing(tmp_path):
    (tmp_path / "stderr.txt").write_bytes(b"\xff\xfe\x00" * 10_000)
    assert failure.where(tmp_path / "stderr.txt", FILES) is None
    assert failure.where(tmp_path / "nothing", FILES) is None


def test_what_systemd_says_is_put_in_words():
    assert failure.how("oom-kill") == "it needed more memory than this node gives a job"
    assert failure.how("timeout") == "it ran into the time limit of this node"
    assert failure.how("exit-code") is failure.how(ROW) is None


def test_a_sender_reads_kind_and_place_and_no_row(site):
    start(site, f"names = {{}}\n\nnames[{ROW!r}]\n")
    wait_for_end(site, "job-1")
    assert status(site, "job-1") == "failed"
    assert reason(site, "job-1") == "KeyError in code/main.py, line 3; its owner can read the rest"
    told = [p for p in site.published(SENDER).rglob("*") if p.is_file() and ROW in p.read_text()]
    assert [p.name for p in told] == []
