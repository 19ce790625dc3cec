"""What went wrong in a run, and how it was met."""

from __future__ import annotations

from dataclasses import dataclass

from fedrnn.reporting.record import Record


@dataclass
class Fault:
    """Something that happened `to` a node, or to the run, and what the run `did` about it."""

    to: str
    when: str
    what: str
    did: str


def faults(record: Record) -> list[Fault]:
    """Return the faults of a run: its own, then those of nodes in the order in which they began."""
    found = [fault for name in record.nodes for fault in _absences(record, name)]
    found.sort(key=lambda pair: pair[0])
    listed = [*_of_the_run(record), *(fault for _, fault in found)]
    for name, node in record.summary.get("nodes", {}).items():
        if dropped := node.get("dropped_updates"):
            did = "the others' updates made the round"
            listed.append(Fault(name, "", f"{dropped} updates that could not be used", did))
    for name, traffic in (record.rounds[-1] if record.rounds else {}).get("traffic", {}).items():
        if (times := traffic.get("reconnects", 0)) > 0:
            what = f"the connection was lost {times} times" if times > 1 else "a lost connection"
            listed.append(Fault(name, "", what, "opened anew, the message sent again"))
    return listed


def _of_the_run(record: Record) -> list[Fault]:
    listed = []
    for job in record.manifest.get("taken_up", []):
        when = f"after round {job.get('after_round')}"
        what = "the controller came to an end before the run did"
        listed.append(Fault("the run", when, what, "taken up from its checkpoint with --resume"))
    if problem := record.summary.get("problem"):
        listed.append(Fault("the run", "at its end", problem, "ended with the model so far"))
    elif record.summary.get("interrupted"):
        listed.append(Fault("the run", "at its end", "Ctrl-C", "ended with the model so far"))
    elif not record.summary:
        last = record.rounds[-1]["round"] if record.rounds else 0
        what = "it was cut off, or still goes on: it has no summary"
        listed.append(
            Fault("the run", f"after round {last}", what, "this page shows what there is")
        )
    return listed


def _absences(record: Record, name: str) -> list[tuple[int, Fault]]:
    """Return the first round of each stretch without the node, and what is to be told."""
    stretches: list[tuple[int, int, str]] = []
    before = 0
    for event in record.rounds:
        number = event["round"]
        if name in event["nodes"] or name not in event.get("drawn", [name]):
            continue
        why = str(event.get("errors", {}).get(name, "no answer"))
        if stretches and before == number - 1:
            first, _, why = stretches[-1]
            stretches[-1] = (first, number, why)
        else:
            stretches.append((number, number, why))
        before = number
    told = []
    last = record.rounds[-1]["round"] if record.rounds else 0
    for first, end, why in stretches:
        when = f"round {first}" if first == end else f"rounds {first} to {end}"
        back = "and not seen again" if end == last else f"and taken back in round {end + 1}"
        told.append((first, Fault(name, when, why, f"left out, {back}")))
    return told
