"""What a node is at a glance: its answers decoded, and what is wrong with it.

What a node cannot tell counts as healthy. Preflight's checks say what is wrong, and its table of
findings says it in words and with the remedy: there is no second list of either.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

PREFLIGHT = Path(__file__).parents[2] / "roles" / "preflight"
sys.path.append(str(PREFLIGHT / "files"))
import checks  # noqa: E402 - the role's files are no package
from findings import KINDS  # noqa: E402 - as above
from questions import malformed  # noqa: E402 - as above

PROBE = "\n".join(
    path.read_text(encoding="utf-8")
    for path in (PREFLIGHT / "files" / "probe.sh", Path(__file__).with_name("nodes.sh"))
)
PAST = "since it was switched on"
"""What was and is no more is told, and counts as healthy."""
Row = dict[str, Any]


def _wanted() -> Any:
    """Return what a node must have, by the defaults of role preflight."""
    told = yaml.safe_load((PREFLIGHT / "defaults" / "main.yml").read_text(encoding="utf-8"))
    sizes = {
        name: told[f"preflight_{name}_mib"]
        for name in ("memory", "memory_and_swap", "disk", "disk_provisioned")
    }
    return checks.Wanted(
        distributions=told["preflight_distributions"],
        python=told["preflight_python"],
        disk_speed=told["preflight_disk_speed"],
        clock=told["preflight_clock_seconds"],
        internet=False,
        locks=PREFLIGHT.parent / "wheelhouse" / "files" / "locks",
        **sizes,
    )


def unreachable(name: str, why: str) -> Row:
    """Return the row of a node that did not answer; like all rows, with its words as they came."""
    return {"node": name, "reachable": False, "problems": [why], "notices": []}


def glance(name: str, text: str) -> Row:
    """Return the row of a node that answered, be it in part: None is what it did not tell."""
    try:
        told = checks.Answers.parse(f"{text}\n@ end\n" if "@ clock" in text else text)
    except ValueError as error:
        return unreachable(name, f"it answered with something else: {error}")
    odd = malformed(told.lines)
    told = checks.Answers({one: said for one, said in told.lines.items() if one not in odd})
    problems, notices = _found(told)
    problems += [f"its answer to {one} is malformed" for one in odd]
    if "told" in told.lines and not told["installed"]:
        notices.append("fedrnn is not installed there: `ansible-playbook -i INVENTORY site.yml`")
    if "told" not in told.lines:
        notices.append("it answered in part only")
    return {
        "node": name,
        "reachable": True,
        "identity": told.identity if "identity" in told.lines else None,
        "model": _model(told),
        "os": told.first("pretty") or None,
        "kernel": told.first("kernel_release") or None,
        "uptime_seconds": _number(told.first("uptime")),
        "celsius": _celsius(told),
        "throttled": _throttled(told),
        "memory_mb": _memory(told),
        "swap_mb": _swap(told),
        "disk": _disk(told),
        "card_errors": _card(told),
        **_versions(told),
        "datasite": _datasite(told),
        "last_job": _last_job(told),
        "problems": problems,
        "notices": notices,
    }


def _found(told: Any) -> tuple[list[str], list[str]]:
    problems: list[str] = []
    notices: list[str] = []
    for look in (checks.board, checks.disk):
        for kind, values in look(told, _wanted()):
            line = f"it {KINDS[kind].says.format(**values)}"
            (notices if PAST in line else problems).append(line)
    if told.first("datasite_failed") == "failed":
        problems.append("its datasite has failed: `journalctl -u fedrnn-datasite` there says why")
    if told["drained"]:
        problems.append(
            "an upgrade keeps it from starting jobs; where it has failed, run it again: "
            "`ansible-playbook -i INVENTORY playbooks/upgrade.yml`"
        )
    elif told["installed"] and told.first("datasite") not in ("", "active"):
        problems.append("its datasite does not listen: `systemctl start fedrnn-datasite.path`")
    return problems, notices


def _model(told: Any) -> str | None:
    container = told.first("container")
    return told.first("model") or (f"container ({container})" if container else None)


def _number(text: str) -> float | None:
    found = re.match(r"\d+(\.\d+)?", text)
    return float(found[0]) if found else None


def _celsius(told: Any) -> float | None:
    heat = [int(text) for text in told["temperature"] if text.isdigit()]
    return max(heat) / 1000 if heat else None


def _throttled(told: Any) -> str | None:
    """Return the flags of the firmware in words."""
    if not told["throttled"]:
        return None if told["vcgencmd"] or told["container"] else "no vcgencmd"
    says = [one for one in checks.board(told, None) if one[0] in ("under-voltage", "throttled")]
    words = [
        f"{values.get('what', 'under-voltage')} {values['when']}".strip() for _, values in says
    ]
    return "; ".join(words) or "no"


def _sizes(told: Any) -> dict[str, int]:
    found = re.findall(r"(?m)^(\w+):\s+(\d+) kB$", "\n".join(told["meminfo"]))
    return {name: int(size) // 1024 for name, size in found}


def _memory(told: Any) -> dict[str, int | None] | None:
    sizes = _sizes(told)
    if not {"MemTotal", "MemAvailable"} <= sizes.keys():
        return None
    if 0 < told.memory < sizes["MemTotal"]:  # a container's limit, of which meminfo knows nothing
        return {"total": told.memory, "free": None}
    return {"total": sizes["MemTotal"], "free": sizes["MemAvailable"]}


def _swap(told: Any) -> dict[str, int] | None:
    sizes = _sizes(told)
    if not {"SwapTotal", "SwapFree"} <= sizes.keys():
        return None
    return {"total": sizes["SwapTotal"], "used": sizes["SwapTotal"] - sizes["SwapFree"]}


def _disk(told: Any) -> dict[str, int] | None:
    words = told.first("disk").split()
    if len(words) < 4 or not (words[1].isdigit() and words[3].isdigit()):
        return None
    return {"total_mb": int(words[1]) >> 10, "free_mb": int(words[3]) >> 10}


def _card(told: Any) -> int | None:
    """Return how many lines of the kernel's log speak of the card; None where it is not told."""
    if "kernel_log" not in told.lines:
        return None
    return len([line for line in told["kernel_log"] if "firmware" not in line])


def _versions(told: Any) -> dict[str, str | None]:
    text = "\n".join(told["venv"])
    patterns = {"python": r"^Python (\S+)", "torch": r"^torch-(\S+)", "pysyft": r"^syft-(\S+)"}
    found = {name: re.search(pattern, text, re.MULTILINE) for name, pattern in patterns.items()}
    return {name: match[1] if match else None for name, match in found.items()}


def _datasite(told: Any) -> str | None:
    if not told["installed"]:
        return None
    if told.first("datasite_failed") == "failed":
        return "failed"
    return {"active": "listens", "": None}.get(told.first("datasite"), told.first("datasite"))


def _last_job(told: Any) -> dict[str, str] | None:
    try:
        job = json.loads("".join(told["last_job"]))
        return {"job": str(job["job"]), "status": str(job["status"])}
    except (ValueError, KeyError, TypeError):
        return None
