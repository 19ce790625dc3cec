"""The rival of `bench.governance`: stock `syft` and `syft-rds` with their sync engine, unchanged.

Three processes: the bench is the researcher, `python -m bench.stock_syft` the data owner, and a
third is the drive between them, the mock that syft ships. All else is in the rival's favour:
requests to the drive pass through a Unix socket where Google's take a network; the owner is woken
the moment a job is on the drive, where he would poll, approves it unread, and syncs twice for it
where the accessors of his client would five times; the researcher is told when to fetch the result;
`run.sh` starts the code where the stock one would first install an environment; nobody shields the
job from its owner's processes and files. What grows with the number of jobs is the owner's sync: it
reads all of the datasite's permission files anew for each file that a job has left.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing.managers import BaseManager
from pathlib import Path
from typing import Any

from googleapiclient.http import MediaIoBaseUpload
from syft.sync.connections.drive.gdrive_transport import GDriveConnection
from syft.sync.connections.drive.mock_drive_service import (
    MockDriveBackingStore,
    MockDriveFile,
    MockDriveService,
    MockGetMediaRequest,
)
from syft_rds import SyftRDSClient
from syft_rds.config import SyftRDSClientConfig

OWNER, RESEARCHER = "owner@lab.local", "researcher@lab.local"
RUN = """#!/bin/bash
set -euo pipefail
export FEDRNN_DATA='{data}' FEDRNN_SOCKET='{socket}' FEDRNN_IDLE_SECONDS=2
export FEDRNN_DATA_SEED=0 OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1
cd code
exec {python} main.py
"""


class Drive:
    """The mock's files, and requests to them, one at a time."""

    def __init__(self) -> None:
        self._files, self._lock = MockDriveBackingStore(), threading.Lock()

    def get_file(self, file_id: str) -> MockDriveFile | None:
        """Return a file with its content, for a download."""
        return self._files.get_file(file_id)

    def execute(self, user: str, call: str, media: bytes | None, more: dict[str, Any]) -> Any:
        """Execute a request such as `files.list` in a user's name."""
        if media is not None:
            more["media_body"] = MediaIoBaseUpload(io.BytesIO(media), "application/octet-stream")
        resource, verb = call.split(".")
        with self._lock:
            asked = getattr(MockDriveService(self._files, user), resource)()
            return getattr(asked, verb)(**more).execute()


class DriveProcess(BaseManager):
    """The process that holds the drive."""


DriveProcess.register("drive", functools.cache(Drive), exposed=("execute", "get_file"))


class Request:
    """A request that is executed where the drive is."""

    def __init__(self, drive: Any, user: str, call: str, more: dict[str, Any]) -> None:
        self._drive, self._user, self._call, self._more = drive, user, call, more

    def execute(self) -> Any:
        """Ask the drive."""
        more = dict(self._more)
        media = more.pop("media_body", None)
        data = media and media.getbytes(0, media.size())
        return self._drive.execute(self._user, self._call, data, more)


class Resource:
    """What `files()` and `permissions()` of Google's client return."""

    def __init__(self, drive: Any, user: str, name: str) -> None:
        self._drive, self._user, self._name = drive, user, name

    def __getattr__(self, verb: str) -> Any:
        if verb == "get_media":
            return lambda fileId: MockGetMediaRequest(self._drive, self._user, fileId)
        return lambda **more: Request(self._drive, self._user, f"{self._name}.{verb}", more)


class Service(MockDriveService):
    """The mock's client of the drive, from another process."""

    def __init__(self, drive: Any, user: str) -> None:
        super().__init__(drive, user)
        self._files_resource = Resource(drive, user, "files")
        self._permissions_resource = Resource(drive, user, "permissions")


class Connection(GDriveConnection):
    """syft's connection to Google Drive, whose copies reach the same drive."""

    def copy(self) -> Connection:
        """Return a twin for a thread of its own, as syft does for the real drive."""
        twin = connect(self.drive_service, warm=False)
        self._copy_caches_to(twin)
        return twin


def connect(service: Service, warm: bool = True) -> Connection:
    """Return a connection over a client of the drive."""
    connection = Connection(email=service._current_user)
    connection.setup(drive_service=service, warm_syftbox_folder_id_cache=warm)
    return connection


def client(address: str, email: str, box: Path) -> SyftRDSClient:
    """Log in as `pair_with_mock_drive_service_connection(use_in_memory_cache=False)` does."""
    os.environ["PRE_SYNC"] = "false"
    process = DriveProcess(address, authkey=b"")
    process.connect()
    is_owner = email == OWNER
    config = SyftRDSClientConfig._base_config_for_testing(
        email, box, has_do_role=is_owner, has_ds_role=not is_owner, use_in_memory_cache=False
    )
    made = SyftRDSClient.from_config(config)
    made.sync_engine._add_connection(connect(Service(process.drive(), email)))
    made.sync_engine.peer_manager.write_own_version()
    return made


class StockSyft:
    """Both sides and the drive, as a context manager; the researcher is here."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder, self.data, self.pid = folder, data, 0
        self._drive = DriveProcess(str(folder / "drive"), authkey=b"")

    def __enter__(self) -> StockSyft:
        self._drive.start()
        owner = [sys.executable, "-m", "bench.stock_syft", self.folder, self.data]
        self._owner = subprocess.Popen(
            owner, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pid = self._owner.pid
        self.tell("log in")
        with quiet():
            self.client = client(str(self.folder / "drive"), RESEARCHER, self.folder / RESEARCHER)
            self.client.sync_engine.add_peer(OWNER, sync=False)
            self.tell("approve the researcher")
            self.client.sync_engine.load_peers()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._owner.stdin is not None
        self._owner.stdin.close()
        self._owner.wait(60)
        self._drive.shutdown()

    def tell(self, word: str) -> dict[str, float]:
        """Have the owner do something; return `seconds` and `cpu` that it took him."""
        self._say(word)
        return self._hear()

    def _say(self, word: str) -> None:
        assert self._owner.stdin is not None
        self._owner.stdin.write(word + "\n")
        self._owner.stdin.flush()

    def _hear(self) -> dict[str, float]:
        assert self._owner.stdout is not None
        return dict(json.loads(self._owner.stdout.readline()))

    def _submit(self, name: str, code: Path) -> None:
        job = self.client.job_client.submit_python_job(
            OWNER, str(code), job_name=name, entrypoint="main.py"
        )
        socket = self.folder / "socket"
        run = RUN.format(python=sys.executable, data=self.data, socket=socket)
        (job / "run.sh").write_text(run)
        self.client.sync_engine.push_job_files(job)

    def job(self, name: str, code: Path) -> tuple[float, dict[str, float]]:
        """Return the seconds from submission to result, and what the owner's pass took."""
        started = time.perf_counter()
        with quiet():
            self._submit(name, code)
            took = self.tell("pass")
            self.client.sync()
        seconds = time.perf_counter() - started
        review = self.folder / RESEARCHER / OWNER / "app_data" / "job" / "review"
        if not list(review.glob(f"*/*/{name}/outputs/counts.json")):
            sys.exit(f"stock syft: the result of {name} has not come")
        return seconds, took

    def socket(self, name: str, code: Path) -> float:
        """Return the seconds from submission to the socket of a worker; see it end."""
        started = time.perf_counter()
        with quiet():
            self._submit(name, code)
        self._say("pass")
        while not (self.folder / "socket").is_socket():
            if time.perf_counter() - started > 60:
                sys.exit("stock syft: the worker's socket has not come")
            time.sleep(0.01)
        seconds = time.perf_counter() - started
        self._hear()
        (self.folder / "socket").unlink(missing_ok=True)
        return seconds


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what syft tells a notebook out of the way."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def one_pass(owner: SyftRDSClient) -> None:
    """Take in what has come, approve and run it, send back what came of it."""
    owner.sync()
    for job in owner.job_client.jobs:
        if job.status == "pending":
            job.approve()
    owner.process_approved_jobs(stream_output=False, share_outputs_with_submitter=True)
    owner.sync()


def main() -> int:
    """Be the data owner: do what is said on stdin, tell on stdout what it took."""
    folder, data = map(Path, sys.argv[1:])
    owner: Any = None
    for word in map(str.strip, sys.stdin):
        started, cpu = time.perf_counter(), time.process_time()
        with quiet():
            if word == "log in":
                owner = client(str(folder / "drive"), OWNER, folder / OWNER)
                mock = folder / "mock.txt"
                mock.write_text("a made-up name\n")
                owner.create_dataset(name="names", mock_path=mock, private_path=data, sync=False)
            elif word == "approve the researcher":
                owner.sync_engine.load_peers()
                owner.sync_engine.approve_peer_request(RESEARCHER)
            else:
                one_pass(owner)
        took = {"seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu}
        print(json.dumps(took), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
