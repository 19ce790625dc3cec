"""Mailbox, policy and data set of a datasite of this account."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fedrnn import owner
from fedrnn.datasite import policy
from fedrnn.datasite.dataset import count_rows, create, mock_rows
from fedrnn.datasite.datasite import Datasite
from fedrnn.datasite.layout import Site, job_key, split_key
from fedrnn.datasite.mailbox import copy_plain
from fedrnn.datasite.runner import ProcessLauncher
from fedrnn.local import local_site

ROOT = Path(__file__).parents[2]
SENDER = "controller@lab.local"
OWNER = "node1@lab.local"


@pytest.fixture
def site(tmp_path) -> Site:
    site = Site.at(tmp_path / "site")
    for folder in (site.etc, site.syftbox, site.mailbox, site.due, site.jobs, site.run):
        folder.mkdir(parents=True)
    config = {"owner": OWNER, "researchers": [SENDER], "launcher": "process"}
    (site.etc / "datasite.json").write_text(json.dumps(config))
    (site.etc / "approved_jobs.json").write_text("{}")
    return site


@pytest.fixture
def names(tmp_path) -> Path:
    folder = tmp_path / "names"
    folder.mkdir()
    (folder / "Polish.txt").write_text("Kowalski\nNowak\n\n")
    (folder / "Greek.txt").write_text("Papadopoulos\n")
    return folder


def parcel(site: Site, name: str, main: str = "print(1)\n", run: str = "cd code; python main.py\n"):
    folder = site.mailbox / f"{SENDER}:{name}"
    (folder / "code").mkdir(parents=True)
    (folder / "run.sh").write_text(run)
    (folder / "config.yaml").write_text(
        "canonical_name: JobSubmissionMetadata\nversion: '1'\n"
        f"name: {name}\ntype: python\nsubmitted_by: {SENDER}\n"
        f"datasite_email: {OWNER}\nsubmitted_at: '2026-11-24T00:00:00+00:00'\n"
        "entrypoint: main.py\nfiles: [main.py]\n"
    )
    (folder / "code" / "main.py").write_text(main)
    return folder


def approve(datasite: Datasite, name: str) -> None:
    with datasite.alone():
        datasite.approve(datasite.job(name), "looks right")
        datasite.start_approved()
        datasite.publish()


def status(site: Site, name: str) -> str:
    return json.loads((site.published(SENDER) / "jobs" / f"{name}.json").read_text())["status"]


def test_keys_are_unambiguous():
    assert split_key(job_key(SENDER, "job-1")) == (SENDER, "job-1")
    for bad in ("job-1", ":job", f"{SENDER}:a:b", f"{SENDER}:../x", "a/b@c:job"):
        with pytest.raises(ValueError):
            split_key(bad)


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


def reason(site: Site, name: str) -> str:
    return json.loads((site.published(SENDER) / "jobs" / f"{name}.json").read_text())["reason"]


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
    def is_allowed(site: Site, job: Path) -> bool:
        if job.name == "job-1":
            raise RuntimeError("no way")
        return False

    monkeypatch.setattr("fedrnn.datasite.datasite.is_allowed", is_allowed)
    parcel(site, "job-1")
    parcel(site, "job-2")
    Datasite(site).step()
    assert (status(site, "job-1"), status(site, "job-2")) == ("rejected", "pending")
    assert "no way" in reason(site, "job-1")


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
    assert next(site.published(SENDER).rglob("stdout.txt")).read_text() == "so far\n"


def test_a_job_that_has_ended_stays_as_it_is(site):
    parcel(site, "job-1")
    datasite = Datasite(site)
    datasite.step()
    with datasite.alone():
        datasite.deny(datasite.job("job-1"), "no")
    cancel(site, "job-1")
    assert (status(site, "job-1"), reason(site, "job-1")) == ("rejected", "no")


def test_a_note_without_a_job_is_nothing(site):
    cancel(site, "job-1")
    (site.mailbox / "junk.cancel").mkdir()
    Datasite(site).step()
    assert list(site.mailbox.iterdir()) == []


def test_copy_stops_at_its_limit(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_bytes(b"x" * 100)
    with pytest.raises(ValueError, match="too large"):
        copy_plain(tmp_path / "in", tmp_path / "out", limit=99)
    assert not (tmp_path / "out").exists()
    copy_plain(tmp_path / "in", tmp_path / "out", limit=100)


def test_an_approved_job_runs_and_its_outputs_are_published(site, names):
    create(site, names)
    main = "import os, pathlib\npathlib.Path('outputs/n').write_text(os.environ['FEDRNN_DATA'])\n"
    parcel(site, "job-1", main)
    datasite = Datasite(site)
    datasite.step()
    approve(datasite, "job-1")
    wait_for_end(site, "job-1")
    assert status(site, "job-1") == "done"
    box = site.published(SENDER) / "SyftBox" / OWNER
    output = next(box.rglob("outputs/n")).read_text()
    assert output == str(site.syftbox / OWNER / "private" / "syft_datasets" / "names")
    events = [entry["event"] for entry in Datasite(site).log.entries()]
    assert events == ["approve", "start", "end"]


def test_a_failing_job_says_so(site):
    parcel(site, "job-1", "raise SystemExit('no such thing')\n")
    datasite = Datasite(site)
    datasite.step()
    approve(datasite, "job-1")
    wait_for_end(site, "job-1")
    published = json.loads((site.published(SENDER) / "jobs" / "job-1.json").read_text())
    assert published["status"] == "failed"
    assert published["return_code"] == 1
    assert "no such thing" in published["stderr"]


def test_a_job_that_vanished_with_the_power_has_failed(site):
    parcel(site, "job-1", "import time; time.sleep(60)\n")
    datasite = Datasite(site)
    datasite.step()
    approve(datasite, "job-1")
    pid = int((site.jobs / f"{SENDER}:job-1" / "pid").read_text())
    os.killpg(pid, 9)
    os.waitpid(pid, 0)
    Datasite(site).step()
    assert status(site, "job-1") == "failed"


def wait_for_end(site: Site, name: str) -> None:
    until = time.monotonic() + 30
    while status(site, name) in ("approved", "pending", "running") and time.monotonic() < until:
        time.sleep(0.1)


def test_nothing_private_is_published(site, names):
    create(site, names)
    published = site.published(SENDER)
    for path in published.rglob("*"):
        if path.is_file():
            assert "Kowalski" not in path.read_text(), path
    described = json.loads((published / "describe.json").read_text())
    assert described["labels"] == {"Greek": 1, "Polish": 2}
    assert set(described["mock"]) == {"Greek", "Polish"}


def test_the_mock_is_made_without_a_row(site, names):
    create(site, names)
    mock = site.syftbox / OWNER / "public" / "syft_datasets" / "names" / "Polish.txt"
    before = mock.read_text()
    (names / "Polish.txt").write_text("Zzz\n")
    assert create(site, names) is True
    assert mock.read_text() == before == "\n".join(mock_rows("Polish")) + "\n"


def test_the_same_data_changes_nothing(site, names):
    assert create(site, names) is True
    assert create(site, names) is False


def test_data_that_cannot_be_used_is_named(tmp_path, names):
    with pytest.raises(ValueError, match="holds no data"):
        count_rows(tmp_path / "none")
    (names / "Dutch.txt").write_bytes(b"\xff\n")
    with pytest.raises(ValueError, match=r"Dutch\.txt is not UTF-8"):
        count_rows(names)
    (names / "Dutch.txt").write_text("\n \n")
    with pytest.raises(ValueError, match=r"Dutch\.txt is empty"):
        count_rows(names)


def test_hidden_files_and_others_are_no_data(site, names):
    """A Mac leaves `._Polish.txt` behind on a stick; a folder of the user's holds anything."""
    (names / "._Polish.txt").write_bytes(b"\x00\x05\x16\x07Mac OS X")
    (names / "letter.doc").write_text("Dear Kowalski")
    (names / "old.txt").mkdir()
    assert count_rows(names) == {"Greek": 1, "Polish": 2}
    create(site, names)
    private = site.syftbox / OWNER / "private" / "syft_datasets" / "names"
    kept = {p.name for p in private.rglob("*") if p.suffix in (".txt", ".doc")}
    assert kept == {"Greek.txt", "Polish.txt"}
    assert not list(site.var.glob(".dataset-*"))


def test_a_job_gets_the_datas_seed_from_the_owner(site, names):
    config = json.loads((site.etc / "datasite.json").read_text())
    (site.etc / "datasite.json").write_text(json.dumps({**config, "data_seed": 7}))
    create(site, names)
    parcel(site, "job-1", "import os; print(os.environ['FEDRNN_DATA_SEED'])\n")
    datasite = Datasite(site)
    datasite.step()
    approve(datasite, "job-1")
    wait_for_end(site, "job-1")
    assert next(site.published(SENDER).rglob("stdout.txt")).read_text() == "7\n"


def test_a_line_that_the_power_cut_is_skipped_and_spoils_no_other(site):
    log = policy.DecisionLog(site)
    log.add("approve", "a@b:one", "1")
    with log.path.open("a") as torn:
        torn.write('{"time": "20')
    log.add("approve", "a@b:two", "2")
    with log.path.open("ab") as torn:
        torn.write(b"[1]\n\xff\n{}\n")
    assert [e["job"] for e in log.entries()] == ["a@b:one", "a@b:two"]
    assert log.approved_fingerprint("a@b:two") == "2"


def test_what_is_gone_or_no_longer_granted_is_not_published(site, names):
    create(site, names)
    parcel(site, "job-1", "open('outputs/n', 'w').write('1')\n")
    datasite = Datasite(site)
    datasite.step()
    approve(datasite, "job-1")
    wait_for_end(site, "job-1")
    published = site.published(SENDER)
    output = next(published.rglob("outputs/n"))
    source = site.syftbox / output.relative_to(published / "SyftBox")
    before = output.stat().st_ino
    Datasite(site).step()
    assert output.stat().st_ino == before, "it was written again"
    source.unlink()
    mock = next(published.rglob("names/Polish.txt"))
    (published / "jobs" / "other.json").write_text('{"status": "done"}')
    permissions = site.syftbox / mock.relative_to(published / "SyftBox").parent / "syft.pub.yaml"
    assert permissions.is_file()
    permissions.write_text("rules: []\nterminal: true\n")
    Datasite(site).step()
    assert not output.exists() and not mock.exists()
    assert {p.name for p in (published / "jobs").iterdir()} == {"job-1.json"}


def test_a_finished_job_is_not_hashed_again(site, monkeypatch):
    parcel(site, "job-1")
    datasite = Datasite(site)
    datasite.step()
    with datasite.alone():
        datasite.deny(datasite.job("job-1"), "no")
        datasite.publish()
    monkeypatch.setattr("fedrnn.datasite.datasite.manifest", lambda job: pytest.fail("hashed"))
    Datasite(site).step()
    assert status(site, "job-1") == "rejected"


def test_too_many_outputs_are_refused_and_the_job_is_recorded(site):
    many = "from pathlib import Path\nfor n in range(10001): Path(f'outputs/{n}').touch()\n"
    parcel(site, "job-1", many)
    deepest = "import os\nfor n in range(1500): os.mkdir('outputs') or os.chdir('outputs')\n"
    parcel(site, "job-2", "import os; os.chdir('outputs')\n" + deepest)
    datasite = Datasite(site)
    datasite.step()
    for name in ("job-1", "job-2"):
        approve(datasite, name)
    for name in ("job-1", "job-2"):
        wait_for_end(site, name)
        assert status(site, name) == "done"
    refusals = [p.read_text() for p in site.published(SENDER).rglob("outputs/refused.txt")]
    assert len(refusals) == 2 and all("not taken over" in r for r in refusals)
    assert list(site.jobs.iterdir()) == list(site.due.iterdir()) == []


def test_an_end_that_cannot_be_recorded_stops_no_pass(site, monkeypatch):
    parcel(site, "job-1", "import time; time.sleep(60)\n")
    datasite = Datasite(site)
    datasite.step()
    approve(datasite, "job-1")
    (site.due / f"{SENDER}:job-1").write_text("exited 0")

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


def test_a_local_site_fits_a_sockets_path_wherever_temporary_files_lie(
    tmp_path, names, monkeypatch
):
    long = tmp_path / ("x" * 60)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    with local_site(OWNER, SENDER, names, {}) as root:
        assert len(str(Site.at(root).socket(f"{SENDER}:{'j' * 28}"))) <= 107
        assert Site.at(root).config()["data_seed"] == 0
    assert not root.exists()


def test_the_dataset_command_says_what_is_wrong(site, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "fedrnn.datasite.dataset", tmp_path, "--root", site.var.parent],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert str(tmp_path) in done.stderr and "<Label>.txt" in done.stderr
