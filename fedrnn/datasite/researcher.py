"""The researcher's hands: PySyft's job and data-set objects over the links to the nodes."""

from __future__ import annotations

import contextlib
import io
import shutil
import tarfile
import warnings
from pathlib import Path
from typing import Any, Protocol

from syft_datasets.dataset_manager import SyftDatasetManager
from syft_job import JobClient, JobInfo, SyftJobConfig

from fedrnn.datasite.answers import description, identity, state, unpack
from fedrnn.datasite.job_code import RUN
from fedrnn.datasite.layout import MAX_BYTES


class Gate(Protocol):
    """What is needed of a link: one verb and its output, and whether it leads to the right node."""

    async def call(self, command: str, data: bytes = b"") -> bytes:
        """Run one verb to its end and return its output."""

    def verify(self, identity: str | None) -> None:
        """Raise LinkError if the node that shows this identity is not the one that is meant."""


class NodeClient:
    """One node as a researcher sees it: PySyft's folder of it, mirrored here.

    `box` is the SyftBox of the researcher; the mirror never leaves the owner's part of it.
    """

    def __init__(self, gate: Gate, researcher: str, owner: str, box: Path) -> None:
        box.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.gate, self.owner, self.box, self.researcher = gate, owner, box, researcher
        with _quiet():
            config = SyftJobConfig(syftbox_folder=box, current_user_email=researcher)
            self.job_client = JobClient(config, owner)
            self.dataset_manager = SyftDatasetManager(box, researcher)

    async def describe(self) -> dict[str, Any]:
        """Return the node's data set in counts, its mock sample, and what the node runs."""
        told = await self.gate.call("describe")
        self.gate.verify(identity(told, self.owner))
        return description(told, self.owner)

    async def submit(self, code: Path, name: str, entrypoint: str | None = None) -> Path:
        """Submit a file or a folder of Python as a PySyft job; return its folder here."""
        with _quiet():
            job: Path = self.job_client.submit_python_job(
                self.owner, str(code), job_name=name, entrypoint=entrypoint
            )
            started = self.job_client.manager.new_submission_ref(self.owner, name)
            metadata = self.job_client.manager.read_submission(started)
        (job / "run.sh").write_text(RUN.format(entrypoint=metadata.entrypoint))
        try:
            await self.gate.call(f"submit {name}", pack(job))
        except Exception:  # whatever went wrong, the name stays free for another try
            shutil.rmtree(job)
            raise
        return job

    async def status(self, name: str) -> dict[str, Any]:
        """Return the state of a job: `status`, `reason`, `sha256`, `worker`, …"""
        return state(await self.gate.call(f"status {name}"), self.owner, name)

    async def cancel(self, name: str) -> None:
        """Ask for the end of a job, whether it waits or runs; its state tells when it is done."""
        await self.gate.call(f"cancel {name}")

    async def pull(self) -> None:
        """Bring what the owner shares into the mirror: mocks, and of my jobs here the outputs."""
        for name in ("", *(job.name for job in self.jobs())):
            packed = await self.gate.call(f"results {name}".strip())
            unpack(packed, self.box, self.owner, self.researcher, name)

    def datasets(self) -> list[Any]:
        """Return PySyft's objects of this owner's data sets, as pulled."""
        return list(self.dataset_manager.get_all(self.owner))

    def jobs(self) -> list[JobInfo]:
        """Return PySyft's objects of the jobs sent to this owner, as pulled."""
        with _quiet():
            return [j for j in self.job_client.jobs if j.datasite_owner_email == self.owner]


def pack(job: Path) -> bytes:
    """Return a job folder as the tar stream that the gate takes: plain files in order.

    Raises ValueError, naming the largest file, for more than a job may have.
    """
    files = [p for p in job.rglob("*") if p.is_file()]
    if sum(p.stat().st_size for p in files) > MAX_BYTES:
        largest = max(files, key=lambda p: p.stat().st_size)
        raise ValueError(
            f"a job is source code of at most {MAX_BYTES >> 20} MiB, and {largest} has "
            f"{largest.stat().st_size / (1 << 20):.1f} MiB: leave data out"
        )
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for path in sorted(files):
            entry = tarfile.TarInfo(path.relative_to(job).as_posix())
            entry.size = path.stat().st_size
            with path.open("rb") as content:
                tar.addfile(entry, content)
    return stream.getvalue()


@contextlib.contextmanager
def _quiet() -> Any:
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PySyft advises to install from the internet
        yield
