"""One node of a run, and what its user is told when the run has to wait for it."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from fedrnn.datasite.answers import AnswerError
from fedrnn.datasite.failure import WITHOUT_A_WORD
from fedrnn.datasite.layout import DRAINED, FINAL
from fedrnn.datasite.researcher import NodeClient
from fedrnn.printable import printable
from fedrnn.transport.attachment import JobEndedError
from fedrnn.transport.link import Link, LinkError, LocalLink, SSHLink

Say = Callable[[str], None]

AGAIN = "-again"
MAX_JOBS = 5  # of one run on one node, which may lose its power again and again


@dataclass
class Member:
    """One node in a run: `node_id` in Flower's messages, its gate, its PySyft client, its `job`."""

    node_id: int
    name: str
    owner: str
    link: Link
    client: NodeClient
    job: str
    described: dict[str, Any] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=lambda: {"status": "unknown"})
    seen: float = field(default_factory=time.monotonic)
    sent: float = field(default_factory=time.monotonic)
    is_told: bool = False  # its user, that nobody there takes the job up
    number: int = 1  # of the job, where the node has lost others

    async def status(self) -> dict[str, Any]:
        """Return the state of its job. Raises LinkError, AnswerError."""
        return await self.client.status(self.job)

    async def submit(self, code: Path) -> None:
        """Send it the job. Raises LinkError."""
        await self.client.submit(code, self.job, "main.py")
        self.sent = time.monotonic()

    @property
    def may_run_again(self) -> bool:
        """Tell whether its job ended by no word of its owner's or of its own: a power cut."""
        lost = self.state["status"] == "failed" and self.state["reason"] == WITHOUT_A_WORD
        return lost and self.number < MAX_JOBS

    async def submit_again(self, code: Path, say: Say) -> None:
        """Send it the job anew, by another name: a node keeps those that have ended."""
        job = f"{first_name(self.job)}{AGAIN}{self.number + 1}"
        try:
            await self.client.status(job)  # it may have arrived when its answer did not
        except LinkError:
            await self.client.submit(code, job, "main.py")
        self.job, self.number, self.sent = job, self.number + 1, time.monotonic()
        why = printable(self.state["reason"])
        say(f"{self.name}: its job is lost, and was sent anew as {self.job}: {why}")

    async def find_job(self, code: Path, say: Say) -> str:
        """Return the job to attach to, where the worker was there and is not any more.

        Raises LinkError while there is no worker, JobEndedError when there will be none.
        """
        before = self.state["status"]
        try:
            self.state = await self.status()
        except AnswerError as error:
            raise LinkError(f"{self.name}: {error}") from error
        if self.may_run_again:
            await self.submit_again(code, say)
        elif self.state["status"] in FINAL:
            raise JobEndedError(ended(self))
        elif self.state["status"] != before:
            self.tell(say)
        if not self.state["worker"]:
            raise LinkError(f"{self.name}: the job {self.job} has no worker yet")
        return self.job

    def tell(self, say: Say) -> None:
        """Say that the job waits, for its owner or the end of an upgrade, or runs."""
        if self.state["status"] == "pending":
            say(ask_owner(self))
        elif self.state["status"] == "running":
            by = "the operator's allow-list" if self.state["approval"] == "auto" else "its owner"
            say(f"{self.name}: the job runs, approved by {by}")
        elif self.state["reason"] == DRAINED:
            say(f"{self.name}: the job waits: {DRAINED}. It begins when that is done; where it has"
                " failed: playbooks/upgrade.yml again")  # fmt: skip


def first_name(job: str) -> str:
    """Return the name that a job had before a node lost it and was sent it anew."""
    return job.partition(AGAIN)[0]


def decision(member: Member) -> dict[str, Any]:
    """Return who owns a node, and what the node says of the job: who approved which code."""
    state = member.state
    return {"owner": member.owner, **{key: state.get(key) for key in ("approval", "sha256")}}


def owner_command(member: Member) -> str:
    """Return how the owner's command is called on a node; with `--local` that is here."""
    if not isinstance(member.link, LocalLink):
        return "fedrnn-owner"
    return shlex.join([sys.executable, "-m", "fedrnn.owner", "--root", str(member.link.root)])


def from_here(member: Member, command: str) -> str:
    """Return what runs a command on a node from this machine, in any of its inventories."""
    return f"ansible{_inventory(member)} {shlex.quote(member.name)} -a {shlex.quote(command)}"


def _inventory(member: Member) -> str:
    if not isinstance(member.link, SSHLink):
        return ""
    folder = os.path.relpath(member.link.address.known_hosts.parent)
    return "" if folder == "inventory/lab" else f" -i {shlex.quote(folder)}"


def held(member: Member, holder: dict[str, str]) -> str:
    """Say who holds a node and since when, and how it gets free."""
    try:
        since = datetime.fromisoformat(holder["since"]).astimezone()
        when = f"{since:%Y-%m-%d %H:%M:%S}"
    except ValueError:
        when = holder["since"]
    job, sender = printable(holder["job"]), printable(holder["sender"])
    name, deny = member.name, f"{owner_command(member)} deny {job} --reason …"
    typed = deny if isinstance(member.link, LocalLink) else from_here(member, deny)
    return (
        f"{name}: {sender} holds it since {printable(when)} with the job {job}, and a node runs one"
        f" job at a time. Run again when that has ended, or have its owner end it: {typed}"
    )


def idle(member: Member) -> str:
    """Say that nobody takes a job up that was sent, and how that is mended."""
    unit = "fedrnn-datasite.path"
    return (
        f"{member.name}: its datasite takes no jobs. On the node: `systemctl status {unit}`, and"
        f" where it was stopped or masked: `systemctl unmask {unit}`, `systemctl start {unit}`;"
        " where an upgrade has stopped it (/etc/fedrnn/drained is there): playbooks/upgrade.yml"
    )


def late(member: Member, seconds: float) -> str:
    """Say that a job runs and nobody answers in it, and where to look."""
    unit = f"fedrnn-job@*{member.job}*"
    return f"{member.name}: no worker after {seconds:.0f} s. On the node: journalctl -u '{unit}'"


def ask_owner(member: Member) -> str:
    """Say that a job waits for the owner of a node, why as the node says, and what he types."""
    job = member.job
    why = printable(member.state["reason"] or "this code is new to its owner, who must decide")
    local = isinstance(member.link, LocalLink)
    tool, where = owner_command(member), "In another terminal" if local else f"On {member.name}"
    far = (
        ""
        if local
        else f" From here: {from_here(member, f'{tool} approve {job}')}, or, where the nodes are"
        " yours and the code of this checkout has changed: ansible-playbook"
        f"{_inventory(member)} site.yml --tags pysyft, and run again."
    )
    return (
        f"{member.name}: the job waits: {why}. {where}: `{tool} show {job}`, then"
        f" `{tool} approve {job}` or `{tool} deny {job} --reason …`.{far}"
        " To stop waiting, press Ctrl-C; --min-nodes N goes on with the others."
    )


def ended(member: Member) -> str:
    """Say how a job has ended before its run, and where its log is."""
    status, job = member.state["status"], member.job
    why = printable(member.state["reason"] or f"return code {member.state['return_code']}")
    # With --local the log goes with the run's folder.
    has_log = status == "failed" and not isinstance(member.link, LocalLink)
    log = f". Its owner can read its log there: fedrnn-owner show {job}" if has_log else ""
    return f"{member.name}: the job is {status}: {why}{log}"
