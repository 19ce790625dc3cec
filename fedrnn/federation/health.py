"""How a node's board is while it trains: what its kernel tells any process."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path("/")
"""Where the kernel's files are; tests have a folder of their own."""
FIGURES = ("celsius", "throttled", "memory-free-mb", "swap-used-mb")
"""`throttled` holds the bits of `vcgencmd get_throttled`."""


def health() -> dict[str, float]:
    """Return those of FIGURES that this node can tell: none in a container, which sees its host."""
    if (ROOT / "run/systemd/container").exists():
        return {}
    told: dict[str, float] = {}
    zones = (ROOT / "sys/class/thermal").glob("thermal_zone*/temp")
    if heat := [float(text) for text in map(_text, zones) if text.isdigit()]:
        told["celsius"] = max(heat) / 1000
    flags = _text(ROOT / "sys/devices/platform/soc/soc:firmware/get_throttled")
    if re.fullmatch(r"(0x)?[0-9a-f]{1,8}", flags):
        told["throttled"] = float(int(flags, 16))
    sizes = dict(re.findall(r"(?m)^(\w+):\s+(\d+) kB$", _text(ROOT / "proc/meminfo")))
    if "MemAvailable" in sizes:
        told["memory-free-mb"] = int(sizes["MemAvailable"]) / 1024
    if "SwapTotal" in sizes and "SwapFree" in sizes:
        told["swap-used-mb"] = (int(sizes["SwapTotal"]) - int(sizes["SwapFree"])) / 1024
    return told


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
