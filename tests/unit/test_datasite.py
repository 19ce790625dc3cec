"""What comes into a datasite: mailbox, policy, and what its owner is shown."""

import json
import os
from pathlib import Path

import pytest
from sites import OWNER, SENDER, parcel, reason, status

from fedrnn import owner
from fedrnn.datasite import policy
from fedrnn.datasite.datasite import Datasite
from fedrnn.datasite.mailbox import copy_plain

ROOT = Path(__file__).parents[2]


def test_one_changed_byte_is_another_job(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name / "code").mkdir(parents=True)
        (tmp_path / name / "run.sh").write_text("true\n")
        (tmp_path / name / "code" / "main.py").write_text("1\n")
    before = policy.fingerprint(policy.manifest(tmp_path / "a"))
    assert before == policy.fingerprint(policy.manifest(tmp_path / "b"))
    for file, content in (("run.sh", "true \n"), ("code/main.py", "2\n"), ("code/new.py", "")):
        target = tmp_path / "b" / file
        old = target.read_text() if target.exists() else None
        target.write_text(content)
        assert policy.fingerprint(policy.manifest(tmp_path / "b")) != before, file
        target.unlink() if old is None else target.write_text(old)


def test_an_unknown_job_waits_and_starts_nothing(site):
    parcel(site, "job-1")
    Datasite(site).step()
    assert status(site, "job-1") == "pending"
    assert list(site.jobs.iterdir()) == []
    assert list(site.mailbox.iterdir()) == []


def test_the_same_code_with_another_run_script_waits(site):
    first = parcel(site, "job-1")
    allowed = policy.fingerprint(policy.manifest(first))
    (site.etc / "approved_jobs.json").write_text(json.dumps({allowed: {}}))
    parcel(site, "job-2", run="touch /tmp/evil\n")
    Datasite(site).step()
    assert status(site, "job-2") == "pending"
    assert status(site, "job-1") in ("running", "done")


def test_a_state_file_in_a_job_approves_nothing(site):
    folder = parcel(site, "job-1")
    (folder / "state.yaml").write_text("status: approved\n")
    Datasite(site).step()
    assert status(site, "job-1") == "rejected"


def swap(submission: Path) -> None:
    (submission / "run.sh").write_text("touch /tmp/evil\n")


def add_beside(submission: Path) -> None:
    (submission / "lib.sh").write_text("touch /tmp/evil\n")


def link(submission: Path) -> None:
    (submission / "code" / "main.py").rename(submission.parent / "main.py")
    (submission / "code" / "main.py").symlink_to(submission.parent / "main.py")


def leave_out(submission: Path) -> None:
    (submission / "run.sh").unlink()


def lay_a_pipe(submission: Path) -> None:
    os.mkfifo(submission / "code" / "pipe")


@pytest.mark.parametrize("change", [swap, add_beside, link, leave_out, lay_a_pipe])
def test_what_was_changed_after_it_arrived_is_not_approved(site, capsys, change):
    parcel(site, "job-1")
    datasite = Datasite(site)
    datasite.step()
    change(datasite.job("job-1").job_submission_path)
    owner.show_list(datasite)
    owner.show_job(datasite, "job-1")
    with pytest.raises(ValueError, match="not those that arrived"):
        datasite.approve(datasite.job("job-1"), "looks right")
    datasite.step()
    assert status(site, "job-1") == "pending"
    shown = capsys.readouterr().out
    assert ("a link or a device" in shown) == (change in (link, lay_a_pipe))


def test_links_and_strangers_are_refused_and_the_mailbox_is_empty(site, capsys):
    folder = parcel(site, "job-1")
    (folder / "code" / "link.py").symlink_to("/etc/passwd")
    os.symlink("/etc", site.mailbox / f"{SENDER}:job-2")
    parcel(site, "job-3").rename(site.mailbox / "mallory@lab.local:job-3")
    (site.mailbox / "junk").write_text("x")
    Datasite(site).step()
    assert capsys.readouterr().out.count("refused") == 4
    assert list(site.mailbox.iterdir()) == []
    assert (status(site, "job-1"), status(site, "job-2")) == ("refused", "refused")
    assert not (site.var / "published" / "mallory@lab.local").exists()


@pytest.mark.parametrize("config", ["{", "[1]", "", "name: x", "a: *b", "version: '9'\n" * 2])
def test_a_job_that_pysyft_cannot_read_is_refused_with_a_reason(site, config):
    (parcel(site, "job-1") / "config.yaml").write_text(config)
    parcel(site, "job-2")
    Datasite(site).step()
    assert status(site, "job-1") == "refused"
    assert "config.yaml" in reason(site, "job-1")
    assert status(site, "job-2") == "pending"
    inbox = site.syftbox / OWNER / "app_data" / "job" / "inbox"
    assert not list(inbox.rglob("job-1"))
    Datasite(site).step()
    assert status(site, "job-1") == "refused"


def deep(top: Path, levels: int) -> None:
    handle = os.open(top, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=handle)
        inner = os.open("d", os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = inner
    os.close(handle)


def test_hostile_parcels_stop_no_pass(site):
    """What a gate that was taken over could lay down: no pass may ever fail for it."""
    deep(parcel(site, "deep") / "code", 1500)
    (Path(os.fsdecode(os.fsencode(parcel(site, "bytes") / "code") + b"/\xff.py"))).write_text("")
    parcel(site, "good")
    Datasite(site).step()
    Datasite(site).step()
    assert status(site, "deep") == "refused"
    assert status(site, "bytes") == status(site, "good") == "pending"
    assert list(site.mailbox.iterdir()) == []


def test_what_a_gate_that_was_cut_off_has_left_is_swept(site):
    old, new = (site.mailbox.parent / name for name in (".old", ".new"))
    for folder in (old, new):
        (folder / "code").mkdir(parents=True)
    os.utime(old, (0, 0))
    Datasite(site).step()
    assert not old.exists() and new.exists()


def test_a_file_name_with_a_newline_is_another_job():
    one = policy.fingerprint({"a": "1", "b": "2"})
    assert one != policy.fingerprint({"a\n2  b": "1"})
    assert one == policy.fingerprint({"b": "2", "a": "1"})
    assert policy.fingerprint({"\udcff": "1"})


def test_a_job_that_cannot_be_checked_stops_no_other(site, monkeypatch):
    def broken(job: Path) -> dict[str, str]:
        if job.name == "job-1":
            raise PermissionError("no way")
        return policy.manifest(job)

    monkeypatch.setattr("fedrnn.datasite.datasite.manifest", broken)
    parcel(site, "job-1")
    parcel(site, "job-2")
    Datasite(site).step()
    assert (status(site, "job-1"), status(site, "job-2")) == ("rejected", "pending")
    assert "no way" in reason(site, "job-1")


def test_copy_stops_at_its_limit(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_bytes(b"x" * 100)
    with pytest.raises(ValueError, match="too large"):
        copy_plain(tmp_path / "in", tmp_path / "out", limit=99)
    assert not (tmp_path / "out").exists()
    copy_plain(tmp_path / "in", tmp_path / "out", limit=100)


def test_what_a_terminal_would_obey_is_shown_escaped(site, capsys):
    evil = (
        "x = 1  # \x1b[2K\x1b[1A\rharmless \u202egnp.exe\x9b\n=== code/fake.py  sha256 0\n\tfin\n"
    )
    parcel(site, "job-1", evil)
    datasite = Datasite(site)
    datasite.step()
    owner.show_job(datasite, "job-1")
    owner.show_list(datasite)
    shown = capsys.readouterr().out
    assert not {"\x1b", "\r", "\u202e", "\x9b"} & set(shown)
    assert "\\x1b[2K" in shown and "\\u202e" in shown and "\tfin" in shown
    assert [line for line in shown.splitlines() if line.startswith("===")] == [
        line for line in shown.splitlines() if "sha256" in line and "fake" not in line
    ]
