"""The data set of a datasite, and what is published of it and of jobs."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sites import OWNER, SENDER, kept, parcel, start, status, wait_for_end

from fedrnn.datasite import policy
from fedrnn.datasite.dataset import count_rows, create, mock_rows
from fedrnn.datasite.datasite import Datasite
from fedrnn.datasite.layout import Site, dataset_folder, job_key, split_key
from fedrnn.datasite.runner import ProcessLauncher
from fedrnn.local import local_site

ROOT = Path(__file__).parents[2]


def test_keys_are_unambiguous():
    assert split_key(job_key(SENDER, "job-1")) == (SENDER, "job-1")
    for bad in ("job-1", ":job", f"{SENDER}:a:b", f"{SENDER}:../x", "a/b@c:job"):
        with pytest.raises(ValueError):
            split_key(bad)


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


def test_data_that_vanished_from_the_node_is_brought_back(site, names):
    create(site, names)
    private = site.syftbox / OWNER / "private" / "syft_datasets" / "names"
    shutil.rmtree(private)
    assert create(site, names) is True
    assert (private / "Greek.txt").read_text() == (names / "Greek.txt").read_text()


def test_another_owner_gets_the_data_and_nothing_stays_with_the_one_before(site, names):
    create(site, names)
    file = site.etc / "datasite.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "owner": "new@lab.local"}))
    assert create(site, names) is True
    assert create(site, names) is False
    rows = (names / "Greek.txt").read_text()
    holders = [p for p in site.var.rglob("Greek.txt") if p.read_text() == rows]
    assert holders == [dataset_folder(site, "new@lab.local") / "Greek.txt"]
    assert [p.name for p in (site.published(SENDER) / "SyftBox").iterdir()] == ["new@lab.local"]


def test_data_that_cannot_be_used_is_named(tmp_path, names):
    with pytest.raises(ValueError, match="holds no data"):
        count_rows(tmp_path / "none")
    (names / "Dutch.txt").write_bytes(b"\xff\n")
    with pytest.raises(ValueError, match=r"Dutch\.txt is not UTF-8"):
        count_rows(names)
    (names / "Dutch.txt").write_text("\n \n")
    with pytest.raises(ValueError, match=r"Dutch\.txt is empty"):
        count_rows(names)
    (tmp_path / "many").mkdir()
    for number in range(501):
        (tmp_path / "many" / f"L{number}.txt").write_text("a\n")
    with pytest.raises(ValueError, match="has 501 labels, and at most 500 may be"):
        count_rows(tmp_path / "many")


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
    start(site, "import os; print(os.environ['FEDRNN_DATA_SEED'])\n")
    wait_for_end(site, "job-1")
    assert (kept(site, "job-1") / "stdout.txt").read_text() == "7\n"


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
    start(site, "import time; open('outputs/n', 'w').write('1'); time.sleep(60)\n")
    published = site.published(SENDER)
    mock = next(published.rglob("names/Polish.txt"))
    before = mock.stat().st_ino
    Datasite(site).step()
    assert mock.stat().st_ino == before, "it was written again"
    (published / "SyftBox" / mock.parent / "gone.txt").write_text("1")
    permissions = site.syftbox / mock.relative_to(published / "SyftBox").parent / "syft.pub.yaml"
    assert permissions.is_file()
    permissions.write_text("rules: []\nterminal: true\n")
    Datasite(site).step()
    assert not list(mock.parent.glob("*.txt"))
    ProcessLauncher(site).stop(f"{SENDER}:job-1")


def test_a_job_that_has_ended_costs_no_pass_any_more(site, monkeypatch):
    parcel(site, "job-1")
    datasite = Datasite(site)
    datasite.step()
    with datasite.alone():
        datasite.deny(datasite.job("job-1"), "no")
        datasite.start_next()
    monkeypatch.setattr("fedrnn.datasite.datasite.manifest", lambda job: pytest.fail("hashed"))
    Datasite(site).step()
    assert status(site, "job-1") == "rejected"
    assert Datasite(site).jobs() == []
    (ended,) = Datasite(site).ended()
    assert (ended.name, ended.status, ended.submitted_by) == ("job-1", "rejected", SENDER)


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
