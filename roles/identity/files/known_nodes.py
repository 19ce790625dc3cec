"""The identities of nodes that this controller has pinned, in a file beside known_hosts.

    known_nodes.py FILE 'pi1 ID' 'pi2 ID'   pins identities of nodes
    known_nodes.py FILE pi1 pi2             removes the pins of nodes

Prints each line that was added or removed. A line of the file is the pin of one node: `NAME ID`.
"""

from __future__ import annotations

import fcntl
import os
import re
import sys
import tempfile
from pathlib import Path

ID = re.compile("[0-9a-f]{32}")  # 128 bits


class PinError(ValueError):
    """The pins are damaged or contradict each other; the text names file and line."""


def parse(text: str, file: Path) -> dict[str, str]:
    """Return the identity of each node. Raises PinError unless each line pins one to one."""
    pins: dict[str, str] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        name, _, identity = line.partition(" ")
        if not ID.fullmatch(identity) or name in pins or identity in pins.values():
            raise PinError(
                f"{line!r} pins no node, or a node or an identity that is pinned already in {file}:"
                " docs/nodes.md shows what belongs there"
            )
        pins[name] = identity
    return pins


def read(file: Path) -> dict[str, str]:
    """Return the identity of each pinned node. Raises PinError for a damaged file."""
    try:
        text = file.read_text() if file.exists() else ""
    except (OSError, UnicodeError) as error:
        raise PinError(f"{file} cannot be read: {error}") from None
    return parse(text, file)


def change(file: Path, lines: list[str]) -> list[str]:
    """Pin and remove, all or nothing; return the lines that were added or removed.

    Raises PinError where a node or an identity is pinned otherwise.
    """
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        before = read(file)
        gone = [line for line in lines if " " not in line]
        kept = [" ".join(pin) for pin in before.items() if pin[0] not in gone]
        now = list(dict.fromkeys([*kept, *(line for line in lines if " " in line)]))
        text = "".join(f"{line}\n" for line in now)
        changed = sorted(parse(text, file).items() ^ before.items())
        if changed:
            write(file, text)
        return [" ".join(pin) for pin in changed]
    finally:
        os.close(folder)


def write(file: Path, text: str) -> None:
    """Write a file beside its place, for this account alone, and rename it there."""
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    with os.fdopen(handle, "w") as new:
        new.write(text)
        new.flush()
        os.fsync(new.fileno())
    Path(name).replace(file)


if __name__ == "__main__":
    try:
        for pin in change(Path(sys.argv[1]).resolve(), sys.argv[2:]):
            print(pin)
    except (PinError, OSError) as error:
        sys.exit(str(error))
