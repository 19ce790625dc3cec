"""Jobs that have ended leave the way of those that have not, and the oldest leave the node."""

import os
from pathlib import Path

import pytest
from sites import OWNER, SENDER, approve, kept, parcel, reason, status, wait_for_end

from fedrnn.datasite import archive
from fedrnn.datasite.datasite import Datasite
from fedrnn.datasite.layout import Site

OTHER = "second@lab.local"


def deny(datasite: Datasite, *names: str) -> None:
    with datasite.alone():
        for name in names:
            datasite.deny(datasite.job(name), "no")
        datasite.start_next()


def inside(top: Path, name: str) -> list[str]:
    """The folders of a job below `top`: its submission, its review."""
    return sorted(p.relative_to(top).parts[3] for p in top.rglob(name) if p.is_dir())


def ended(datasite: Datasite) -> set[str]:
    return {job.name for job in datasite.ended()}


def age(site: Site, name: str, seconds: float) -> None:
    """Make a job end earlier."""
    state = kept(site, name) / "state.yaml"
    at = state.stat().st_mtime - seconds
    os.utime(state, (at, at))


def test_a_job_that_has_ended_moves_and_one_that_has_not_stays(site):
    parcel(site, "job-1")
    parcel(site, "job-2")
    datasite = Datasite(site)
    datasite.step()
    deny(datasite, "job-1")
    assert [job.name for job in datasite.jobs()] == ["job-2"] and ended(datasite) == {"job-1"}
    assert inside(site.syftbox, "job-1") == []
    assert inside(site.archive, "job-1") == ["inbox", "review"]
    assert (status(site, "job-1"), reason(site, "job-1")) == ("rejected", "no")
    assert datasite.job("job-1").review_reason == "no"
    with pytest.raises(ValueError, match="job-1' is rejected, there is nothing to deny"):
        datasite.deny(datasite.job("job-1"), "again")


def test_its_sender_still_reads_the_outputs_of_a_job_in_the_archive(site):
    parcel(site, "job-1", "open('outputs/n', 'w').write('7')\n")
    datasite = Datasite(site)
    datasite.step()
    approve(datasite, "job-1")
    wait_for_end(site, "job-1")
    assert (kept(site, "job-1") / "outputs" / "n").read_text() == "7"
    Datasite(site).step()
    (output,) = (site.published(SENDER) / "SyftBox" / OWNER).rglob("outputs/n")
    assert output.read_text() == "7"


def test_of_a_sender_with_too_many_jobs_the_oldest_leave_with_all_that_was_published(
    site, monkeypatch
):
    monkeypatch.setattr(archive, "MAX_KEPT", 2)
    datasite = Datasite(site)
    for number in (1, 2, 3):
        parcel(site, f"job-{number}")
        datasite.step()
        deny(datasite, f"job-{number}")
        if number < 3:
            age(site, f"job-{number}", 100 / number)
    assert ended(datasite) == {"job-2", "job-3"}
    published = [p for p in site.published(SENDER).rglob("*") if "job-1" in str(p)]
    assert inside(site.archive, "job-1") == published == []
    assert (status(site, "job-2"), status(site, "job-3")) == ("rejected", "rejected")
    assert [p.name for p in site.var.iterdir() if p.name.startswith(".")] == []


def test_too_many_bytes_of_one_sender_cost_no_other_sender_a_job(site, monkeypatch):
    config = (
        (site.etc / "datasite.json").read_text().replace(f'"{SENDER}"', f'"{SENDER}", "{OTHER}"')
    )
    (site.etc / "datasite.json").write_text(config)
    datasite = Datasite(site)
    folder = parcel(site, "job-0")
    folder.rename(site.mailbox / f"{OTHER}:job-0")
    settings = site.mailbox / f"{OTHER}:job-0" / "config.yaml"
    settings.write_text(settings.read_text().replace(SENDER, OTHER))
    datasite.step()
    deny(datasite, "job-0")
    monkeypatch.setattr(archive, "MAX_KEPT_BYTES", 30_000)
    for number in (1, 2):
        parcel(site, f"job-{number}", "#" * 20_000)
        datasite.step()
        deny(datasite, f"job-{number}")
        age(site, f"job-{number}", 100 / number)
    assert ended(datasite) == {"job-0", "job-2"}


def test_the_code_that_the_owner_approved_last_is_kept_to_compare_with(site, monkeypatch):
    monkeypatch.setattr(archive, "MAX_KEPT", 1)
    datasite = Datasite(site)
    parcel(site, "job-1")
    datasite.step()
    approve(datasite, "job-1")
    wait_for_end(site, "job-1")
    age(site, "job-1", 1000)
    for number in (2, 3):
        parcel(site, f"job-{number}")
        Datasite(site).step()
        deny(datasite, f"job-{number}")
        age(site, f"job-{number}", 10 / number)
    assert ended(datasite) == {"job-1", "job-3"}


class PowerCut(BaseException):
    """Nothing of the program goes on after it."""


@pytest.mark.parametrize("before_move", [1, 2, 3])
def test_a_power_cut_in_the_middle_of_a_move_is_settled_by_the_next_pass(
    site, monkeypatch, before_move
):
    """A job is two folders: the power goes before the first moves, the second, or after both."""
    parcel(site, "job-1")
    parcel(site, "job-2")
    datasite = Datasite(site)
    datasite.step()
    rename, moves = Path.rename, []

    def cut(path: Path, target: Path) -> Path:
        if site.archive in Path(target).parents:
            moves.append(path)
            if len(moves) == before_move:
                raise PowerCut
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", cut)
        try:
            deny(datasite, "job-1")
        except PowerCut:
            assert before_move < 3
    again = Datasite(site)
    again.step()
    assert [job.name for job in again.jobs()] == ["job-2"] and ended(again) == {"job-1"}
    assert inside(site.syftbox, "job-1") == []
    assert inside(site.archive, "job-1") == ["inbox", "review"]
    assert (status(site, "job-1"), reason(site, "job-1")) == ("rejected", "no")


def test_a_power_cut_while_the_oldest_is_dropped_is_settled_by_the_next_drop(site, monkeypatch):
    datasite = Datasite(site)
    for number in (1, 2):
        parcel(site, f"job-{number}")
        datasite.step()
        deny(datasite, f"job-{number}")
        age(site, f"job-{number}", 100 / number)
    monkeypatch.setattr(archive, "MAX_KEPT", 1)

    def cut(path: Path, aside: Path) -> None:
        if "review" in path.parts and site.archive in path.parents and path.exists():
            raise PowerCut
        discard(path, aside)

    discard = archive.discard
    parcel(site, "job-3")
    datasite.step()
    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        patch.setattr(archive, "discard", cut)
        deny(datasite, "job-3")
    assert inside(site.archive, "job-2") == ["review"]
    again = Datasite(site)
    again.step()
    parcel(site, "job-4")
    again.step()
    deny(again, "job-4")
    assert ended(again) == {"job-4"}
    assert [p for n in "123" for p in inside(site.archive, f"job-{n}")] == []
