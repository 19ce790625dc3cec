"""How jobs of a datasite start and end: by themselves, by a power cut, by their sender."""

import json
import os
import time
from pathlib import Path
from typing import Any

from sites import OWNER, SENDER, approve, kept, parcel, reason, start, status, wait_for_end

from fedrnn.datasite.dataset import create
from fedrnn.datasite.datasite import Datasite
from fedrnn.datasite.layout import DRAINED, Site
from fedrnn.datasite.runner import ProcessLauncher

ROOT = Path(__file__).parents[2]


def cancel(site: Site, name: str) -> None:
    (site.mailbox / f"{SENDER}:{name}.cancel").touch()
    Datasite(site).step()


def test_a_waiting_job_is_cancelled(site):
    parcel(site, "job-1")
    cancel(site, "job-1")
    assert (status(site, "job-1"), reason(site, "job-1")) == ("rejected", "cancelled by its sender")
    assert list(site.mailbox.iterdir()) == []


def test_a_running_job_is_cancelled_with_all_its_processes(site):
    parcel(site, "job-1", run="sleep 60 & echo $! > code/outputs/pid; echo so far; wait\n")
    datasite = Datasite(site)
    datasite.step()
    approve(datasite, "job-1")
    pid = site.jobs / f"{SENDER}:job-1" / "code" / "outputs" / "pid"
    until = time.monotonic() + 10
    while not (pid.is_file() and pid.read_text().strip()) and time.monotonic() < until:
        time.sleep(0.05)
    child = int(pid.read_text())
    cancel(site, "job-1")
    assert (status(site, "job-1"), reason(site, "job-1")) == ("failed", "cancelled by its sender")
    time.sleep(0.2)
    running = Path(f"/proc/{child}/stat")
    assert not running.exists() or running.read_text().split()[2] == "Z"
    assert list(site.jobs.iterdir()) == list(site.due.iterdir()) == []
    assert (kept(site, "job-1") / "stdout.txt").read_text() == "so far\n"


def test_a_job_that_has_ended_stays_as_it_is(site):
    parcel(site, "job-1")
    datasite = Datasite(site)
    datasite.step()
    with datasite.alone():
        datasite.deny(datasite.job("job-1"), "no")
        datasite.start_next()
    cancel(site, "job-1")
    assert (status(site, "job-1"), reason(site, "job-1")) == ("rejected", "no")


def test_a_note_without_a_job_is_nothing(site):
    cancel(site, "job-1")
    (site.mailbox / "junk.cancel").mkdir()
    Datasite(site).step()
    assert list(site.mailbox.iterdir()) == []


def test_an_approved_job_runs_and_its_outputs_are_published_and_not_what_it_prints(site, names):
    create(site, names)
    main = (
        "import os, pathlib, sys\nprint('a row')\nprint('a row', file=sys.stderr)\n"
        "pathlib.Path('outputs/n').write_text(os.environ['FEDRNN_DATA'])\n"
    )
    start(site, main)
    wait_for_end(site, "job-1")
    assert status(site, "job-1") == "done"
    box = site.published(SENDER) / "SyftBox" / OWNER
    assert not [p for p in box.rglob("*") if p.is_file() and "a row" in p.read_text()]
    assert {(kept(site, "job-1") / f"std{log}.txt").read_text() for log in ("out", "err")} == {
        "a row\n"
    }
    output = next(box.rglob("outputs/n")).read_text()
    assert output == str(site.syftbox / OWNER / "private" / "syft_datasets" / "names")
    events = [entry["event"] for entry in Datasite(site).log.entries()]
    assert events == ["receive", "approve", "start", "end"]


def test_while_the_node_is_drained_no_job_starts_and_afterwards_it_does(site):
    site.drained.touch()
    start(site, "print(1)\n")
    Datasite(site).step()
    assert status(site, "job-1") == "approved" and list(site.jobs.iterdir()) == []
    told = json.loads((site.published(SENDER) / "jobs" / "job-1.json").read_text())
    assert told["reason"] == DRAINED
    site.drained.unlink()
    Datasite(site).step()
    wait_for_end(site, "job-1")
    assert status(site, "job-1") == "done"


def test_a_failing_job_says_so(site):
    start(site, "raise SystemExit('no such thing')\n")
    wait_for_end(site, "job-1")
    published = json.loads((site.published(SENDER) / "jobs" / "job-1.json").read_text())
    assert published["status"] == "failed"
    assert published["return_code"] == 1
    assert "no such thing" in (kept(site, "job-1") / "stderr.txt").read_text()


def test_a_job_that_vanished_with_the_power_has_failed(site):
    start(site, "import time; time.sleep(60)\n")
    pid = int((site.jobs / f"{SENDER}:job-1" / "pid").read_text())
    os.killpg(pid, 9)
    os.waitpid(pid, 0)
    Datasite(site).step()
    assert status(site, "job-1") == "failed"


def test_too_many_outputs_are_refused_and_the_job_is_recorded(site):
    many = "from pathlib import Path\nfor n in range(10001): Path(f'outputs/{n}').touch()\n"
    parcel(site, "job-1", many)
    deepest = "import os\nfor n in range(1500): os.mkdir('outputs') or os.chdir('outputs')\n"
    parcel(site, "job-2", "import os; os.chdir('outputs')\n" + deepest)
    datasite = Datasite(site)
    datasite.step()
    for name in ("job-1", "job-2"):
        approve(datasite, name)
        wait_for_end(site, name)
        assert status(site, name) == "done"
    refusals = [p.read_text() for p in site.published(SENDER).rglob("outputs/refused.txt")]
    assert len(refusals) == 2 and all("not taken over" in r for r in refusals)
    assert list(site.jobs.iterdir()) == list(site.due.iterdir()) == []


def test_an_end_that_cannot_be_recorded_stops_no_pass(site, monkeypatch):
    start(site, "import time; time.sleep(60)\n")
    (site.due / f"{SENDER}:job-1").write_text("success exited 0")

    def full(*_: object) -> None:
        raise PermissionError("outputs of mode 0700")

    monkeypatch.setattr("fedrnn.datasite.runner.discard", full)
    Datasite(site).step()
    ProcessLauncher(site).stop(f"{SENDER}:job-1")
    assert (status(site, "job-1"), list(site.due.iterdir())) == ("failed", [])
    assert "0700" in reason(site, "job-1")


def test_the_umask_is_as_it_was_when_staging_fails(site, monkeypatch):
    parcel(site, "job-1")
    datasite = Datasite(site)
    datasite.step()
    mkdir = Path.mkdir

    def failing(path: Path, *words: Any, **more: Any) -> None:
        if path.name == "outputs" and site.jobs in path.parents:
            raise OSError("the disk is full")
        mkdir(path, *words, **more)

    before = os.umask(0o027)
    try:
        monkeypatch.setattr(Path, "mkdir", failing)
        approve(datasite, "job-1")
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    assert (status(site, "job-1"), reason(site, "job-1")) == ("failed", "the disk is full")


def test_a_waiting_job_that_a_power_cut_has_torn_is_refused_to_its_sender(site):
    """Its sender was told `pending` before: that must not stay for ever."""
    parcel(site, "job-1")
    Datasite(site).step()
    assert status(site, "job-1") == "pending"
    next(site.syftbox.glob(f"*/app_data/job/inbox/{SENDER}/*/job-1/config.yaml")).write_bytes(
        b"[\0"
    )
    Datasite(site).step()
    assert status(site, "job-1") == "refused" and "power cut" in reason(site, "job-1")


def test_a_job_that_failed_without_an_exception_is_told_its_exit_code_and_not_its_approval(site):
    start(site, "raise SystemExit(3)\n")
    wait_for_end(site, "job-1")
    assert reason(site, "job-1") == "it ended with the exit code 3"
