"""A link to one node: its gate's verbs, over SSH or, for `--local`, as local processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import asyncssh

from fedrnn.printable import printable
from fedrnn.transport.wire import Reader, Writer

if TYPE_CHECKING:
    from fedrnn.pins import Pins

WINDOW = 4 << 20
PACKET = 1 << 18
CONNECT_SECONDS = 15.0
SILENT_SECONDS = 60.0
SLOWEST = 35_000  # bytes/s on the way to a node: 8 MiB take as long as the gate waits for them
MAX_COMPLAINT = 4_000  # characters
MAX_ANSWER = 257 << 20  # the outputs of a job are less


class LinkError(Exception):
    """A node cannot be reached or its gate refuses; the text names the node and the remedy.

    It is one line, whatever the node has said.
    """

    def __init__(self, text: str) -> None:
        super().__init__(printable(text, MAX_COMPLAINT))


@dataclass(frozen=True)
class Stream:
    """A verb that goes on: what it says, what it is told, and what it complains of."""

    reader: Reader
    writer: Writer
    errors: Reader

    async def complaint(self) -> str:
        """Return the gate's words on why the stream ended."""
        return _text(await self.errors.read(2000))


class Link(Protocol):
    """One node's gate."""

    name: str

    async def call(self, command: str, data: bytes = b"") -> bytes:
        """Run one verb to its end and return its output; raises LinkError."""

    async def open(self, command: str) -> Stream:
        """Start a verb that streams; raises LinkError."""

    def verify(self, identity: str | None) -> None:
        """Raise LinkError if the node that shows this identity is not the one that is meant."""

    async def close(self) -> None:
        """End the link."""


@dataclass(frozen=True)
class SSHAddress:
    """Where a node's SSH is, whose key opens it and which host keys are trusted.

    `jump` names hosts to go through, `user@host:port,…`: the user's own keys, known hosts and
    settings count for those.
    """

    host: str
    port: int
    key: Path
    known_hosts: Path
    user: str = "fedrnn"
    jump: str = ""

    @property
    def known_as(self) -> str:
        """How known_hosts calls the node, see sshd(8)."""
        return self.host if self.port == 22 else f"[{self.host}]:{self.port}"


class SSHLink:
    """One asyncssh connection, made when first needed and made anew when it is lost.

    `pins` tells which other node answers in the place of this one.
    """

    def __init__(self, name: str, address: SSHAddress, pins: Pins | None = None) -> None:
        self.name, self.address, self._pins = name, address, pins
        self._connection: asyncssh.SSHClientConnection | None = None
        self._lock = asyncio.Lock()

    async def call(self, command: str, data: bytes = b"") -> bytes:
        """Run one verb in a session of its own."""
        connection = await self._connect()
        patience = SILENT_SECONDS + len(data) / SLOWEST
        try:
            process = await connection.create_process(command, encoding=None)
            with contextlib.suppress(BrokenPipeError):  # it has answered already
                process.stdin.write(data)
                process.stdin.write_eof()
            output = await self._read(process.stdout, command, patience)
            errors = await self._read(process.stderr, command, patience)
            await process.wait_closed()
        except TimeoutError:
            self._close_now()
            raise LinkError(
                f"{self.name}: it said nothing for {patience:.0f} s after {command!r}"
            ) from None
        except (OSError, asyncssh.Error) as error:
            raise LinkError(f"{self.name}: the connection was lost: {error}") from None
        if process.exit_status != 0:
            raise LinkError(f"{self.name}: {_text(errors)}")
        return output

    async def _read(self, stream: Reader, command: str, patience: float) -> bytes:
        """Return what comes until the end, but no more than a node has reason to send.

        Raises TimeoutError when it pauses for longer than `patience` seconds.
        """
        parts, size = [], 0
        while part := await asyncio.wait_for(stream.read(PACKET), patience):
            size += len(part)
            if size > MAX_ANSWER:
                self._close_now()
                raise LinkError(
                    f"{self.name}: it sends more than {MAX_ANSWER >> 20} MiB after {command!r}"
                )
            parts.append(part)
        return b"".join(parts)

    def _close_now(self) -> None:
        if self._connection:
            self._connection.abort()

    async def open(self, command: str) -> Stream:
        """Start a verb in a session of its own; exec also spares sshd's 40 ms stall."""
        connection = await self._connect()
        try:
            process = await connection.create_process(
                command, encoding=None, window=WINDOW, max_pktsize=PACKET
            )
        except (OSError, asyncssh.Error) as error:
            raise LinkError(f"{self.name}: the connection was lost: {error}") from None
        return Stream(process.stdout, process.stdin, process.stderr)

    def verify(self, identity: str | None) -> None:
        """Compare with the identity that is pinned for this node."""
        if self._pins and (wrong := self._pins.of_identity(self.name, identity)):
            raise LinkError(f"{self.name} ({self.address.host}, port {self.address.port}) {wrong}")

    async def close(self) -> None:
        """Close the connection."""
        if self._connection:
            self._connection.close()
            await self._connection.wait_closed()

    async def _connect(self) -> asyncssh.SSHClientConnection:
        async with self._lock:
            if self._connection is None or self._connection.is_closed():
                self._connection = await self._dial()
            return self._connection

    async def _dial(self) -> asyncssh.SSHClientConnection:
        at = self.address
        way = f", by way of {at.jump}: does `ssh -J` reach it?" if at.jump else ""
        where = f"{self.name} ({at.host}, port {at.port}{way})"
        inventory = shlex.quote(str(at.known_hosts.parent))
        provision = f"ansible-playbook -i {inventory} site.yml"
        pins = os.fspath(at.known_hosts)
        if Path(f"{at.key}.pub").is_file() and not at.key.is_file():
            raise LinkError(
                f"{where}: there is no {at.key}, of which the nodes know the public part: copy it"
                " from the first controller, as docs/your-own-pis.md shows"
            )
        for file in (at.key, at.known_hosts):
            if not file.is_file():
                raise LinkError(f"{where}: there is no {file}: run `{provision}` first")
        try:
            known_hosts = asyncssh.read_known_hosts(pins)
        except (OSError, ValueError) as error:
            raise LinkError(
                f"{where}: {at.known_hosts} cannot be read: {error}. Mend or remove what is wrong "
                "there"
            ) from None
        try:
            return await asyncssh.connect(
                at.host,
                at.port,
                username=at.user,
                client_keys=[os.fspath(at.key)],
                known_hosts=known_hosts,
                tunnel=at.jump or (),
                config=() if at.jump else None,  # the way may have names of ~/.ssh/config
                agent_path=None,
                compression_algs=None,
                encryption_algs=["aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com"],
                keepalive_interval=5,
                keepalive_count_max=2,
                connect_timeout=CONNECT_SECONDS,
            )
        except asyncssh.HostKeyNotVerifiable:
            if self._pins and (wrong := await self._pins.of_key(self.name)):
                raise LinkError(f"{where} {wrong}") from None
            raise LinkError(
                f"{where}: its host key is not the one in {at.known_hosts}. Either the node was "
                "installed anew or something answers in its place: find out which. Only then "
                f"remove the old key: {shlex.join(['ssh-keygen', '-R', at.known_as, '-f', pins])}"
            ) from None
        except asyncssh.PermissionDenied:
            raise LinkError(
                f"{where}: the key {at.key} is not admitted to the account {at.user}: "
                f"run `{provision}`"
            ) from None
        except asyncssh.KeyImportError as error:
            raise LinkError(f"{where}: the key {at.key} cannot be used: {error}") from None
        except (OSError, asyncssh.Error, TimeoutError) as error:
            raise LinkError(
                f"{where} does not answer: {error or type(error).__name__}. Is it powered and on "
                f"the network? `ansible -i {inventory} -m ping {shlex.quote(self.name)}` tells "
                "more; --nodes goes on without it"
            ) from None


class LocalLink:
    """The same gate as a process of this account, over a datasite below one folder."""

    def __init__(self, name: str, root: Path, sender: str) -> None:
        self.name, self.root = name, root
        self._root = ["--root", os.fspath(root)]
        self._sender = ["--sender", sender]
        self._open: list[asyncio.subprocess.Process] = []

    async def call(self, command: str, data: bytes = b"") -> bytes:
        """Run one verb of the gate."""
        process = await self._start(command)
        output, errors = await process.communicate(data)
        if process.returncode != 0:
            raise LinkError(f"{self.name}: {_text(errors)}")
        if command.startswith(("submit ", "cancel ")):  # on a node the path unit wakes the datasite
            datasite = await self._python("fedrnn.datasite", *self._root)
            _, errors = await datasite.communicate()
            if datasite.returncode != 0:
                raise LinkError(f"{self.name}: the datasite failed: {_text(errors)}")
        return output

    async def open(self, command: str) -> Stream:
        """Start a verb of the gate that streams."""
        process = await self._start(command)
        self._open.append(process)
        assert process.stdout and process.stdin and process.stderr
        return Stream(process.stdout, process.stdin, process.stderr)

    def verify(self, identity: str | None) -> None:
        """A folder is the one that it is."""

    async def close(self) -> None:
        """End the gates that are still open."""
        for process in self._open:
            if process.returncode is None:
                process.terminate()
            await process.wait()

    async def _start(self, command: str) -> asyncio.subprocess.Process:
        return await self._python(
            "fedrnn.datasite.gate", *self._root, *self._sender, SSH_ORIGINAL_COMMAND=command
        )

    async def _python(self, module: str, *words: str, **more: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            *words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=1 << 20,
            cwd=Path(__file__).parents[2],
            start_new_session=True,  # Ctrl-C is for the controller, which then ends the jobs
            env={**os.environ, **more},
        )


def _text(output: str | bytes | None) -> str:
    text = output.decode(errors="replace") if isinstance(output, bytes) else output or ""
    return text.strip() or "the gate ended without a word"
