"""What an owner is shown of a job: all of it, what is new in it, and nothing a terminal obeys."""

import re

import pytest
from sites import SENDER, approve, parcel, wait_for_end

from fedrnn.datasite.datasite import Datasite
from fedrnn.datasite.review import CYAN, GREEN, PLAIN, RED, Baseline, baseline, shown

MAIN = "".join(f"line_{n} = {n}\n" for n in range(40))


@pytest.fixture
def reviewed(site):
    """Return what is shown of a second job, against a first that was approved."""

    def review(main: str, more: dict[str, str], colour: bool = False) -> list[str]:
        folder = parcel(site, "job-1", MAIN)
        (folder / "code" / "old.py").write_text("x = 1\n")
        datasite = Datasite(site)
        datasite.step()
        approve(datasite, "job-1")
        wait_for_end(site, "job-1")
        folder = parcel(site, "job-2", main)
        for name, content in more.items():
            (folder / "code" / name).write_text(content)
        datasite = Datasite(site)
        datasite.step()
        job, others = datasite.job("job-2"), [*datasite.jobs(), *datasite.ended()]
        against = baseline(job, others, datasite.log)
        assert isinstance(against, Baseline) and against.job.name == "job-1"
        return list(shown(job, against, colour))

    return review


def test_a_changed_a_new_a_removed_and_an_unchanged_file_are_told_apart(reviewed):
    lines = reviewed(MAIN.replace("line_20 = 20", "line_20 = 'new'"), {"new.py": "y = 2\n"})
    told = [re.sub("[0-9a-f]{64}", "…", line) for line in lines if line.startswith("===")]
    assert told == [
        "=== code/main.py  sha256 …  changed",
        "=== code/new.py  sha256 …  new",
        "=== code/old.py  is not in this job any more",
        "=== run.sh  sha256 …  unchanged",
    ]
    body = [line for line in lines if not line.startswith("===")]
    assert body == [
        "@@ -18,7 +18,7 @@",
        *(f" line_{n} = {n}" for n in (17, 18, 19)),
        "-line_20 = 20",
        "+line_20 = 'new'",
        *(f" line_{n} = {n}" for n in (21, 22, 23)),
        "| y = 2",
        "| ",
    ]


def test_colour_is_there_only_when_asked(reviewed):
    changed = MAIN.replace("line_20 = 20", "line_20 = 'new'")
    coloured = reviewed(changed, {}, colour=True)
    assert f"{RED}-line_20 = 20{PLAIN}" in coloured
    assert f"{GREEN}+line_20 = 'new'{PLAIN}" in coloured
    assert f"{CYAN}@@ -18,7 +18,7 @@{PLAIN}" in coloured
    assert " line_19 = 19" in coloured


HOSTILE = {
    "cursor": ("x = 1  # \x1b[2K\x1b[1A\r", "\\x1b[2K\\x1b[1A\\r"),
    "right to left": ("access = '\u202enimda\u202c'", "\\u202enimda\\u202c"),
    "isolate": ("x = '\u2066evil\u2069'", "\\u2066evil\\u2069"),
    "zero width": ("pass\u200bword = 1", "pass\\u200bword"),
    "line separator": ("# fine\u2028evil()", "# fine\\u2028evil()"),
    "vertical tab": ("# fine\x0bevil()", "# fine\\x0bevil()"),
    "form feed": ("# fine\x0cevil()", "# fine\\x0cevil()"),
    "next line": ("# fine\x85evil()", "# fine\\x85evil()"),
    "C1": ("\x9b2J", "\\x9b2J"),
    "surrogate": ("x\udcff", "x\\xff"),
    "tag letters": ("x = '\U000e0041'", "\\U000e0041"),
}


@pytest.mark.parametrize(("line", "told"), HOSTILE.values(), ids=HOSTILE)
def test_what_a_terminal_would_obey_or_hide_is_escaped_in_new_files(site, line, told):
    folder = parcel(site, "job-1")
    (folder / "code" / "main.py").write_bytes(line.encode(errors="surrogateescape"))
    datasite = Datasite(site)
    datasite.step()
    lines = list(shown(datasite.job("job-1"), None, colour=True))
    assert [line for line in lines if told in line and line.startswith("| ")]
    assert all(c.isprintable() or c == "\t" for line in lines for c in line)


def test_what_a_terminal_would_obey_or_hide_is_escaped_in_a_difference(reviewed):
    evil = "".join(f"{line}\n" for line, _ in HOSTILE.values() if "\udcff" not in line)
    lines = reviewed(MAIN + evil, {})
    assert all(c.isprintable() or c == "\t" for line in lines for c in line)
    for name, (_, told) in HOSTILE.items():
        assert name == "surrogate" or [x for x in lines if told in x and x[0] == "+"], name


def test_a_line_of_a_job_cannot_pass_for_one_of_ours(reviewed):
    lines = reviewed(MAIN + "=== run.sh  sha256 0  unchanged\n\x1b[32m+ok\x1b[0m\n", {})
    assert "+=== run.sh  sha256 0  unchanged" in lines
    (ours,) = (line for line in lines if line.startswith("=== run.sh"))
    assert ours.endswith("  unchanged") and "sha256 0 " not in ours


def test_of_a_very_long_line_no_character_is_left_out(site):
    parcel(site, "job-1", "x = '" + "a" * 500_000 + "'; evil()\n")
    datasite = Datasite(site)
    datasite.step()
    lines = list(shown(datasite.job("job-1"), None, colour=False))
    assert [len(line) for line in lines if line.endswith("'; evil()")] == [500_016]


def test_only_code_that_was_approved_and_not_touched_since_is_compared_with(site):
    for name in ("job-1", "job-2", "job-3"):
        parcel(site, name)
    datasite = Datasite(site)
    datasite.step()
    job = datasite.job("job-3")
    assert baseline(job, datasite.jobs(), datasite.log) is None
    with datasite.alone():
        datasite.approve(datasite.job("job-1"), "looks right")
    found = baseline(job, datasite.jobs(), datasite.log)
    assert found and found.job.name == "job-1"
    assert found.approved == datasite.log.last(f"{SENDER}:job-1")["time"]
    (found.job.job_submission_path / "run.sh").write_text("evil\n")
    assert baseline(job, datasite.jobs(), datasite.log) is None


def test_a_job_is_compared_with_the_approved_one_that_is_most_like_it(site):
    files = {"job-1": ["a.py", "b.py"], "job-2": ["c.py"], "job-3": ["a.py", "b.py", "d.py"]}
    for name, more in files.items():
        folder = parcel(site, name)
        for file in more:
            (folder / "code" / file).write_text("1\n")
    datasite = Datasite(site)
    datasite.step()
    with datasite.alone():
        for name in ("job-1", "job-2"):
            datasite.approve(datasite.job(name), "looks right")
    found = baseline(datasite.job("job-3"), datasite.jobs(), datasite.log)
    assert found and found.job.name == "job-1"
