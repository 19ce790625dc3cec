"""A state that a power cut has torn is worked out of the log of decisions."""

import json
import os
from pathlib import Path

import pytest
from sites import OWNER, SENDER, approve, kept, parcel, reason, start, status, wait_for_end

from fedrnn.datasite import storage
from fedrnn.datasite.datasite import Datasite
from fedrnn.datasite.layout import Site

TORN = {
    "empty": b"",
    "zeros": bytes(600),
    "half": b"status: app",
    "binary": b"\xff\xfe\x80",
    "other YAML": b"- 1\n",
    "no state": b"status: fine\n",
    "tag": b"!!python/object:x {}\n",
}


def state_file(site: Site, name: str = "job-1") -> Path:
    (found,) = site.syftbox.glob(f"{OWNER}/app_data/job/review/{SENDER}/*/{name}/state.yaml")
    return found


def tear(site: Site) -> None:
    state_file(site).write_bytes(b"\0" * 100)


@pytest.mark.parametrize("content", TORN.values(), ids=TORN)
def test_a_state_torn_in_any_way_is_read(site, content):
    parcel(site, "job-1")
    Datasite(site).step()
    state_file(site).write_bytes(content)
    again = Datasite(site)
    again.step()
    assert status(site, "job-1") == again.job("job-1").status == "pending"
    assert state_file(site).read_bytes() != content


def test_of_a_job_whose_approval_is_torn_the_owner_decides_again(site):
    parcel(site, "job-1", "import time; time.sleep(60)\n")
    parcel(site, "job-2")
    datasite = Datasite(site)
    datasite.step()
    with datasite.alone():
        datasite.approve(datasite.job("job-1"), "looks right")
    tear(site)
    Datasite(site).step()
    assert status(site, "job-1") == "pending"
    assert list(site.jobs.iterdir()) == []


def test_a_job_that_runs_goes_on_when_its_state_is_torn(site):
    datasite = start(site, "import time; time.sleep(60)\n")
    tear(site)
    again = Datasite(site)
    again.step()
    assert status(site, "job-1") == "running"
    with again.alone():
        again.deny(again.job("job-1"), "enough")
        again.start_next()
    assert (status(site, "job-1"), reason(site, "job-1")) == ("failed", "enough")
    assert datasite.runner.launcher.alive() == set()


def test_a_job_that_ran_has_failed_when_the_power_took_it_and_its_state(site):
    start(site, "import time; time.sleep(60)\n")
    pid = int((site.jobs / f"{SENDER}:job-1" / "pid").read_text())
    os.killpg(pid, 9)
    os.waitpid(pid, 0)
    tear(site)
    Datasite(site).step()
    assert status(site, "job-1") == "failed"
    assert "the power of this node went" in reason(site, "job-1")


ENDS = [
    ("end", {"result": 0}, "done", None),
    ("end", {"result": 3, "reason": "ValueError in code/main.py"}, "failed",
     "ValueError in code/main.py"),
    ("cancel", {"reason": "enough"}, "failed", "enough"),
    ("refuse", {"reason": "the disk is full"}, "failed", "the disk is full"),
    ("deny", {"reason": "not on a Sunday"}, "rejected", "not on a Sunday"),
]  # fmt: skip


@pytest.mark.parametrize(("event", "more", "then", "why"), ENDS)
def test_an_end_that_is_in_the_log_is_an_end_when_the_state_is_torn(site, event, more, then, why):
    parcel(site, "job-1")
    datasite = Datasite(site)
    datasite.step()
    datasite.log.add(event, f"{SENDER}:job-1", "0" * 64, **more)
    tear(site)
    again = Datasite(site)
    again.step()
    assert kept(site, "job-1")
    job = again.job("job-1")
    assert (job.status, job.review_reason) == (then, why)
    assert (status(site, "job-1"), reason(site, "job-1")) == (then, why)
    told = json.loads((site.published(SENDER) / "jobs" / "job-1.json").read_text())
    assert told["return_code"] == more.get("result", -1)


def test_a_state_that_does_not_exist_is_not_made_up(site):
    parcel(site, "job-1")
    datasite = Datasite(site)
    datasite.step()
    (ref,) = datasite.storage.iter_review_refs(OWNER)
    state_file(site).unlink()
    with pytest.raises(storage.JobStateNotFoundError):
        datasite.storage.read_state(ref)
    assert not datasite.storage.review_dir(ref).joinpath("state.yaml").exists()


def test_the_power_that_goes_while_a_state_is_written_leaves_the_old_one(site, monkeypatch):
    parcel(site, "job-1")
    datasite = Datasite(site)
    datasite.step()
    before = state_file(site).read_bytes()

    def cut(fresh: Path, target: Path) -> None:
        fresh.write_bytes(b"status: app")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(storage, "replace", cut)
        datasite.approve(datasite.job("job-1"), "looks right")
    assert state_file(site).read_bytes() == before
    again = Datasite(site)
    approve(again, "job-1")
    wait_for_end(site, "job-1")
    assert status(site, "job-1") == "done"


def test_what_replaces_a_file_is_on_the_disk_before_and_its_folder_after(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(storage, "sync", lambda path: told.append((path.name, path.is_dir())))
    (tmp_path / "new").write_text("2")
    (tmp_path / "old").write_text("1")
    storage.replace(tmp_path / "new", tmp_path / "old")
    assert told == [("new", False), (tmp_path.name, True)]
    assert (tmp_path / "old").read_text() == "2" and not (tmp_path / "new").exists()
