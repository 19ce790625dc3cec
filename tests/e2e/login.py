"""A researcher without our client: his key, one SSH connection to `fedrnn`, and tar streams."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import asyncssh
from cluster import INVENTORY, RESEARCHER, Lab

from fedrnn.datasite.layout import FINAL
from tests.tars import job as tar

NODE = "pi1"
OWNER = f"{NODE}@lab.local"
KEY = INVENTORY / "keys" / "researcher"
AT_ONCE = 4  # sessions of one connection; sshd takes ten, and counts those that just end


class Answer(NamedTuple):
    """What a command came to: sshd's exit status, and both its outputs."""

    code: int | None
    out: bytes
    err: bytes

    @property
    def refused(self) -> bool:
        return self.code == 2 and self.out == b"" and self.err.startswith(b"refused: ")


class Login:
    """One connection; `email` is what the node's gate takes its key for."""

    def __init__(self, lab: Lab, key: Path = KEY, email: str = RESEARCHER) -> None:
        self.email, self._runner = email, asyncio.Runner()
        self.sent: set[str] = set()
        self.connection = self.run(
            asyncssh.connect(
                "127.0.0.1", lab.port(NODE), username="fedrnn", client_keys=[str(key)],
                known_hosts=str(INVENTORY / "known_hosts"), config=None, agent_path=None,
            )
        )  # fmt: skip

    def __enter__(self) -> Login:
        return self

    def __exit__(self, *_: object) -> None:
        """End what a test that failed has left waiting or running, and the connection."""
        for name in self.sent & {n for n, s in self.states().items() if s not in FINAL}:
            self.ask(f"cancel {name}")
        self.connection.close()
        self.run(self.connection.wait_closed())
        self._runner.close()

    def ask(self, command: str, data: bytes = b"") -> Answer:
        return self.ask_all([(command, data)])[0]

    def ask_all(self, questions: Iterable[tuple[str, bytes]]) -> list[Answer]:
        """Ask as many at once as one connection lets through."""
        return self.run(self._ask_all(list(questions)))

    async def _ask_all(self, questions: list[tuple[str, bytes]]) -> list[Answer]:
        free = asyncio.Semaphore(AT_ONCE)

        async def ask(command: str, data: bytes) -> Answer:
            async with free:
                process = await self.connection.create_process(command, encoding=None)
                with contextlib.suppress(BrokenPipeError):  # it has ended without reading
                    process.stdin.write(data)
                    process.stdin.write_eof()  # `communicate` leaves it out when nothing is sent
                out, err = await process.communicate()
            return Answer(process.exit_status, out, err)

        return await asyncio.gather(*(ask(*question) for question in questions))

    def run(self, work: Awaitable[Any]) -> Any:
        """Wait for something on this connection's loop."""

        async def wait() -> Any:
            return await work

        return self._runner.run(wait())

    def job(self, name: str, files: dict[str, bytes] | None = None, /, **config: str) -> bytes:
        """A job that this node takes; `files` and fields of its config.yaml may be others."""
        told = {
            "canonical_name": "JobSubmissionMetadata", "version": "1", "name": name,
            "type": "python", "submitted_by": self.email, "datasite_email": OWNER,
            "submitted_at": "2026-11-24T00:00:00+00:00", "entrypoint": "main.py",
            "files": ["main.py"], **config,
        }  # fmt: skip
        ordinary = {
            "config.yaml": json.dumps(told).encode(),  # JSON is YAML, too
            "run.sh": b"cd code; exec python main.py\n",
            "code/main.py": b"print('ran')\n",
        }
        return tar({**ordinary, **(files or {})})

    def submit(self, name: str, files: dict[str, bytes] | None = None, /, **config: str) -> None:
        self.sent.add(name)
        sent = self.ask(f"submit {name}", self.job(name, files, **config))
        assert sent.code == 0, sent

    def state(self, name: str) -> dict[str, Any]:
        answer = self.ask(f"status {name}")
        assert answer.code == 0, answer
        return json.loads(answer.out)

    def states(self) -> dict[str, str]:
        """The status of every job that was not forgotten, by name."""
        return {s["job"]: s["status"] for s in json.loads(self.ask("status").out)}

    def wait(self, names: Iterable[str], *statuses: str, seconds: float = 30) -> None:
        """Wait until all of these jobs have one of these statuses."""
        names, until = list(names), time.monotonic() + seconds
        while not {(seen := self.states()).get(n) for n in names} <= set(statuses):
            assert time.monotonic() < until, {n: seen.get(n) for n in names}
            time.sleep(0.2)


class Journal:
    """What the node's journal is told from now on."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.begin = lab.ssh(NODE, "date +%s.%6N").stdout.strip()

    def read(self, match: str = "-t fedrnn-gate") -> str:
        asked = f"sudo journalctl --sync; sudo journalctl -q -o cat --since=@{self.begin} {match}"
        return self.lab.ssh(NODE, asked).stdout


def unique(kind: str) -> str:
    """A job name that was never used."""
    return f"{kind}-{time.time_ns():x}"
