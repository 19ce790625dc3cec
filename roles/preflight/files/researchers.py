"""Whom the gate of a node knows, beside whom the inventory lists: nobody is locked out unasked."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator

from checks import Found

# Type, key in base64, comment.
KEY = (
    "[a-z0-9@.-]+ (?P<key>AAAA(?:[A-Za-z0-9+/]{4})+"
    "(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?)(?: .*)?"
)
# As role pysyft writes /etc/fedrnn/researchers.keys.
LINE = re.compile(
    'restrict,command="exec /opt/fedrnn/bin/gate --sender '
    rf'(?P<sender>[a-z0-9][a-z0-9.-]{{0,31}}@[a-z0-9][a-z0-9.-]{{0,31}})" {KEY}'
)


def fingerprint(key: str) -> str:
    """Return what `ssh-keygen -l` calls a public key, which is given in base64."""
    digest = hashlib.sha256(base64.b64decode(key)).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def unlike(lines: list[str], researchers: list[dict[str, str]], retired: object) -> Iterator[Found]:
    """Yield the researchers of a node whom the inventory gives another key, or does not list.

    `lines` are the node's file. `researchers` have `email`, `file` and `text`, a public key, empty
    where the file is missing. `retired` holds the fingerprints of the keys that may go.
    """
    ours: dict[str, list[str]] = {one["email"]: [] for one in researchers}
    for one in researchers:
        match = re.fullmatch(KEY, one["text"].strip())
        ours[one["email"]].append(
            fingerprint(match["key"]) if match else f"a new one ({one['file']} is missing)"
        )
    may_go = re.findall(r"SHA256:[A-Za-z0-9+/]{43}", str(retired))
    strange = 0
    for line in lines:
        if not (match := LINE.fullmatch(line)):
            strange += 1
            continue
        sender, theirs = match["sender"], fingerprint(match["key"])
        if theirs in may_go or theirs in ours.get(sender, []):
            continue
        what = {"sender": sender, "theirs": theirs}
        if sender in ours:
            yield "researcher-key", {**what, "ours": ", ".join(ours[sender])}
        else:
            yield "researcher-missing", what
    if strange:
        yield "researcher-lines", {"count": strange}
