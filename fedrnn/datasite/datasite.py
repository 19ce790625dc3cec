"""The datasite: what a node does for its data owner, in one pass, and then exits.

A path unit starts the pass when the gate has received a job or a job has ended. It takes new
jobs in, approves what the operator's allow-list holds, starts what is approved, records what
has ended and publishes what each researcher may read. Nothing of it stays in memory.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import io
import json
import os
import platform
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from syft_job import JobClient, JobInfo, SyftJobConfig
from syft_perms import SyftPermContext

from fedrnn.datasite.archive import Archive
from fedrnn.datasite.layout import CANCEL, DESCRIPTION, DRAINED, FINAL, Site, job_key
from fedrnn.datasite.mailbox import contents, damaged, discard, receive, remove
from fedrnn.datasite.policy import DecisionLog, PolicyError, allow_list, fingerprint, manifest
from fedrnn.datasite.publish import mirror, place, publish_refusal, publish_refusals, publish_states
from fedrnn.datasite.runner import Launcher, ProcessLauncher, Runner, SystemdLauncher
from fedrnn.datasite.storage import Storage

FIELD = re.compile(r"(?m)^(Name|Version): (.+)$")  # of a package's METADATA, where they come first
CANCELLED = "cancelled by its sender"
TORN = "its files were damaged on this node, as by a power cut: submit it again, by another name"
LAUNCHERS: dict[str, Callable[[Site], Launcher]] = {
    "systemd": SystemdLauncher,
    "process": ProcessLauncher,
}


class Datasite:
    """PySyft's objects of one owner, over one `Site`."""

    def __init__(self, site: Site) -> None:
        config = site.config()
        self.site, self.owner = site, config["owner"]
        self.researchers: list[str] = config["researchers"]
        self.log = DecisionLog(site)
        self.notice = ""  # what keeps every job waiting, in words for its sender
        with quiet():
            jobs = SyftJobConfig(
                syftbox_folder=site.syftbox, current_user_email=self.owner, has_do_role=True
            )
            self.storage = Storage(jobs, self.log)
            self.client = self._client(jobs, self.storage)
            self.runner = Runner(site, jobs, self.storage, LAUNCHERS[config["launcher"]](site))
            self.archive = Archive(site, self.storage, self.log)
            inboxes = jobs.get_all_submissions_dir(self.owner)
            for researcher in self.researchers:
                if not (inboxes / researcher).is_dir():  # it is slow, and done once
                    self.client.setup_ds_job_folder_as_do(researcher)

    @staticmethod
    def _client(config: SyftJobConfig, storage: Storage) -> JobClient:
        client = JobClient.from_config(config)
        client.manager = storage
        return client

    def jobs(self) -> list[JobInfo]:
        """Return the jobs that have not ended, the newest first."""
        with quiet():
            return list(self.client.jobs)

    def ended(self) -> list[JobInfo]:
        """Return the jobs that have ended, the newest first, as long as they are kept."""
        with quiet():
            return list(self._client(self.archive.config, self.archive.storage).jobs)

    def job(self, name: str) -> JobInfo:
        """Return the job of this name, or of `SENDER:NAME` where two senders chose the same.

        Raises LookupError with what there is.
        """
        jobs = [*self.jobs(), *self.ended()]
        found = [j for j in jobs if name in (j.name, job_key(j.submitted_by, j.name))]
        if len(found) == 1:
            return found[0]
        known = ", ".join(job_key(j.submitted_by, j.name) for j in jobs) or "none"
        raise LookupError(f"{len(found)} jobs are called {name!r}; this datasite has: {known}")

    def step(self) -> None:
        """Do everything that is due, once; a job that cannot be handled stops no other."""
        with self.alone():
            parcels, notes = contents(self.site)
            try:
                self._refuse(receive(self.site, self.storage, parcels))
                self._drop_damaged()
                self.runner.settle()
                for note in notes:
                    self._cancel(note.name.removesuffix(CANCEL))
                self._approve_allowed()
                self.start_next()
            finally:
                # Last, so that its sender finds a job in the mailbox or published, at any time.
                remove(self.site, [*parcels, *notes])

    def _refuse(self, refused: dict[str, str]) -> None:
        for name, reason in refused.items():
            print(f"refused {name!r}: {reason}"[:1000], flush=True)
        publish_refusals(self.site, self.researchers, refused)

    def _drop_damaged(self) -> None:
        """Take jobs away that nobody can read any more, before anything else meets them."""
        for key, folder in damaged(self.storage).items():
            self.log.add("refuse", key, "", reason=TORN)
            discard(folder, self.site.var)
            print(f"refused {key!r}: {TORN}", flush=True)
            publish_refusal(self.site, key, TORN)

    def _approve_allowed(self) -> None:
        try:
            allowed = allow_list(self.site).keys() - self.log.revoked()
        except PolicyError as error:
            allowed, self.notice = set(), str(error)
            print(error, flush=True)
        for job in self.jobs():
            if job.status != "pending":
                continue
            try:
                if fingerprint(manifest(job.job_submission_path)) in allowed:
                    self.approve(job, "every file is on the operator's allow-list", "auto")
            except Exception as error:
                self.deny(job, f"it cannot be checked: {error}")

    def _cancel(self, key: str) -> None:
        """End the job of this key as its sender wishes; one that has ended stays as it is."""
        for job in self.jobs():
            if job_key(job.submitted_by, job.name) == key:
                try:
                    self.deny(job, CANCELLED, by=job.submitted_by)
                except Exception as error:
                    print(f"{key} cannot be cancelled: {error}", flush=True)

    def approve(self, job: JobInfo, reason: str, method: str = "manual", by: str = "") -> None:
        """Approve exactly the files that arrived.

        Raises ValueError unless the job waits and nobody has touched them.
        """
        if job.status != "pending":
            raise ValueError(f"job {job.name!r} is {job.status}, there is nothing to approve")
        arrived = self.log.received_fingerprint(job_key(job.submitted_by, job.name))
        if fingerprint(manifest(job.job_submission_path)) != arrived:
            raise ValueError(
                f"the files of {job.name!r} are not those that arrived: somebody has changed "
                f"{job.job_submission_path}. Deny the job, and find out who"
            )
        self._note("approve", job, reason=reason, method=method, by=by)
        with quiet():
            job.approve(reason, approval_method=method)

    def deny(self, job: JobInfo, reason: str, by: str = "") -> None:
        """Refuse a job that waits, end one that runs; its sender reads the reason.

        Raises ValueError when it has ended.
        """
        if job.status in FINAL:
            raise ValueError(f"job {job.name!r} is {job.status}, there is nothing to deny")
        if job.status == "pending":
            self._note("deny", job, reason=reason, by=by)
            with quiet():
                job.reject(reason)
        else:
            self._note("cancel", job, reason=reason, by=by)
            with quiet():
                self.runner.end(job._ref, reason)

    def revoke(self, digest: str, reason: str, by: str = "") -> list[JobInfo]:
        """Let no job of this fingerprint run until the owner approves one by hand.

        Ends the jobs of it that run or are to run; returns them.
        """
        self.log.add("revoke", "", digest, reason=reason, by=by)
        ended = []
        for job in self.jobs():
            key = job_key(job.submitted_by, job.name)
            if job.status != "pending" and self.log.approved_fingerprint(key) == digest:
                self.deny(job, reason, by)
                ended.append(job)
        return ended

    def _note(self, event: str, job: JobInfo, **more: str) -> None:
        try:
            digest = fingerprint(manifest(job.job_submission_path))
        except OSError:  # it is denied for just that
            digest = ""
        key = job_key(job.submitted_by, job.name)
        self.log.add(event, key, digest, **{k: v for k, v in more.items() if v})

    def start_next(self) -> None:
        """Let PySyft's runner start the job whose turn it is, tell the senders, and tidy up."""
        with quiet():
            self.runner.start_next()
        self.publish()
        self.archive.take_ended()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the datasite's lock: two passes never write at once."""
        with (self.site.var / "SyftBox" / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def publish(self) -> None:
        """Lay out for the gate what PySyft's permissions let each researcher read."""
        home = self.site.syftbox / self.owner
        with quiet():
            permissions = SyftPermContext(datasite=home)
        jobs, described = self.jobs(), self.described()
        for researcher in self.researchers:
            folder = self.site.published(researcher)
            mine = [job for job in jobs if job.submitted_by == researcher]
            may_read = partial(_may_read, permissions, researcher)
            for top in (home / "public", *(job.job_review_path for job in mine)):
                mirror(home, top, folder / "SyftBox" / self.owner, may_read)
            publish_states(folder / "jobs", {job.name: job for job in mine}, self.state)
            if described:
                place(json.dumps(described).encode(), folder / "describe.json")

    def described(self) -> dict[str, Any] | None:
        """Return the data set in counts and mock rows, and what this node runs; None without."""
        path = self.site.syftbox / DESCRIPTION
        if not path.is_file():
            return None
        told = json.loads(path.read_text())
        return {**told, "owner": self.owner, "node": software(), "running": self.running()}

    def running(self) -> dict[str, str] | None:
        """Return `job`, `sender` and `since` of the job that holds this node, None for none."""
        for ref in self.runner.running():
            started = self.log.last(job_key(ref.ds_email, ref.job_name)) or {"time": "unknown"}
            return {"job": ref.job_name, "sender": ref.ds_email, "since": started["time"]}
        return None

    def state(self, job: JobInfo) -> dict[str, Any]:
        """Return what a sender is told about a job, in plain values."""
        return {
            "job": job.name,
            "status": job.status,
            "reason": self._waits_for(job) or job.review_reason,
            "approval": job.approval_method,
            "return_code": job._state.return_code,
            "sha256": fingerprint(manifest(job.job_submission_path)),
            "held_by": self.running() if job.status == "approved" else None,
        }

    def _waits_for(self, job: JobInfo) -> str | None:
        """Return what keeps a job from its start, be it approved or not."""
        if job.status == "pending":
            return self.notice
        return DRAINED if job.status == "approved" and self.site.drained.exists() else None


def _may_read(permissions: SyftPermContext, researcher: str, relative: Path) -> bool:
    # PySyft lets a sender read all of his job's folder; what the job printed is its owner's alone.
    if relative.match("app_data/job/review/*/*/*/std*.txt"):
        return False
    return bool(permissions.open(relative).has_read_access(researcher))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep PySyft's notebook messages out of the journal and the terminal."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def software() -> dict[str, Any]:
    """Return what this machine is: system, kernel, Python and every installed package."""
    packages = dict(map(_package, importlib.metadata.distributions()))
    try:
        system = platform.freedesktop_os_release().get("PRETTY_NAME", "unknown")
    except OSError:
        system = "unknown"
    return {
        "os": system,
        "kernel": platform.release(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "packages": dict(sorted(packages.items())),
    }


def _package(package: importlib.metadata.Distribution) -> tuple[str, dict[str, str]]:
    # `package.name` would parse all of METADATA, and that costs a quarter of a pass.
    text = package.read_text("METADATA") or package.read_text("PKG-INFO") or ""
    fields = dict(reversed(FIELD.findall(text)))
    # The hash of RECORD stands for every file of the package, whose hashes it lists.
    record = hashlib.sha256((package.read_text("RECORD") or "").encode()).hexdigest()
    return fields.get("Name", ""), {"version": fields.get("Version", ""), "record_sha256": record}


def main() -> int:
    """Do one pass over the datasite of the system, or below `--root`."""
    root = sys.argv[2] if sys.argv[1:2] == ["--root"] else None
    os.umask(0o027)
    Datasite(Site.at(root)).step()
    return 0
