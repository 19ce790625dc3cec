"""What a job may look like on the wire: a tar stream of a few plain text files.

Standard library only: the gate imports it.
"""

from __future__ import annotations

import io
import re
import tarfile

from fedrnn.datasite.layout import MAX_BYTES

MAX_FILES = 500
# At most eight folders deep, and every name safe on any terminal and in any encoding.
MEMBER = re.compile(r"run\.sh|config\.yaml|code(/[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}){1,8}")


class Refused(Exception):
    """What the sender asked for is not granted; the text says why and what to do."""


def read_job(data: bytes) -> dict[str, bytes]:
    """Return the files of a tar stream by path.

    Raises Refused for anything but a few plain text files named `run.sh`, `config.yaml` or
    `code/...`: no links, no devices, no holes, no way up.
    """
    if len(data) > MAX_BYTES:
        raise Refused(f"the job is larger than {MAX_BYTES >> 20} MiB: send code, not data")
    try:
        files = _read_members(data)
    except Refused:
        raise
    except Exception as error:  # whatever a hostile stream makes of the tar reader
        raise Refused(f"the job is no tar stream of text files: {error}") from None
    if not {"run.sh", "config.yaml"} <= files.keys() or len(files) < 3:
        raise Refused("a job needs run.sh, config.yaml and at least one file in code/")
    return files


def _read_members(data: bytes) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    left = MAX_BYTES
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
        for member in tar:
            if member.isdir():
                continue
            # isfile() holds for sparse files too, which grow out of nothing.
            plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse()
            if not (plain and MEMBER.fullmatch(member.name)) or member.name in files:
                raise Refused(f"{member.name!r} has no place in a job")
            left -= member.size
            if len(files) >= MAX_FILES or member.size < 0 or left < 0:
                raise Refused(
                    f"a job has at most {MAX_FILES} files of {MAX_BYTES >> 20} MiB together"
                )
            stream = tar.extractfile(member)
            files[member.name] = stream.read() if stream else b""
            _require_text(member.name, files[member.name])
    return files


def _require_text(name: str, content: bytes) -> None:
    """Refuse what its owner could not read before a decision: a pickle, a program, a picture."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise Refused(f"{name} is no text (byte {error.start}): a job is source code") from None
    if "\0" in text:
        raise Refused(f"{name} is no text (it holds a zero byte): a job is source code")
