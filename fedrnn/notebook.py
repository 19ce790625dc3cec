"""`fedrnn.connect()`: every node's PySyft data sets and jobs, for a notebook or a script."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from fedrnn.cluster import ssh_links
from fedrnn.datasite.layout import FINAL
from fedrnn.datasite.researcher import NodeClient
from fedrnn.inventory import DEFAULT, read_inventory
from fedrnn.transport.grid import Loop


class NotebookNode:
    """One node: look at its mock, submit code, read the results; PySyft's own objects."""

    def __init__(self, client: NodeClient, loop: Loop) -> None:
        self.client, self._loop = client, loop
        self.job_client = client.job_client
        self.dataset_manager = client.dataset_manager

    @property
    def datasets(self) -> list[Any]:
        """PySyft's data sets of this node's owner; only their `mock_files` are here."""
        self._loop.run(self.client.pull())
        return self.client.datasets()

    @property
    def jobs(self) -> list[Any]:
        """PySyft's jobs sent to this node, the newest first."""
        self._loop.run(self.client.pull())
        return self.client.jobs()

    def submit_python_job(self, code_path: str | Path, job_name: str) -> None:
        """Submit a file or a folder; the owner decides. Raises LinkError when it is refused."""
        self._loop.run(self.client.describe())  # refuses another node than the one that is meant
        self._loop.run(self.client.submit(Path(code_path), job_name))

    def status(self, job_name: str) -> dict[str, Any]:
        """Return the state that the node tells of a job."""
        return self._loop.run(self.client.status(job_name))

    def wait(self, job_name: str, seconds: float = 60.0) -> Any:
        """Wait until a job has ended and return it with its outputs.

        Raises TimeoutError, and LookupError for a job that was submitted from another `box`.
        """
        until = time.monotonic() + seconds
        while (state := self.status(job_name))["status"] not in FINAL:
            if time.monotonic() > until:
                raise TimeoutError(f"job {job_name!r} is {state['status']} after {seconds:.0f} s")
            time.sleep(0.3)
        for job in self.jobs:
            if job.name == job_name:
                return job
        raise LookupError(
            f"job {job_name!r} is {state['status']}, and this box has not submitted it: connect "
            "with the `box` from which it was"
        )


class Session(Mapping[str, NotebookNode]):
    """The nodes by name. Use as a context manager, or `close` it."""

    def __init__(self, inventory: Path, box: Path) -> None:
        found = read_inventory(inventory)
        self._loop = Loop()
        self._links = ssh_links(found, found.nodes)
        self._nodes = {
            name: NotebookNode(NodeClient(link, found.researcher, owner, box), self._loop)
            for name, (link, owner) in self._links.items()
        }

    def __getitem__(self, name: str) -> NotebookNode:
        return self._nodes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connections."""
        for link, _ in self._links.values():
            self._loop.run(link.close())
        self._loop.close()


def connect(inventory: str | Path = DEFAULT, box: str | Path = "SyftBox") -> Session:
    """Return the nodes of an inventory; `box` is the folder that mirrors what they share."""
    return Session(Path(inventory), Path(box))
