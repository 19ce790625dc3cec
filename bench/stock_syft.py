"""The rival of `bench.governance`: stock `syft` and `syft-rds` with their sync engine, unchanged.

Three processes: the bench is the researcher, `python -m bench.stock_syft` the data owner, and a
third is the drive between them, the mock that syft ships. All else is in the rival's favour:
requests to the drive pass through a Unix socket where Google's take a network; the owner approves
the moment he sees a job, and syncs twice for it where the accessors of his client would five times;
`run.sh` starts the code where the stock one would first install an environment.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import subprocess
import sys
import tempfile
import threading
import time
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
RUN = "#!/bin/bash\nset -euo pipefail\ncd code\nexec {python} main.py\n"


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
            return lambda fileId: MockGetMediaRequest(self._drive, self._user, fileId)  # noqa: N803
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
