"""One node of a run, and what its user is told when the run has to wait for it."""

from __future__ import annotations

import shlex
import sys
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from fedrnn.datasite.layout import printable
from fedrnn.datasite.researcher import NodeClient
from fedrnn.transport.link import Link, LocalLink


@dataclass
class Member:
    """One node in a run: `node_id` in Flower's messages, its gate, its PySyft client."""

    node_id: int
    name: str
    owner: str
    link: Link
    client: NodeClient
    described: dict[str, Any] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=lambda: {"status": "unknown"})
    seen: float = field(default_factory=time.monotonic)


def decision(member: Member) -> dict[str, Any]:
    """Return who owns a node, and what the node says of the job: who approved which code."""
    state = member.state
    return {"owner": member.owner, **{key: state.get(key) for key in ("approval", "sha256")}}


def owner_command(member: Member) -> str:
    """Return how the owner's command is called on a node; with `--local` that is here."""
    if not isinstance(member.link, LocalLink):
        return "fedrnn-owner"
    return shlex.join([sys.executable, "-m", "fedrnn.owner", "--root", str(member.link.root)])


def held(member: Member, holder: dict[str, str]) -> str:
    """Say who holds a node and since when, and how it gets free."""
    try:
        since = datetime.fromisoformat(holder["since"]).astimezone()
        when = f"{since:%Y-%m-%d %H:%M:%S}"
    except ValueError:
        when = holder["since"]
    job, sender = printable(holder["job"]), printable(holder["sender"])
    name, deny = member.name, f"{owner_command(member)} deny {job} --reason …"
    typed = deny if isinstance(member.link, LocalLink) else f"ansible {name} -a '{deny}'"
    return (
        f"{name}: {sender} holds it since {printable(when)} with the job {job}, and a node runs one"
        f" job at a time. Run again when that has ended, or have its owner end it: {typed}"
    )


def late(name: str, job: str, seconds: float) -> str:
    """Say that a job runs and nobody answers in it, and where to look."""
    return (
        f"{name}: no worker after {seconds:.0f} s. On the node: journalctl -u 'fedrnn-job@*{job}*'"
    )


def ask_owner(member: Member, job: str, reason: str) -> str:
    """Say that a job waits for the owner of a node, and what he types; `reason` is the node's."""
    why = reason or "this code is new to its owner, who must decide"
    local = isinstance(member.link, LocalLink)
    tool, where = owner_command(member), "In another terminal" if local else f"On {member.name}"
    far = (
        ""
        if local
        else f" From here: ansible {member.name} -a '{tool} approve {job}', or, where the nodes are"
        " yours and the code of this checkout has changed: ansible-playbook site.yml --tags pysyft,"
        " and run again."
    )
    return (
        f"{member.name}: the job waits: {why}. {where}: `{tool} show {job}`, then"
        f" `{tool} approve {job}` or `{tool} deny {job} --reason …`.{far}"
        " To stop waiting, press Ctrl-C; --min-nodes N goes on with the others."
    )


def ended(member: Member, job: str, reason: str) -> str:
    """Say how a job has ended before its run, and where its log is."""
    status = member.state["status"]
    why = reason or f"return code {member.state['return_code']}"
    # With --local the log goes with the run's folder.
    has_log = status == "failed" and not isinstance(member.link, LocalLink)
    log = f". Its owner can read its log there: fedrnn-owner show {job}" if has_log else ""
    return f"{member.name}: the job is {status}: {why}{log}"
