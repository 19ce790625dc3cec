"""What the answers of one node mean. Pure functions: text of probe.sh in, findings out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64"}
# What probe.sh looks for: the paths go into a command, so a node names nothing else.
STRAY = re.compile(
    r"(/home/[a-z_][\w-]*/\.local|/root/\.local|/usr/local)/lib/python3[\d.]*/(site|dist)-packages"
    r"/(syft|torch|torchvision|numpy)",
    re.ASCII,
)
Found = tuple[
    str, dict[str, object]
]  # a name of findings.KINDS, and what its texts are filled with


@dataclass(frozen=True)
class Wanted:
    """What a node must have. MiB, MB/s, seconds; the role's defaults say why."""

    distributions: dict[str, str]
    python: str
    memory: int
    memory_and_swap: int
    disk: int
    disk_provisioned: int
    disk_speed: float
    clock: int
    internet: bool
    locks: Path


@dataclass(frozen=True)
class Answers:
    """What a node has told, by question: lines without line ends."""

    lines: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Answers:
        """Read the output of probe.sh. Raises ValueError if it is something else."""
        lines: dict[str, list[str]] = {}
        name = ""
        for line in text.splitlines():
            if line.startswith("@ "):
                name = line[2:]
                lines[name] = []
            elif line.strip() and name:
                lines[name].append(line.strip())
        if "end" not in lines:
            raise ValueError(text.strip()[-200:] or "nothing")
        return cls(lines)

    def __getitem__(self, name: str) -> list[str]:
        return self.lines.get(name, [])

    def first(self, name: str) -> str:
        """Return the first line of an answer, or an empty string."""
        return next(iter(self[name]), "")

    @property
    def identity(self) -> str:
        """The identity of the node, or an empty string."""
        return self.first("identity")

    @property
    def python(self) -> str:
        """The version of python3, as 3.11."""
        return self.first("python")

    @property
    def memory(self) -> int:
        """Memory in MiB; a container's limit counts."""
        total = [int(n) * 1024 for n in re.findall(r"MemTotal:\s+(\d+)", "\n".join(self["memory"]))]
        return min(total + [int(n) for n in self["memory"] if n.isdigit()], default=0) >> 20

    @property
    def swap(self) -> int:
        """Swap in use or ready, in MiB; proc(5) counts it in KiB."""
        return sum(int(line.split()[2]) for line in self["swaps"]) >> 10


def version(text: str) -> tuple[int, ...]:
    """Return what sorts as the version does."""
    return tuple(int(part) for part in re.findall(r"\d+", text))


def lock_name(told: Answers, wanted: Wanted) -> str:
    """Return the name of the lock of wheels that fits, as aarch64-cp311.

    Where the node's Python is too old, role python builds the oldest that is not.
    """
    machine = ARCHITECTURES.get(told.first("userland"), told.first("userland"))
    python = max(told.python, wanted.python, key=version)
    return f"{machine}-cp{python.replace('.', '')}"


def locks(wanted: Wanted) -> dict[str, Path]:
    """Return the locks of wheels that there are, by name."""
    return {path.stem: path for path in sorted(wanted.locks.glob("*-cp*.txt"))}


def check(answers: Answers, wanted: Wanted) -> Iterator[Found]:
    """Yield everything that is wrong with a node."""
    for look in (account, image, python, memory, disk, board, network, packages):
        yield from look(answers, wanted)


def account(told: Answers, wanted: Wanted) -> Iterator[Found]:
    """The operator's account: root, home; and the clock, which was asked at the same time."""
    if told.first("root") != "yes":
        yield "sudo", {"said": (told["root"] or ["nothing"])[-1]}
    ours = re.compile(r"(account|group) fedrnn(-owner|-wire|-job)?")
    if names := [line for line in told["foreign"] if ours.fullmatch(line)]:
        plain = " ".join(sorted({line.split()[1] for line in names}))
        yield "foreign-account", {"names": ", ".join(names), "plain": plain}
    if "usable" not in told["home"]:
        yield "home", {"home": told.first("home")}
    times = [int(seconds) for seconds in told["clock"] if seconds.isdigit()]
    if len(times) == 2 and abs(times[1] - times[0]) > wanted.clock:
        yield "clock", {"found": abs(times[1] - times[0])}


def image(told: Answers, wanted: Wanted) -> Iterator[Found]:
    """What was flashed: distribution, word size, Python, and a lock of wheels for them."""
    userland = told.first("userland")
    if userland not in ARCHITECTURES:
        yield "32-bit", {"userland": userland, "kernel": told.first("kernel")}
        return
    release = [*told["release"], "", ""]
    oldest = wanted.distributions.get(release[0])
    if oldest is None or version(release[1]) < version(oldest):
        names = ", ".join(f"{name} {oldest}" for name, oldest in wanted.distributions.items())
        yield "release", {"found": " ".join(release).strip() or "something", "wanted": names}
        return
    if not told.python:
        yield "python", {}
        return
    if version(told.python) < version(wanted.python) and not told["python_built"]:
        yield "old-python", {"found": told.python, "wanted": wanted.python}
    name = lock_name(told, wanted)
    there = locks(wanted)
    if name not in there:
        names = ", ".join(there)
        yield (
            "lock",
            {"userland": userland, "python": told.python, "lock": name, "locks": names},
        )
        return
    yield from torch(told, name, there[name].read_text(encoding="utf-8"))


def torch(told: Answers, name: str, lock: str) -> Iterator[Found]:
    """Whether the torch of a lock, by its name and text, runs on the processor, without CUDA."""
    locked = re.search(r"(?m)^torch==([0-9.]+)", lock)
    if locked is None:
        return
    what = {"torch": locked[1], "lock": name}
    on_arm = told.first("userland") == "arm64"
    if re.search(r"(?m)^(nvidia|cuda)-", lock) or (on_arm and version(locked[1]) >= (2, 11)):
        yield "torch-cuda", what
    elif (
        on_arm and version(locked[1]) >= (2, 10) and "atomics" not in told.first("features").split()
    ):
        yield "torch-atomics", what


def python(told: Answers, wanted: Wanted) -> Iterator[Found]:
    """Packages that other Pythons of the node would see in place of ours."""
    if by_apt := [x for x in told["packages"] if x in ("python3-numpy", "python3-torch")]:
        yield "apt-python", {"packages": " ".join(by_apt)}
    if stray := [path for path in told["stray"] if STRAY.fullmatch(path)]:
        yield "stray-python", {"paths": " ".join(stray)}


def memory(told: Answers, wanted: Wanted) -> Iterator[Found]:
    """Memory and swap, and whether the kernel can limit a job's."""
    in_container = bool(told["container"])
    if told.memory < wanted.memory:
        yield "memory", {"found": told.memory, "wanted": wanted.memory}
    elif not in_container and told.memory + told.swap < wanted.memory_and_swap:
        sizes = {"memory": told.memory, "swap": told.swap, "wanted": wanted.memory_and_swap}
        yield "swap", sizes
    if len(told["swap_makers"]) > 1:
        yield "two-swaps", {"makers": ", ".join(told["swap_makers"])}
    if "memory" not in " ".join(told["controllers"]).split():
        yield "memory-limits", {}


def disk(told: Answers, wanted: Wanted) -> Iterator[Found]:
    """Free space, speed, and signs of a card that dies."""
    least = wanted.disk_provisioned if told["installed"] else wanted.disk
    free = int(told.first("disk").split()[-3]) >> 10 if told["disk"] else least
    if free < least:
        yield "disk-full", {"found": free, "wanted": least}
    if told["write"] and (speed := 8.4e3 / max(1, int(told.first("write")))) < wanted.disk_speed:
        yield "disk-slow", {"found": f"{speed:.1f}", "wanted": f"{wanted.disk_speed:g}"}
    mounts = [line.split() for line in told["mounts"]]
    if closed := [where for _, where, _, options, *_ in mounts if "ro" in options.split(",")]:
        yield "read-only", {"where": ", ".join(closed)}
    # Wifi hangs on an mmc bus as well, and its missing firmware is no error of the card.
    trouble = r"^(?!.*firmware).*(I/O error|mmc\d.*error|EXT4-fs error|[Rr]emounting.*read-only)"
    if errors := [line for line in told["kernel_log"] if re.search(trouble, line)]:
        yield "io-errors", {"line": errors[-1]}


# Bits of `vcgencmd get_throttled`; the same 16 higher: has occurred since boot.
UNDER_VOLTAGE = 0
THROTTLED = {1: "the frequency is capped", 2: "throttled", 3: "soft limit of temperature"}


def board(told: Answers, wanted: Wanted) -> Iterator[Found]:
    """Voltage and temperature, which the firmware of a Pi tells."""
    # vcgencmd prints throttled=0x50005, the kernel's file 50005.
    flags = re.fullmatch(r"(?:throttled=)?(?:0x)?([0-9a-f]+)", told.first("throttled"))
    if flags:
        bits = int(flags[1], 16)

        def when(names: list[int]) -> str:
            now = any(bits >> bit & 1 for bit in names)
            past = any(bits >> bit + 16 & 1 for bit in names)
            return "now" if now else "since it was switched on" if past else ""

        if time := when([UNDER_VOLTAGE]):
            yield "under-voltage", {"when": time, "flags": f"{bits:#x}"}
        if time := when(list(THROTTLED)):
            what = [name for bit, name in THROTTLED.items() if (bits | bits >> 16) >> bit & 1]
            yield "throttled", {"when": time, "what": ", ".join(what), "flags": f"{bits:#x}"}
    hottest = max((int(n) for n in told["temperature"] if n.isdigit()), default=0) // 1000
    if hottest >= 80:
        yield "temperature", {"found": hottest}


def network(told: Answers, wanted: Wanted) -> Iterator[Found]:
    """The way out, names, and wifi."""
    if wanted.internet:
        yield from way_out(told)
    missing = r"firmware.*(failed|error -2|not found)"
    log = [line for line in told["kernel_log"] if re.search(missing, line)]
    if not told["wifi"] and (wifi := [x for x in log if re.search("brcm|rtl|mt7|ath|wlan", x)]):
        yield "wifi-firmware", {"line": wifi[-1]}
    if "wlan 1" in told["rfkill"]:
        yield "wifi-country", {}


def way_out(told: Answers) -> Iterator[Found]:
    """The default route, the archives' names, and the sites that were asked for."""
    if not told["routes"]:
        yield "route", {}
    elif unknown := [line[3:] for line in told["names"] if line.startswith("no ")]:
        yield "names", {"hosts": ", ".join(unknown)}
    reached = sorted(line[4:] for line in told["sites"] if line.startswith("yes "))
    closed = sorted(line[3:] for line in told["sites"] if line.startswith("no "))
    if reached and closed:
        yield "site", {"sites": ", ".join(closed), "others": ", ".join(reached)}


def packages(told: Answers, wanted: Wanted) -> Iterator[Found]:
    """What would make apt wait or fail."""
    for line in told["apt_locks"][:1]:
        lock, pid, program = [*line.split(), "?"][:3]
        yield "apt-lock", {"lock": lock, "pid": pid, "program": program}
    if told["unconfigured"]:
        yield "half-configured", {"packages": " ".join(told["unconfigured"])}
