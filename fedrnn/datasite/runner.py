"""PySyft's job runner, made to hand an approved job to its own unit and account, and to return.

The stock runner keeps the job as a child, with the owner's whole environment, inside the inbox.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Protocol

from syft_job import JobStatus, SyftJobConfig, SyftJobRunner
from syft_job.job_storage import JobRef

from fedrnn.datasite import failure
from fedrnn.datasite.layout import DATASET, DESCRIPTION, Site, dataset_folder, job_key
from fedrnn.datasite.mailbox import copy_plain, discard
from fedrnn.datasite.policy import fingerprint, manifest
from fedrnn.datasite.storage import Storage

MAX_OUTPUT = 64 << 20
MAX_OUTPUTS = 10_000  # files and folders
MAX_LOG = 1 << 20  # the end of what a job has said, kept for its owner


class Launcher(Protocol):
    """Starts the staged job of a key, stops it, and tells which jobs run."""

    def start(self, key: str, staged: Path) -> None:
        """Start the job, return at once."""

    def stop(self, key: str) -> None:
        """End the job with all its processes; return when it has ended."""

    def alive(self) -> set[str]:
        """Return the keys of the jobs that run."""


class SystemdLauncher:
    """On a node: the template unit `fedrnn-job@`, started through a socket of root's.

    The datasite itself may start nothing; the service behind the socket starts that one unit.
    """

    def __init__(self, site: Site) -> None:
        self.socket = site.run / "launch"

    def start(self, key: str, staged: Path) -> None:
        """Have the unit started."""
        self._ask("start", key)

    def stop(self, key: str) -> None:
        """Have the unit stopped."""
        self._ask("stop", key)

    def _ask(self, verb: str, key: str) -> None:
        """Name verb and key to the launch service and wait for its word."""
        with socket.socket(socket.AF_UNIX) as launch:
            launch.connect(os.fspath(self.socket))
            launch.sendall(f"{verb} {key}\n".encode())
            if launch.makefile().read().strip() != "done":
                raise OSError(f"systemd did not {verb} fedrnn-job@{key}: see its journal")

    def alive(self) -> set[str]:
        """Ask systemd for the units that are not quite gone."""
        asked = subprocess.run(
            ["systemctl", "list-units", "--plain", "--no-legend", "--full", "fedrnn-job@*.service"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        units = [line.split()[0] for line in asked.stdout.splitlines()]
        return {unit.removeprefix("fedrnn-job@").removesuffix(".service") for unit in units}


class ProcessLauncher:
    """For `--local`: a detached process of the same account."""

    def __init__(self, site: Site) -> None:
        self.site = site

    def start(self, key: str, staged: Path) -> None:
        """Start run.sh; when it ends, the datasite is told as systemd would tell it."""
        environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        for line in (staged / "environment").read_text().splitlines():
            name, _, value = line.partition("=")
            environment[name] = value
        self.site.socket(key).parent.mkdir(parents=True, exist_ok=True)
        after = (
            'bash run.sh; echo "- exited $?" > "$4"; mv "$4" "$0"; '
            'cd "$3"; exec "$1" -m fedrnn.datasite --root "$2"'
        )
        root, source = self.site.var.parent, Path(__file__).parents[2]
        ended, half = self.site.due / key, self.site.due / f".{key}"
        with (staged / "stdout.txt").open("wb") as out, (staged / "stderr.txt").open("wb") as err:
            job = subprocess.Popen(
                ["sh", "-c", after, ended, sys.executable, root, source, half],
                cwd=staged,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        (staged / "pid").write_text(str(job.pid))

    def stop(self, key: str) -> None:
        """Kill the process and all that it has started, the datasite's pass included."""
        with contextlib.suppress(OSError, ValueError):
            os.killpg(int((self.site.jobs / key / "pid").read_text()), signal.SIGKILL)

    def alive(self) -> set[str]:
        """Look for the processes."""
        return {file.parent.name for file in self.site.jobs.glob("*/pid") if _runs(file)}


def _runs(pid: Path) -> bool:
    try:
        os.kill(int(pid.read_text()), 0)
    except (OSError, ValueError):
        return False
    return True


class Runner(SyftJobRunner):  # type: ignore[misc]  # syft_job ships no types
    """Runs approved jobs out of the datasite's reach: staged, started, later finished."""

    def __init__(
        self, site: Site, config: SyftJobConfig, storage: Storage, launcher: Launcher
    ) -> None:
        super().__init__(config)
        self.site, self.launcher, self.log = site, launcher, storage.log
        self.manager = storage

    def _get_jobs_in_approved(self) -> list[JobRef]:
        """Return the job that is to start now: the first approved one, when no other runs.

        One at a time: a Pi has memory for one, and two runs never take each other's nodes. None
        while the node is drained, be it a pass or the owner's own word that would start it.
        """
        approved: list[JobRef] = super()._get_jobs_in_approved()
        if self.running() or self.site.drained.exists():
            return []
        return sorted(approved, key=lambda ref: self.manager.read_state(ref).approved_at)[:1]

    def start_next(self) -> None:
        """Let PySyft's runner start the job whose turn it is; the next one, when that one fails."""
        tried: set[JobRef] = set()
        while (due := self._get_jobs_in_approved()) and not tried.issuperset(due):
            tried.update(due)
            self.process_approved_jobs(stream_output=False)

    def _execute_job(
        self, ref: JobRef, stream_output: bool = True, timeout: int | None = None
    ) -> bool:
        key = job_key(ref.ds_email, ref.job_name)
        try:
            approved = self.log.approved_fingerprint(key) or ""
            self._require_data()
            self._prepare_outputs_dir(ref)
            staged = self._stage(ref, key, approved)
            self._set_status(ref, JobStatus.RUNNING)
            self.log.add("start", key, approved)
            self.launcher.start(key, staged)
        except Exception as error:  # one job never keeps another from its start
            self.fail(ref, str(error))
            return False
        return True

    def _require_data(self) -> None:
        """Raise ValueError when the data set that this node has described is gone."""
        data = dataset_folder(self.site, self.config.current_user_email)
        if (self.site.syftbox / DESCRIPTION).is_file() and not any(data.glob("*.txt")):
            raise ValueError(
                f"the data set {DATASET!r} has vanished from this node: its operator can bring it "
                "back with ansible-playbook -i INVENTORY site.yml --tags dataset"
            )

    def _set_status(self, ref: JobRef, status: JobStatus) -> None:
        state = self.manager.read_state(ref)
        state.status = status
        self.manager.write_state(ref, state)

    def _share_job_results(self, ref: JobRef, share_outputs: bool, share_logs: bool) -> None:
        """Share nothing yet: the job has only started. `finish` shares."""

    def _stage(self, ref: JobRef, key: str, approved: str) -> Path:
        """Copy the approved code to where the job's account reads it, and nothing else.

        Raises ValueError when the files are not those of the fingerprint `approved`.

        The modes come from the umask, the group from the folder above: the datasite's sandbox
        may not set a group bit.
        """
        staged = self.site.jobs / key
        discard(staged, self.site.jobs)
        copy_plain(self.manager.submission_dir(ref), staged)
        (staged / "config.yaml").unlink(missing_ok=True)  # not part of what is approved
        found = fingerprint(manifest(staged))
        if found != approved:
            raise ValueError(f"these files ({found}) are not the approved ones ({approved})")
        (staged / "environment").write_text(self._environment(key))
        for name in ("stdout.txt", "stderr.txt"):
            (staged / name).touch()
        outputs = staged / "code" / "outputs"
        shutil.rmtree(outputs, ignore_errors=True)
        before = os.umask(0o007)  # the one folder that the job writes to
        try:
            outputs.mkdir()
        finally:
            os.umask(before)
        return staged

    def _environment(self, key: str) -> str:
        """Give the job PySyft's variables and ours, and nothing of the datasite's own."""
        owner = self.config.current_user_email
        variables = {
            "FEDRNN_DATA": dataset_folder(self.site, owner),
            "FEDRNN_DATA_SEED": self.site.config().get("data_seed", 0),
            "FEDRNN_IDLE_SECONDS": self.site.config()["idle_seconds"],
            "FEDRNN_SOCKET": self.site.socket(key),
            "SYFTBOX_FOLDER": self.site.syftbox,
            "SYFTBOX_EMAIL": owner,
            "SYFT_IS_IN_JOB": "true",
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
        }
        return "".join(f"{name}={value}\n" for name, value in variables.items())

    def finish(self, ref: JobRef, return_code: int, reason: str | None = None) -> None:
        """Record how a job ended, take over its outputs and share them with its sender.

        What it printed stays with the owner: an exception's text can hold a row.
        """
        key = job_key(ref.ds_email, ref.job_name)
        staged, review = self.site.jobs / key, self.manager.review_dir(ref)
        if staged.is_dir():
            outputs = review / "outputs"
            discard(outputs, self.site.jobs)
            try:
                copy_plain(staged / "code" / "outputs", outputs, MAX_OUTPUT, MAX_OUTPUTS)
            except (OSError, ValueError) as error:
                outputs.mkdir(exist_ok=True)
                (outputs / "refused.txt").write_text(f"The outputs were not taken over: {error}\n")
            for name in ("stdout.txt", "stderr.txt"):
                _copy_end(staged / name, review / name)
        (review / "returncode.txt").write_text(str(return_code))
        if return_code != 0 and reason is None:
            files = manifest(self.manager.submission_dir(ref))
            told = failure.where(review / "stderr.txt", files)
            reason = told or f"it ended with the exit code {return_code}"
        super()._share_job_results(ref, share_outputs=True, share_logs=False)
        self.log.add(
            "end", key, self.log.approved_fingerprint(key) or "", result=return_code,
            **({"reason": reason} if reason else {}),
        )  # fmt: skip
        self._finalise(ref, return_code, reason)
        discard(staged, self.site.jobs)

    def settle(self) -> None:
        """Bring states and processes to agree: finish what has ended, end what should not run.

        Whatever a crash or a power cut has left is one of the two.
        """
        running = {job_key(ref.ds_email, ref.job_name): ref for ref in self.running()}
        alive = self.launcher.alive()
        for key, ref in running.items():
            note = self.site.due / key
            # The note is written before the unit is gone: look for it last.
            if note.is_file() or key not in alive:
                try:
                    self.finish(ref, *_ending(note))
                except Exception as error:  # one job never keeps another from its end
                    self.fail(ref, f"its end could not be recorded: {error}")
        for orphan in alive - running.keys():
            with contextlib.suppress(OSError):
                self.launcher.stop(orphan)
        for note in self.site.due.glob("[!.]*"):  # one with a dot is still being written
            if note.name not in {job_key(r.ds_email, r.job_name) for r in self.running()}:
                note.unlink()
        for staged in self.site.jobs.iterdir():
            if staged.name not in running:
                discard(staged, self.site.var)

    def end(self, ref: JobRef, reason: str) -> None:
        """End a job that is approved or runs; its outputs so far are shared with its sender."""
        key = job_key(ref.ds_email, ref.job_name)
        self.launcher.stop(key)
        self.finish(ref, -1, reason)
        (self.site.due / key).unlink(missing_ok=True)

    def running(self) -> list[JobRef]:
        """Return the jobs whose state says that they run."""
        refs: list[JobRef] = self._get_jobs_with_status(JobStatus.RUNNING)
        return refs

    def fail(self, ref: JobRef, reason: str) -> None:
        """Record that a job did not come to run, or to its end, and why."""
        key = job_key(ref.ds_email, ref.job_name)
        self.log.add("refuse", key, self.log.approved_fingerprint(key) or "", reason=reason)
        self._finalise(ref, -1, reason)

    def _finalise(self, ref: JobRef, return_code: int, reason: str | None) -> None:
        if reason:
            state = self.manager.read_state(ref)
            state.review_reason = reason
            self.manager.write_state(ref, state)
        self._set_finalized_job_state(ref, return_code)


def _ending(note: Path) -> tuple[int, str | None]:
    """Read `RESULT exited CODE` or `RESULT killed SIGNAL` as systemd words it: code and reason."""
    try:
        result, ended, code = note.read_text().split()
    except (OSError, ValueError):
        return -1, failure.WITHOUT_A_WORD
    if ended == "exited" and code.isdigit():
        return int(code), failure.how(result)
    return -1, failure.how(result) or f"it was ended by the signal {code}"


def _copy_end(source: Path, target: Path) -> None:
    """Copy the end of a log, as much as is kept."""
    with contextlib.suppress(FileNotFoundError), source.open("rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - MAX_LOG))
        target.write_bytes(log.read())
