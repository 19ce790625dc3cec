"""Jobs that have ended, out of the way of those that have not: a SyftBox of their own.

A pass of the datasite then costs what the open jobs cost, and what a sender leaves on the node has
an end.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from syft_job import SyftJobConfig
from syft_job.job_storage import JobRef

from fedrnn.datasite.layout import Site, job_key
from fedrnn.datasite.mailbox import discard
from fedrnn.datasite.policy import DecisionLog
from fedrnn.datasite.storage import ENDED, Storage

MAX_KEPT = 100  # ended jobs of a sender
MAX_KEPT_BYTES = 256 << 20  # their code, outputs and logs


class Archive:
    """Where ended jobs go, with PySyft's own layout, until their sender has too many."""

    def __init__(self, site: Site, open_jobs: Storage, log: DecisionLog) -> None:
        owner = open_jobs.config.current_user_email
        self.site, self.owner, self._open, self._log = site, owner, open_jobs, log
        self.config = SyftJobConfig(
            syftbox_folder=site.archive, current_user_email=owner, has_do_role=True
        )
        self.storage = Storage(self.config, log)

    def take_ended(self) -> None:
        """Move every job that has ended, then drop the oldest of a sender who has too many."""
        moved = False
        for ref in list(self._open.iter_review_refs(self.owner)):
            if self._open.read_state(ref).status in ENDED:
                # The submission first: what is left of a move that the power cut is still found.
                self._move(self._open.submission_dir(ref), self.storage.submission_dir(ref))
                self._move(self._open.review_dir(ref), self.storage.review_dir(ref))
                moved = True
        if moved:
            self._drop_oldest()

    def _move(self, source: Path, target: Path) -> None:
        if source.is_dir():
            discard(target, self.site.var)
            target.parent.mkdir(parents=True, exist_ok=True)
            source.rename(target)

    def _drop_oldest(self) -> None:
        kept: defaultdict[str, int] = defaultdict(int)
        size: defaultdict[str, int] = defaultdict(int)
        compared = self._compared_with()
        for ref in sorted(self.storage.iter_review_refs(self.owner), key=self._age, reverse=True):
            kept[ref.ds_email] += 1
            size[ref.ds_email] += sum(map(_bytes, self._folders(ref)))
            too_many = kept[ref.ds_email] > MAX_KEPT or size[ref.ds_email] > MAX_KEPT_BYTES
            if too_many and job_key(ref.ds_email, ref.job_name) not in compared:
                self._drop(ref)

    def _drop(self, ref: JobRef) -> None:
        """Remove a job; its review last, for by that it is found."""
        published = self.site.published(ref.ds_email)
        (published / "jobs" / f"{ref.job_name}.json").unlink(missing_ok=True)
        for folder in self._folders(ref):
            for path in (published / "SyftBox" / folder.relative_to(self.site.archive), folder):
                discard(path, self.site.var)

    def _folders(self, ref: JobRef) -> tuple[Path, Path]:
        return self.storage.submission_dir(ref), self.storage.review_dir(ref)

    def _age(self, ref: JobRef) -> float:
        return float((self.storage.review_dir(ref) / "state.yaml").stat().st_mtime)

    def _compared_with(self) -> set[str]:
        """Return the newest approved job of every sender: owners are shown what differs from it."""
        newest = {e["job"].partition(":")[0]: e["job"] for e in self._log.entries()
                  if e["event"] == "approve"}  # fmt: skip
        return set(newest.values())


def _bytes(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*"))
