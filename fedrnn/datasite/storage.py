"""PySyft's job storage for a machine that loses its power: written whole, read past damage."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from syft_job import JobState, JobStatus, SyftJobConfig
from syft_job.job_storage import JobRef, JobStateNotFoundError, JobStorage

from fedrnn.datasite.layout import job_key
from fedrnn.datasite.policy import DecisionLog

ENDED = (JobStatus.DONE, JobStatus.FAILED, JobStatus.REJECTED)


class Storage(JobStorage):  # type: ignore[misc]  # syft_job ships no types
    """As PySyft's; a file of its is replaced whole, and a state that is torn is remembered."""

    def __init__(self, config: SyftJobConfig, log: DecisionLog) -> None:
        super().__init__(config)
        self.log = log

    def _write(self, codec: Any, path: Path, obj: Any, ref: JobRef, reader_email: str) -> Path:
        fresh = path.with_name(f".{path.name}.new")
        super()._write(codec, fresh, obj, ref, reader_email)
        replace(fresh, path)
        return path

    def read_state(self, ref: JobRef) -> JobState:
        """Return the state of a job; what cannot be read is worked out from the decision log."""
        try:
            return super().read_state(ref)
        except JobStateNotFoundError:
            raise
        except Exception:  # whatever a card makes of YAML
            state = self._remembered(ref)
            self.write_state(ref, state)
            return state

    def _remembered(self, ref: JobRef) -> JobState:
        """Tell a state by the job's last entry; where nothing was decided, the owner decides."""
        entry = self.log.last(job_key(ref.ds_email, ref.job_name)) or {"event": ""}
        status = {
            "start": JobStatus.RUNNING,  # if it does not run any more, the pass notices
            "end": JobStatus.DONE if entry.get("result") == 0 else JobStatus.FAILED,
            "cancel": JobStatus.FAILED,
            "refuse": JobStatus.FAILED,
            "deny": JobStatus.REJECTED,
        }.get(entry["event"], JobStatus.PENDING)
        state = JobState(status=status, review_reason=entry.get("reason"))
        if status in ENDED:
            state.return_code = entry.get("result", -1)
        return state


def replace(fresh: Path, target: Path) -> None:
    """Put a file that is written in the place of another, so that a power cut leaves one of both.

    Raises OSError.
    """
    sync(fresh)
    fresh.replace(target)
    sync(target.parent)


def sync(path: Path) -> None:
    """Have the disk hold what a file or folder holds. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
