"""The log of decisions shows what was done to it; the allow-list is its operator's alone."""

import json
import os
from pathlib import Path

import pytest
from sites import OWNER, SENDER, parcel, reason, start, status, wait_for_end

from fedrnn.datasite.datasite import Datasite
from fedrnn.datasite.layout import Site
from fedrnn.datasite.policy import MAX_REASON, DecisionLog, PolicyError, allow_list

KEY, DIGEST = f"{SENDER}:job-1", "0" * 64


@pytest.fixture
def log(site) -> DecisionLog:
    made = DecisionLog(site)
    for number in range(5):
        made.add("receive", f"{SENDER}:job-{number}", DIGEST, reason=f"because {number}")
    return made


def lines(log: DecisionLog) -> list[bytes]:
    return log.path.read_bytes().splitlines(keepends=True)


def test_a_log_that_was_only_added_to_is_whole(log):
    assert log.broken() == 0
    assert [entry["job"][-1] for entry in log.entries()] == list("01234")
    assert log.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("number", "shows_at"), [(0, 2), (2, 4), (3, 5)])
def test_a_line_that_was_changed_shows(log, number, shows_at):
    found = lines(log)
    found[number] = found[number].replace(b'"receive"', b'"approve"')
    log.path.write_bytes(b"".join(found))
    assert log.broken() == shows_at


@pytest.mark.parametrize("number", [0, 1, 3])
def test_a_line_that_was_taken_out_shows(log, number):
    found = lines(log)
    del found[number]
    log.path.write_bytes(b"".join(found))
    assert log.broken() == number + 1


@pytest.mark.parametrize("after", ["0" * 64, None])
def test_a_line_that_was_put_in_shows(log, after):
    found = lines(log)
    more = {} if after is None else {"after": after}
    forged = {"time": "2026", "event": "approve", "job": KEY, "sha256": DIGEST, **more}
    found.insert(2, json.dumps(forged).encode() + b"\n")
    log.path.write_bytes(b"".join(found))
    assert log.broken() == 3


def test_lines_that_have_changed_places_show(log):
    found = lines(log)
    found[1], found[2] = found[2], found[1]
    log.path.write_bytes(b"".join(found))
    assert log.broken() == 2


@pytest.mark.parametrize("left", [1, 40, -2])
def test_a_last_line_that_a_power_cut_has_torn_is_no_entry_and_no_fraud(log, left):
    whole = lines(log)
    log.path.write_bytes(b"".join(whole[:-1]) + whole[-1][:left])
    assert [entry["job"][-1] for entry in log.entries()] == list("0123")
    log.add("approve", KEY, DIGEST)
    assert log.broken() == 0
    assert [entry["event"] for entry in log.entries()] == ["receive"] * 4 + ["approve"]
    assert log.approved_fingerprint(KEY) == DIGEST


def test_a_last_line_that_only_lacks_its_end_still_counts(log):
    log.path.write_bytes(log.path.read_bytes().rstrip(b"\n"))
    log.add("approve", KEY, DIGEST)
    assert len(log.entries()) == 6 and log.broken() == 0


@pytest.mark.parametrize("junk", [b"\x00" * 70_000, b"[1]\n", b'{"job": 1}\n', b"\xff\n"])
def test_junk_at_the_end_is_no_entry(log, junk):
    with log.path.open("ab") as file:
        file.write(junk)
    log.add("approve", KEY, DIGEST)
    assert [entry["event"] for entry in log.entries()] == ["receive"] * 5 + ["approve"]


def test_a_line_longer_than_a_block_is_followed(log):
    log.add("receive", KEY, DIGEST, files=["x" * 100] * 1000)
    log.add("approve", KEY, DIGEST)
    assert log.broken() == 0 and len(log.entries()) == 7


def test_a_reason_is_one_line_and_has_an_end(log):
    log.add("deny", KEY, DIGEST, reason="a\n" * 10_000)
    assert len(log.entries()[-1]["reason"]) == MAX_REASON
    assert log.broken() == 0


def test_the_last_word_on_a_job_counts(log):
    log.add("approve", KEY, "1" * 64)
    log.add("approve", f"{SENDER}:job-11", "2" * 64)
    log.add("approve", KEY, "3" * 64)
    assert log.approved_fingerprint(KEY) == "3" * 64
    assert log.received_fingerprint(KEY) == DIGEST
    assert log.last(KEY)["sha256"] == "3" * 64
    assert log.approved_fingerprint("nobody@lab.local:x") is None


def test_code_is_revoked_until_it_is_approved_by_hand(log):
    log.add("revoke", "", "1" * 64)
    assert log.revoked() == {"1" * 64}
    log.add("approve", KEY, "1" * 64, method="auto")
    assert log.revoked() == {"1" * 64}
    log.add("approve", KEY, "1" * 64, method="manual")
    assert log.revoked() == set()
    log.add("revoke", "", "1" * 64)
    assert log.revoked() == {"1" * 64}


def approved(site: Site) -> Path:
    return site.etc / "approved_jobs.json"


def test_an_allow_list_of_its_operator_is_read(site):
    approved(site).write_text(json.dumps({DIGEST: {"name": "training"}}))
    for mode in (0o600, 0o640, 0o644, 0o444):
        approved(site).chmod(mode)
        assert allow_list(site) == {DIGEST: {"name": "training"}}


@pytest.mark.parametrize("mode", [0o660, 0o606, 0o602, 0o620, 0o777])
def test_an_allow_list_that_others_can_write_counts_as_empty(site, mode):
    approved(site).chmod(mode)
    with pytest.raises(PolicyError, match="others than its operator can write it"):
        allow_list(site)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_an_allow_list_of_another_account_counts_as_empty(site):
    os.chown(approved(site), 65534, -1)
    with pytest.raises(PolicyError, match="others than its operator can write it"):
        allow_list(site)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"\xff", "no JSON"),
        (b"[]", "no table"),
        (b'{"training": {}}', "no table"),
        (json.dumps({"A" * 64: {}}).encode(), "no table"),
        (json.dumps({DIGEST + "\n": {}}).encode(), "no table"),
    ],
)
def test_an_allow_list_of_another_form_counts_as_empty(site, content, why):
    approved(site).write_bytes(content)
    with pytest.raises(PolicyError, match=f"approved_jobs.json counts as empty: it is {why}"):
        allow_list(site)


def test_without_an_allow_list_every_job_waits_and_its_sender_reads_why(site):
    approved(site).unlink()
    parcel(site, "job-1")
    Datasite(site).step()
    assert status(site, "job-1") == "pending"
    assert "cannot be read (No such file or directory)" in reason(site, "job-1")
    assert "site.yml --tags pysyft" in reason(site, "job-1")


def test_what_ran_on_which_word_is_in_the_log(site):
    datasite = start(site, "print(1)\n")
    wait_for_end(site, "job-1")
    entries = datasite.log.entries()
    assert [entry["event"] for entry in entries] == ["receive", "approve", "start", "end"]
    assert len({entry["sha256"] for entry in entries}) == 1
    assert datasite.log.broken() == 0
    assert entries[1]["reason"] == "looks right" and entries[1]["method"] == "manual"
    assert OWNER not in {entry["job"] for entry in entries}
