"""The commands that do a run again."""

from __future__ import annotations

import shlex
from dataclasses import fields, replace
from typing import Any

from fedrnn.config import DEFAULT_ROUNDS, OPTIONS, RunConfig
from fedrnn.reporting.record import Record

_FLAGS = {"cell": "--model", "hidden": "--hidden", "embedding": "--embedding", "seed": "--seed"}
_NOT_SET = {"rounds", "strategy", "split", "data_seed", "nodes", "options", *_FLAGS}


def commands(record: Record) -> list[str]:
    """Return what is typed, in this order; empty where the run does not tell its settings."""
    if not record.run:
        return []
    asked = record.manifest.get("asked") or {}
    lines = []
    controller = record.manifest.get("controller") or {}
    commit = str(controller.get("commit", ""))
    if len(commit) == 40 and commit.isalnum():
        lines.append(f"git checkout {commit}")
    engine = record.engine
    lines.append("make simulation" if engine == "simulation" else "make venv")
    lines.append("source .venv/bin/activate")
    if asked.get("local") is None:
        books = ["site.yml"] + ["playbooks/flower.yml"] * (engine == "superlink")
        lines += [f"ansible-playbook{_inventory(asked, '-i')} {book}" for book in books]
    lines.append(_run(record, asked))
    return lines


def _run(record: Record, asked: dict[str, Any]) -> str:
    config = RunConfig.from_dict(record.run)
    if asked.get("timeout"):
        config = replace(config, timeout=asked["timeout"])
    words = ["python -m fedrnn.run"]
    if asked.get("local") is None:
        words[0] += _inventory(asked, "--inventory")
        if config.nodes:
            words += ["--nodes", ",".join(config.nodes)]
    else:
        words += ["--local", str(asked["local"])]
        if config.split != RunConfig.split:
            words += ["--split", config.split]
    if record.engine != "ssh":
        words += ["--engine", record.engine]
    if record.engine == "superlink":
        words.append("--without-governance")
    if config.strategy != RunConfig.strategy:
        words += ["--strategy", config.strategy]
    if config.rounds != DEFAULT_ROUNDS[config.strategy]:
        words += ["--rounds", str(config.rounds)]
    for name, flag in _FLAGS.items():
        if (value := getattr(config, name)) != getattr(RunConfig, name):
            words += [flag, str(value)]
    defaults = RunConfig()
    settings = {
        field.name: getattr(config, field.name)
        for field in fields(RunConfig)
        if field.name not in _NOT_SET
        and getattr(config, field.name) != getattr(defaults, field.name)
    }
    known = OPTIONS[config.strategy]
    settings |= {key: value for key, value in config.options.items() if value != known[key]}
    for name, value in settings.items():
        words += ["--set", f"{name}={value}"]
    if asked.get("min_nodes"):
        words += ["--min-nodes", str(asked["min_nodes"])]
    if asked.get("compare"):
        words.append("--compare")
    return words[0] + "".join(f" {shlex.quote(word)}" for word in words[1:])


def _inventory(asked: dict[str, Any], flag: str) -> str:
    """Return the option, and nothing for the lab, which is the default."""
    path = str(asked.get("inventory") or "")
    return "" if not path or path.endswith("inventory/lab") else f" {flag} {shlex.quote(path)}"
