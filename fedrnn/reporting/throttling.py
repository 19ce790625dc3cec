"""Whether boards were slowed down or short of voltage while they trained, in words."""

from __future__ import annotations

from fedrnn.reporting.record import Record

CONDITIONS = {
    0: "under-voltage",
    1: "the frequency is capped",
    2: "throttled",
    3: "soft limit of temperature",
}
"""By their bit in `vcgencmd get_throttled`; 16 bits higher: since it was switched on. The words are
those of role preflight, on whose files a run does not depend."""


def now(flags: int) -> list[int]:
    """Return the bits of what holds at this moment."""
    return [bit for bit in CONDITIONS if flags >> bit & 1]


def throttling(record: Record) -> dict[str, dict[int, int]]:
    """Return the flags by node and round of evaluation, of the boards that tell them."""
    told: dict[str, dict[int, int]] = {}
    for event in record.evaluations:
        for name in record.nodes:
            if (flags := event.get("by_node", {}).get(name, {}).get("throttled")) is not None:
                rounds = told.setdefault(name, {})
                rounds[event["round"]] = rounds.get(event["round"], 0) | int(flags)
    return told


def words(told: dict[str, dict[int, int]]) -> str:
    """Return in words who was slowed down, by what and in which share of the evaluations."""
    lines = []
    for name, rounds in told.items():
        for bit, condition in CONDITIONS.items():
            share = sum(flags >> bit & 1 for flags in rounds.values()) / len(rounds)
            if share:
                lines.append(f"{name} {condition}, {100 * share:.0f} %")
            elif any(flags >> bit + 16 & 1 for flags in rounds.values()):
                lines.append(f"{name} {condition}, at none, but since it was switched on")
    if not lines:
        return "No board was slowed down or short of voltage."
    return f"What held at evaluations: {'; '.join(lines)}."
