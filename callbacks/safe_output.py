"""Ansible's own output without a node's power over the terminal.

A text in a result is one line, shortened, without escape codes. Whatever else Ansible prints
(warnings, errors, `-v`, diffs) is cleaned on its way out, and each of its lines after the first
begins with `|`: no text of a node begins a line.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible.plugins.callback.default import CallbackModule as Default
from ansible.utils.display import Display

sys.path.append(str(Path(__file__).parents[1]))  # Ansible knows no folder of ours
from fedrnn.printable import printable

DOCUMENTATION = """
name: safe_output
type: stdout
short_description: Ansible's default output, in which a node's texts cannot pose as anything else
description: Set as stdout_callback in ansible.cfg.
extends_documentation_fragment: [default_callback]
"""
MOST_OF_TEXT, MOST_OF_LINE = 2_000, 20_000  # characters; a line may hold a text that is escaped
MOST_LINES = 2_000
COLOUR = re.compile("\x1b\\[[0-9;]*m")


class CallbackModule(Default):
    """Prints results as Ansible's own does, and texts as they are, without YAML's quotes."""

    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "safe_output"

    def _dump_results(
        self, result: Any, indent: Any = None, sort_keys: bool = True,
        keep_invocation: bool = False, serialize: bool = True,
    ) -> Any:  # fmt: skip
        values = super()._dump_results(result, indent, sort_keys, keep_invocation, serialize=False)
        for name in {"stdout", "stderr"} & values.keys():
            values.pop(f"{name}_lines", None)
        return "".join(f"\n  {line}" for line in _lines(values)) if serialize else values

    def _get_item_label(self, result: Any) -> Any:
        return (label := super()._get_item_label(result)) and printable(label, MOST_OF_TEXT)

    def _get_diff(self, difflist: Any) -> str:
        return (diff := super()._get_diff(difflist)) and f"diff:\n{diff}"

    def _handle_warnings_and_exception(self, result: Any) -> None:
        told = result._return_data
        for name in {"warnings", "deprecations"} & told.keys():
            told[name] = [_clean(summary) for summary in told[name]]
        if told.get("exception"):
            told["exception"] = _clean(told["exception"])
        super()._handle_warnings_and_exception(result)


def _lines(values: Any, indent: str = "") -> Iterator[str]:
    """Yield a line for each value, as YAML has them."""
    if isinstance(values, dict):
        pairs = [(f"{printable(name)}:", values[name]) for name in sorted(values, key=str)]
    else:
        pairs = [("-", value) for value in values]
    for name, value in pairs:
        if isinstance(value, dict | list | tuple) and value:
            yield indent + name
            yield from _lines(value, f"{indent}  ")
        else:
            plain = value is None or isinstance(value, bool | dict | list | tuple)
            shown = json.dumps(value) if plain else printable(value, MOST_OF_TEXT)
            yield f"{indent}{name} {shown}"


def _clean(value: Any) -> Any:
    """Return an error or a warning whose messages, and those of its causes, are one line each."""
    if isinstance(value, list | tuple):
        return tuple(map(_clean, value))
    if not dataclasses.is_dataclass(value):
        return value
    parts = {name: _clean(getattr(value, name, None)) for name in ("event", "events", "chain")}
    parts |= {name: printable(text, MOST_OF_TEXT) for name in ("msg", "help_text")
              if (text := getattr(value, name, None))}  # fmt: skip
    return dataclasses.replace(value, **{name: part for name, part in parts.items() if part})


def cleaned(text: str) -> str:
    """Return what Ansible prints at once, its colours dropped and its lines told apart."""
    body = text.lstrip("\n")
    lines = COLOUR.sub("", body).replace("\r\n", "\n").split("\n")
    if (more := len(lines) - MOST_LINES) > 0:
        lines[MOST_LINES // 2 : -MOST_LINES // 2] = [f"… ({more:,} lines more) …"]
    first, *others = (printable(line, MOST_OF_LINE) for line in lines)
    # Ansible's workers hand on what the main process prints: it passes here twice.
    rest = "".join(f"\n{'' if not line or line[:2] == '| ' else '| '}{line}" for line in others)
    return text[: len(text) - len(body)] + first + rest


def guard(display: Any) -> None:
    """Have everything cleaned that Ansible prints from now on, whoever prints it."""
    show = display.display

    def safe(msg: str, *words: Any, **options: Any) -> None:
        # The recap alone is for the screen only: Ansible's colours, names of the inventory.
        show(msg if options.get("screen_only") else cleaned(msg), *words, **options)

    display.display = safe


# Ansible imports every file of this folder, whatever output was chosen in the environment.
guard(Display())
