"""`fedrnn-owner`: what a data owner types, and what comes of it."""

import json
import re

import pytest
from sites import SENDER, parcel, reason, start, status, wait_for_end

from fedrnn import owner
from fedrnn.datasite.datasite import Datasite
from fedrnn.datasite.policy import fingerprint, manifest


@pytest.fixture
def type_in(site, monkeypatch, capsys):
    """Return a function that types a command: its exit code, output and complaints."""

    def typed(*words: str) -> tuple[int, str, str]:
        root = str(site.var.parent)
        monkeypatch.setattr("sys.argv", ["fedrnn-owner", "--root", root, *words])
        monkeypatch.setattr("os.umask", lambda mask: 0)  # the test's own stays
        code = owner.main()
        return code, *capsys.readouterr()

    return typed


@pytest.fixture
def waiting(site) -> str:
    """A job that waits; its fingerprint."""
    digest = fingerprint(manifest(parcel(site, "job-1", "import time; time.sleep(60)\n")))
    Datasite(site).step()
    return digest


def test_list_shows_every_job_with_its_state_and_fingerprint(site, type_in, waiting):
    parcel(site, "job-2")
    Datasite(site).step()
    type_in("deny", "job-2", "--reason", "no")
    code, out, _ = type_in("list")
    assert code == 0
    first, second = out.splitlines()  # what has ended comes last
    assert re.match(rf"pending +job-1 +{SENDER} +\d{{4}}-.* {waiting}$", first)
    assert re.match(rf"rejected +job-2 +{SENDER} ", second)


def test_list_says_when_the_allow_list_is_not_trusted(site, type_in, waiting):
    (site.etc / "approved_jobs.json").chmod(0o666)
    code, out, err = type_in("list")
    assert code == 0 and "job-1" in out and "counts as empty" in err


def test_approve_lets_a_job_run_and_notes_who_said_so(site, type_in, waiting, monkeypatch):
    monkeypatch.setenv("FEDRNN_BY", "alice")
    code, out, _ = type_in("approve", "job-1")
    assert (code, out) == (0, "job-1: running\n")
    entry = Datasite(site).log.entries()[1]
    assert (entry["event"], entry["by"], entry["method"]) == ("approve", "alice", "manual")
    assert (entry["sha256"], entry["reason"]) == (waiting, "approved by the owner")
    code, out, _ = type_in("deny", f"{SENDER}:job-1", "--reason", "enough")
    assert (code, out) == (0, f"{SENDER}:job-1: failed\n")
    assert (status(site, "job-1"), reason(site, "job-1")) == ("failed", "enough")
    assert Datasite(site).runner.launcher.alive() == set()


def test_deny_tells_the_sender_why(site, type_in, waiting):
    assert type_in("deny", "job-1", "--reason", "not on a Sunday")[0] == 0
    assert (status(site, "job-1"), reason(site, "job-1")) == ("rejected", "not on a Sunday")
    code, _, err = type_in("approve", "job-1")
    assert code == 2 and "is rejected, there is nothing to approve" in err


@pytest.mark.parametrize("digits", [8, 20, 64])
def test_revoke_ends_what_runs_of_this_code(site, type_in, waiting, digits):
    type_in("approve", "job-1")
    code, out, _ = type_in("revoke", waiting[:digits], "--reason", "it reads too much")
    assert (code, out) == (0, f"{waiting}: revoked, 1 jobs of it ended\n")
    assert (status(site, "job-1"), reason(site, "job-1")) == ("failed", "it reads too much")
    assert Datasite(site).runner.launcher.alive() == set()


def test_revoked_code_waits_in_spite_of_the_allow_list_and_runs_once_approved_by_hand(
    site, type_in
):
    digest = fingerprint(manifest(parcel(site, "job-1")))
    (site.etc / "approved_jobs.json").write_text(json.dumps({digest: {}}))
    code, out, _ = type_in("revoke", digest[:8], "--reason", "let me read it first")
    assert (code, out) == (0, f"{digest}: revoked, 0 jobs of it ended\n")
    Datasite(site).step()
    assert status(site, "job-1") == "pending"
    assert type_in("approve", "job-1")[0] == 0
    wait_for_end(site, "job-1")
    parcel(site, "job-2")
    Datasite(site).step()
    assert status(site, "job-2") in ("running", "done")
    wait_for_end(site, "job-2")


def test_revoke_leaves_other_code_alone(site, type_in, waiting):
    type_in("approve", "job-1")
    code, out, _ = type_in("revoke", "f" * 64, "--reason", "never seen here")
    assert (code, out) == (0, f"{'f' * 64}: revoked, 0 jobs of it ended\n")
    assert status(site, "job-1") == "running"
    type_in("deny", "job-1", "--reason", "enough")


def test_log_shows_every_decision_and_that_it_was_changed(site, type_in, waiting):
    type_in("deny", "job-1", "--reason", "no\x1b[2J")
    code, out, _ = type_in("log")
    assert code == 0 and "\x1b" not in out
    assert re.search(rf"event=deny  job={SENDER}:job-1  sha256={waiting}  reason=no\\x1b", out)
    log = site.var / "decisions.jsonl"
    log.write_text(log.read_text().replace('"receive"', '"approve"'))
    code, out, err = type_in("log")
    assert code == 2 and "event=deny" in out
    assert "line 2 of" in err and "somebody has changed this log" in err


def test_show_tells_all_of_a_job_that_has_ended(site, type_in):
    start(site, "import sys\nprint('so far')\nsys.exit('no such thing')\n")
    wait_for_end(site, "job-1")
    Datasite(site).step()
    code, out, _ = type_in("show", "job-1")
    assert code == 0
    for line in (
        f"job job-1 of {SENDER}, sent 2026-11-24",
        "failed",
        "| so far",
        "| no such thing",
        "no approved job to compare with: all of it is new",
        "| print('so far')",
        "=== run.sh  sha256 ",
    ):
        assert re.search(f"^{re.escape(line)}", out, re.M), line


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["show", "job-9"], f"0 jobs are called 'job-9'; this datasite has: {SENDER}:job-1"),
        (["approve", "job-9"], "0 jobs are called 'job-9'"),
        (["deny", "../job-1", "--reason", "no"], "0 jobs are called '../job-1'"),
        (["revoke", "abc", "--reason", "no"], "give all 64 digits, or at least the first 8"),
        (["revoke", "0" * 63, "--reason", "no"], "0 fingerprints begin with"),
        (["revoke", "G" * 64, "--reason", "no"], "0 fingerprints begin with"),
        (["revoke", "", "--reason", "no"], "give all 64 digits"),
    ],
)
def test_bad_words_get_a_clear_answer(site, type_in, waiting, words, says):
    before = (site.var / "decisions.jsonl").read_bytes()
    code, out, err = type_in(*words)
    assert code == 2 and out == "" and says in err and len(err.splitlines()) == 1
    assert (site.var / "decisions.jsonl").read_bytes() == before
    assert status(site, "job-1") == "pending"


@pytest.mark.parametrize("words", [["deny", "job-1"], ["revoke", "0" * 64], ["list", "x"], ["x"]])
def test_words_that_are_missing_are_named(type_in, waiting, words):
    with pytest.raises(SystemExit, match="2"):
        type_in(*words)


def test_two_fingerprints_that_begin_alike_are_not_guessed_between(site, type_in):
    log = Datasite(site).log
    for last in "01":
        log.add("receive", f"{SENDER}:job-{last}", "a" * 63 + last)
    code, _, err = type_in("revoke", "a" * 60, "--reason", "no")
    assert code == 2 and "2 fingerprints begin with" in err
    assert type_in("revoke", "a" * 64, "--reason", "no")[0] == 0
