"""Judge all nodes at once: `judge.py < QUESTION.json > REPORT.json`, on the controller.

The question is `{"roles": FOLDER, "wanted": {…}, "nodes": {NAME: {…}}, "inventory": [[NAME, HOST,
PORT], …], "identity_only": false}` as vars/main.yml makes it; a node's `answer` is what probe.sh
printed. The report has `findings`, the `table` of them for people, `stopped` (the nodes that cannot
be provisioned), and by node `locks`, what was `told`, and the `identities` that they are to have.
"""

from __future__ import annotations

import asyncio
import difflib
import json
import re
import secrets
import shlex
import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml
from checks import Answers, Found, Wanted, check, lock_name, locks
from findings import KINDS, OF_IDENTITY
from identity import Address, key_holder, mistaken
from questions import QUESTIONS, malformed
from researchers import unlike

sys.path.append(str(Path(__file__).parents[2] / "identity" / "files"))
sys.path.append(str(Path(__file__).parents[3]))  # the checkout: this is a program of its own
import known_nodes

from fedrnn.printable import printable

Node = dict[str, Any]


def judge_one(
    name: str,
    node: Node,
    answers: Answers | None,
    wanted: Wanted,
    inventory: dict[str, Address],
) -> list[Found]:
    """Return what is wrong with one node, be it only that it does not answer."""
    users = [node["user"], "" if answers is None else answers.first("user")]
    # As our accounts, of which each login ends in the gate, or in nothing.
    if ours := [user for user in users if re.fullmatch("fedrnn[a-z0-9_-]*", user)]:
        return [("operator", {"account": ours[0]})]
    said = re.sub(r"^Task failed: |Failed to connect to the host via ssh: |\s+", " ", node["said"])
    said = " ".join(said.split())
    if node["unreachable"]:
        if re.search("host key|HOST IDENTIFICATION", said, re.IGNORECASE):
            if other := asyncio.run(key_holder(name, inventory, Path(node["known_hosts"]))):
                return [("exchanged", {"other": other, "what": "host key"})]
            return [("host-key", {"said": said})]
        if "Permission denied" in said:
            return [("ssh-key", {"said": said})]
        return [("unreachable", {"said": said})]
    if answers is None:
        return [("answer", {"said": said[-200:]})]
    if node["malformed"]:
        return [("malformed", {"questions": ", ".join(node["malformed"])})]
    known = unlike(answers["researchers"], node["researchers"], node["retired"])
    return [*check(answers, wanted), *known]


def judge_pair(
    name: str, node: Node, told: Answers, other: Node, of_other: Answers
) -> Iterator[Found]:
    """Yield what two nodes must not have in common."""
    who = {"other": name}
    if (node["address"], node["port"]) == (other["address"], other["port"]):
        yield "same-address", {**who, "address": f"{node['address']}, port {node['port']}"}
        return
    own, others = (
        set(re.findall(r"inet ([\d.]+)/", "\n".join(a["addresses"]))) for a in (told, of_other)
    )
    for address in sorted(own & others):
        yield "same-address", {**who, "address": address}
    if told["hostname"] and told["hostname"] == of_other["hostname"]:
        yield "same-name", {**who, "hostname": told.first("hostname")}
    if told["machine"] and told["machine"] == of_other["machine"]:
        yield "same-machine", who
    if told.identity and told.identity == of_other.identity:
        yield "same-identity", who


def judge_identity(
    name: str, told: dict[str, Answers], pins: dict[str, str], hostnames: dict[str, str]
) -> Iterator[Found]:
    """Yield what is wrong with the identity of a node, if judge_pair does not say it."""
    own = told[name]
    called = hostnames.get(own.first("hostname"), "") if own["installed"] else ""
    for kind, details in mistaken(name, own.identity, pins, hostnames.values(), called):
        other = told.get(str(details.get("other")))
        if not (own.identity and other and other.identity == own.identity):
            yield kind, details


def known_variables(roles: Path) -> set[str]:
    """Return the variables of all roles: argument specs, and what a role works out for itself."""

    def read(pattern: str) -> list[dict[str, Any]]:
        return [yaml.safe_load(file.read_text(encoding="utf-8")) for file in roles.glob(pattern)]

    options = [
        spec["argument_specs"]["main"].get("options", {})
        for spec in read("*/meta/argument_specs.yml")
    ]
    return {name for names in [*options, *read("*/vars/main.yml")] for name in names}


def unknown_variables(given: list[str], known: set[str]) -> Iterator[Found]:
    """Yield the variables that begin as a role's do, and are none."""
    roles = {name.partition("_")[0] for name in known}
    for name in sorted(set(given) - known):
        role = name.partition("_")[0]
        if role in roles and "_" in name:
            close = difflib.get_close_matches(name, known, 1)
            hint = f" (do you mean {close[0]}?)" if close else ""
            yield "variable", {"name": name, "role": role, "close": hint}


def judge(question: dict[str, Any]) -> dict[str, Any]:
    """Return the report of `question`; both are described above."""
    wanted = Wanted(**{**question["wanted"], "locks": Path(question["wanted"]["locks"])})
    known = known_variables(Path(question["roles"]))
    nodes: dict[str, Node] = question["nodes"]
    inventory = {name: (host or name, int(port)) for name, host, port, _ in question["inventory"]}
    # As role os names nodes.
    hostnames = {
        called or name.replace("_", "-").lower(): name
        for name, _, _, called in question["inventory"]
    }
    folders = {node["inventory"] for node in nodes.values()}
    pins = {folder: known_nodes.read(Path(folder, "known_nodes")) for folder in folders}
    told: dict[str, Answers] = {}
    for name, node in nodes.items():
        for said in ("answer", "said"):  # Ansible takes no answer of ours with what is no UTF-8
            node[said] = node[said].encode(errors="backslashreplace").decode()
        try:
            told[name] = Answers.parse(node["answer"])
        except ValueError as error:
            node["said"] = node["said"] or str(error)
        else:
            node["malformed"] = malformed(told[name].lines)
    found = [
        (name, one)
        for name, node in nodes.items()
        for one in [
            *unknown_variables(node["variables"], known),
            *judge_one(name, node, told.get(name), wanted, inventory),
        ]
    ]
    told = {name: answers for name, answers in told.items() if not nodes[name]["malformed"]}
    for name in told:
        own = pins[nodes[name]["inventory"]]
        found += [(name, one) for one in judge_identity(name, told, own, hostnames)]
    for a, b in combinations(told, 2):
        found += [(b, one) for one in judge_pair(a, nodes[b], told[b], nodes[a], told[a])]
    if question["identity_only"]:
        found = [(name, one) for name, one in found if one[0] in OF_IDENTITY]
    findings = [report(name, nodes[name], *one) for name, one in found]
    fitting = {name: lock_name(answers, wanted) for name, answers in told.items()}
    findings.sort(key=lambda one: (list(nodes).index(one["node"]), not one["stops"]))
    return {
        "findings": findings,
        "table": table(findings),
        "stopped": sorted({one["node"] for one in findings if one["stops"]}),
        "locks": {name: one for name, one in fitting.items() if one in locks(wanted)},
        "told": {name: {one: answers[one] for one in QUESTIONS} for name, answers in told.items()},
        "identities": {
            name: answers.identity or secrets.token_hex(16) for name, answers in told.items()
        },
        "nodes": sorted(nodes),
    }


def report(name: str, node: Node, kind: str, details: dict[str, object]) -> dict[str, Any]:
    """Return one finding in words, as they came; those of its commands can be typed.

    Whatever a command is filled with is the inventory's, and quoted, or has passed a pattern of
    checks.py: of a node's own words there is no other.
    """
    about = {**node, "node": name, **details}
    words = {key: shlex.quote(value) for key, value in node.items() if isinstance(value, str)}
    text = KINDS[kind]
    return {
        "node": name,
        "address": f"{node['address']}, port {node['port']}",
        "finding": kind,
        "stops": text.stops,
        "says": text.says.format_map(about),
        "remedy": text.remedy.format_map({**details, **words, "node": shlex.quote(name)}),
    }


def table(findings: list[dict[str, Any]]) -> str:
    """Return the findings as a table; a remedy has a line of its own, so that it can be copied.

    No word of a node begins a line.
    """
    nodes = [f"{one['node']} ({one['address']})" for one in findings]
    width = max(map(len, nodes), default=0)
    lines = []
    for node, one in zip(nodes, findings, strict=True):
        level = "STOP" if one["stops"] else "warn"
        lines.append(f"{level}  {node:{width}}  {one['finding']:15}  {printable(one['says'])}")
        lines.append(f"      -> {printable(one['remedy'], most=None)}")
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        json.dump(judge(json.load(sys.stdin)), sys.stdout)
    except known_nodes.PinError as error:
        sys.exit(str(error))
