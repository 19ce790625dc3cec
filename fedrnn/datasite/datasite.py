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
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from syft_job import JobClient, JobInfo, SyftJobConfig
from syft_perms import SyftPermContext

from fedrnn.datasite.layout import CANCEL, DESCRIPTION, FINAL, Site, job_key
from fedrnn.datasite.mailbox import contents, receive, remove
from fedrnn.datasite.policy import DecisionLog, fingerprint, is_allowed, manifest
from fedrnn.datasite.publish import mirror, place, publish_refusals, publish_states
from fedrnn.datasite.runner import Launcher, ProcessLauncher, Runner, SystemdLauncher

CANCELLED = "cancelled by its sender"
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
        with quiet():
            self._config = SyftJobConfig(
                syftbox_folder=site.syftbox, current_user_email=self.owner, has_do_role=True
            )
            self.client = JobClient.from_config(self._config)
            self.runner = Runner(site, self._config, LAUNCHERS[config["launcher"]](site))
            for researcher in self.researchers:
                self.client.setup_ds_job_folder_as_do(researcher)

    def jobs(self) -> list[JobInfo]:
        """Return all jobs, the newest first."""
        with quiet():
            return list(self.client.jobs)

    def job(self, name: str) -> JobInfo:
        """Return the job of this name, or of `SENDER:NAME` where two senders chose the same.

        Raises LookupError with what there is.
        """
        found = [j for j in self.jobs() if name in (j.name, job_key(j.submitted_by, j.name))]
        if len(found) == 1:
            return found[0]
        known = ", ".join(job_key(j.submitted_by, j.name) for j in self.jobs()) or "none"
        raise LookupError(f"{len(found)} jobs are called {name!r}; this datasite has: {known}")

    def step(self) -> None:
        """Do everything that is due, once; a job that cannot be handled stops no other."""
        with self.alone():
            parcels, notes = contents(self.site)
            try:
                refused = receive(self.site, self._config, parcels)
                for name, reason in refused.items():
                    print(f"refused {name!r}: {reason}", flush=True)
                publish_refusals(self.site, self.researchers, refused)
                self.runner.finish_ended()
                for note in notes:
                    self._cancel(note.name.removesuffix(CANCEL))
                self._approve_allowed()
                self.start_approved()
                self.publish()
            finally:
                # Last, so that its sender finds a job in the mailbox or published, at any time.
                remove(self.site, [*parcels, *notes])

    def _approve_allowed(self) -> None:
        for job in self.jobs():
            if job.status != "pending":
                continue
            try:
                if is_allowed(self.site, job.job_submission_path):
                    self.approve(job, "every file is on the operator's allow-list", "auto")
            except Exception as error:
                with quiet():
                    job.reject(f"it cannot be checked: {error}")

    def _cancel(self, key: str) -> None:
        """End the job of this key as its sender wishes; one that has ended stays as it is."""
        for job in self.jobs():
            if job_key(job.submitted_by, job.name) == key:
                try:
                    if job.status == "pending":
                        self.deny(job, CANCELLED)
                    elif job.status not in FINAL:
                        with quiet():
                            self.runner.cancel(job._ref, CANCELLED)
                except Exception as error:
                    print(f"{key} cannot be cancelled: {error}", flush=True)

    def approve(self, job: JobInfo, reason: str, method: str = "manual") -> None:
        """Approve exactly the files that the job has now."""
        self._decide("approve", job, reason, method)
        with quiet():
            job.approve(reason, approval_method=method)

    def deny(self, job: JobInfo, reason: str) -> None:
        """Refuse a job; its sender reads the reason."""
        self._decide("deny", job, reason, "manual")
        with quiet():
            job.reject(reason)

    def _decide(self, event: str, job: JobInfo, reason: str, method: str) -> None:
        if job.status != "pending":
            raise ValueError(f"job {job.name!r} is {job.status}, there is nothing to decide")
        key, files = job_key(job.submitted_by, job.name), manifest(job.job_submission_path)
        self.log.add(event, key, fingerprint(files), reason=reason, method=method)

    def start_approved(self) -> None:
        """Let PySyft's runner start every approved job as its own unit."""
        with quiet():
            self.runner.process_approved_jobs(stream_output=False)

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
            mirror(
                home, folder / "SyftBox" / self.owner, partial(_may_read, permissions, researcher)
            )
            mine = {j.name: j for j in jobs if j.submitted_by == researcher}
            publish_states(folder / "jobs", mine, self.state)
            if described:
                place(json.dumps(described).encode(), folder / "describe.json")

    def described(self) -> dict[str, Any] | None:
        """Return the data set in counts and mock rows, and what this node runs; None without."""
        path = self.site.syftbox / DESCRIPTION
        if not path.is_file():
            return None
        return {**json.loads(path.read_text()), "owner": self.owner, "node": software()}

    def state(self, job: JobInfo) -> dict[str, Any]:
        """Return what a sender is told about a job, in plain values."""
        return {
            "job": job.name,
            "status": job.status,
            "reason": job.review_reason,
            "return_code": job._state.return_code,
            "sha256": fingerprint(manifest(job.job_submission_path)),
            "stderr": _tail(job.job_review_path / "stderr.txt"),
        }


def _may_read(permissions: SyftPermContext, researcher: str, relative: Path) -> bool:
    """Leave out what is nobody else's, whatever the permission files say."""
    inbox = relative.parts[:3] == ("app_data", "job", "inbox")
    private = relative.parts[0] == "private"
    if inbox or private:
        return False
    return bool(permissions.open(relative).has_read_access(researcher))


def _tail(path: Path, size: int = 2000) -> str:
    return path.read_text(errors="replace")[-size:] if path.is_file() else ""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep PySyft's notebook messages out of the journal and the terminal."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def software() -> dict[str, Any]:
    """Return what this machine is: system, kernel, Python and every installed package."""
    packages = {d.name: _version(d) for d in importlib.metadata.distributions()}
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


def _version(package: importlib.metadata.Distribution) -> dict[str, str]:
    # The hash of RECORD stands for every file of the package, whose hashes it lists.
    record = hashlib.sha256((package.read_text("RECORD") or "").encode()).hexdigest()
    return {"version": package.version, "record_sha256": record}


def main() -> int:
    """Do one pass over the datasite of the system, or below `--root`."""
    root = sys.argv[2] if sys.argv[1:2] == ["--root"] else None
    os.umask(0o027)
    Datasite(Site.at(root)).step()
    return 0
