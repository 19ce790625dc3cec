"""All that a controller gets to see: bytes over SSH, files that it writes, what it prints."""

from __future__ import annotations

import base64
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncssh.channel
import asyncssh.connection
import pytest

from fedrnn.learning.text import encode
from fedrnn.reporting import results


class Recorder:
    """`streams` holds what came over each channel, `packets` every decrypted packet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.streams: dict[Any, bytes] = defaultdict(bytes)
        self.packets: list[bytes] = []

    def seen(self, printed: str) -> Iterator[tuple[str, bytes]]:
        """Yield each thing that the controller has, and where."""
        for number, stream in enumerate(self.streams.values()):
            yield f"channel {number}", stream
        yield "packets", b"\n".join(self.packets)
        yield "terminal", printed.encode()
        for path in self.folder.rglob("*"):
            yield "name of a file", str(path.relative_to(self.folder)).encode()
            if path.is_file() and not path.is_symlink():
                yield str(path), path.read_bytes()


@contextmanager
def recorded(folder: Path) -> Iterator[Recorder]:
    """Keep what is received and written from now on, temporary folders included."""
    recorder = Recorder(folder)
    accept = asyncssh.channel.SSHChannel._accept_data

    class Packet(asyncssh.connection.SSHPacket):
        def __init__(self, packet: bytes) -> None:
            recorder.packets.append(packet)
            super().__init__(packet)

    def accept_and_keep(channel: Any, data: bytes, datatype: Any = None) -> None:
        recorder.streams[id(channel), datatype] += data
        accept(channel, data, datatype)

    for name in ("runs", "tmp"):
        (folder / name).mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncssh.connection, "SSHPacket", Packet)
        patch.setattr(asyncssh.channel.SSHChannel, "_accept_data", accept_and_keep)
        patch.setattr(results, "RUNS", folder / "runs")
        patch.setattr(tempfile, "tempdir", str(folder / "tmp"))
        patch.setattr(tempfile.TemporaryDirectory, "_rmtree", lambda *_, **__: None)
        yield recorder


def spellings(text: str) -> set[bytes]:
    """Return how a text can lie in bytes: as characters, encoded, or as what the network reads."""
    forms = {text.encode(code) for code in ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le")}
    forms |= {text.encode().hex().encode(), text.encode()[::-1]}
    for shift in range(3):  # base64 has three ways to spell what begins in the middle
        coded = base64.b64encode(b"\0" * shift + text.encode())
        forms.add(coded[(0, 2, 3)[shift] :].rstrip(b"=")[:-2])
    ids, lengths = encode([text])
    for kind in ("int64", "int32", "int16", "int8", "float32"):
        forms.add(ids[0][: int(lengths[0])].astype(kind).tobytes())
    return {form.lower() for form in forms if len(form) >= 6}


def where(text: str, seen: Iterable[tuple[str, bytes]]) -> list[str]:
    """Return in what a text is found, in any spelling and any case."""
    forms = spellings(text)
    return [f"{place}: …" for place, content in seen
            if any(form in content.lower() for form in forms)]  # fmt: skip
