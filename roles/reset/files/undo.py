"""Take from a node what the roles brought, and nothing else; see roles/reset/README.md.

Reads JSON: ``act``, false to tell only; ``purge``; ``swap_file``. Prints one line for each thing
that is, or would be, taken away. What was interrupted is finished by the next run: the note of what
was before goes last.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

NOTE = Path("/opt/fedrnn/.before.json")
INSTALLED = Path("/opt/fedrnn/.installed")  # what roles have asked apt for, a name a line
SYSTEM = "/etc/systemd/system"
# Taken away by role os, which proves that the operator comes in without them; told here.
SSHD = [
    "/etc/ssh/sshd_config.d/05-fedrnn-hardening.conf", "/etc/ssh/sshd_config.d/50-fedrnn.conf",
]  # fmt: skip
ZRAM = "/etc/systemd/zram-generator.conf.d/50-fedrnn.conf"
FILES = [
    "/etc/systemd/journald.conf.d/50-fedrnn.conf", "/etc/apt/apt.conf.d/52fedrnn-upgrades",
    "/etc/cloud/cloud.cfg.d/99-fedrnn.cfg", "/etc/rpi/swap.conf.d/50-fedrnn.conf",
    ZRAM, "/etc/sysusers.d/fedrnn.conf",
    "/etc/tmpfiles.d/fedrnn.conf", "/usr/local/bin/fedrnn-owner",
    "/usr/local/lib/systemd/system/fedrnn-datasite.path",
    "/usr/local/lib/systemd/system/fedrnn-datasite.service",
    "/usr/local/lib/systemd/system/fedrnn-job@.service",
    "/usr/local/lib/systemd/system/fedrnn-launch.socket",
    "/usr/local/lib/systemd/system/fedrnn-launch@.service",
    "/usr/local/lib/systemd/system/flower-supernode.service",
]  # fmt: skip
OURS = "# By Ansible: /tmp in memory"  # how our tmp.mount begins
USERS, GROUPS = (
    ("fedrnn", "fedrnn-owner"),
    ("fedrnn-wire", "fedrnn-job", *("fedrnn", "fedrnn-owner")),
)
BUSY = 8  # userdel(8): something still runs as the account
STATE, KEPT = Path("/var/lib/fedrnn"), Path("/var/lib/fedrnn-kept")
FSTAB, SWAPS = Path("/etc/fstab"), Path("/proc/swaps")
PERMISSIONS = "syft.pub.yaml"  # what PySyft puts into folders without anything else
BEGIN, END = "# BEGIN nodes of the cluster", "# END nodes of the cluster"


class Undo:
    """One node."""

    def __init__(self, asked: dict) -> None:
        self.asked = asked
        self.before = json.loads(NOTE.read_text()) if NOTE.exists() else None
        self.gone: set[str] = set()

    def do(self, what: str, work: Callable[[], object]) -> None:
        """Tell what is taken away, and do so unless only that was asked for."""
        print(what)
        if self.asked["act"]:
            work()

    def everything(self) -> None:
        """In this order: what runs, what it has, what it stands on."""
        if not self.asked["act"]:
            for name in SSHD:
                self.file(Path(name))
        self.units()
        self.results()
        self.swap()
        for name in FILES:
            self.file(Path(name))
        mount = Path(SYSTEM, "tmp.mount")
        if mount.is_file() and mount.read_text().startswith(OURS):
            self.file(mount)
            self.file(Path(SYSTEM, "local-fs.target.wants/tmp.mount"))
        self.tree(Path("/etc/fedrnn"))
        self.accounts()
        if self.before:
            self.texts()
            self.names()
        self.in_force()
        if self.before:
            self.packages()
            self.folders()
        for folder in ("/run/fedrnn", "/opt/fedrnn"):
            if Path(folder).exists():
                self.do(f"{folder} is removed", lambda folder=folder: rmtree(Path(folder)))

    def file(self, path: Path) -> None:
        """Remove a file of ours."""
        if path.is_symlink() or path.exists():
            self.gone.add(str(path))
            self.do(f"{path} is removed", path.unlink)

    def units(self) -> None:
        """Nothing of ours runs, or would run at boot."""
        ours = ("fedrnn-*", "flower-supernode.service")
        listed = run("systemctl", "list-units", "--all", "--plain", "--no-legend", *ours)
        names = [line.split()[0] for line in listed.splitlines()]
        # First what starts others.
        names.sort(key=lambda name: not name.endswith((".path", ".socket")))
        if names:
            self.do(f"{', '.join(names)} is stopped", lambda: run("systemctl", "stop", *names))
        for pattern in ours:
            for link in sorted(Path(SYSTEM).glob(f"*.wants/{pattern}")):
                self.file(link)
        for link in sorted(Path(SYSTEM).glob("fedrnn-*")):
            if link.is_symlink():
                self.file(link)
        if run("getent", "passwd", "fedrnn") and not self.is_theirs("passwd", "fedrnn"):
            self.file(Path(SYSTEM, f"user@{pwd.getpwnam('fedrnn').pw_uid}.service"))

    def results(self) -> None:
        """Results of jobs and the owner's log stay, out of the way, unless they are to go."""
        there = [name for name in USERS if run("getent", "passwd", name)]
        theirs = [pwd.getpwnam(name) for name in there if self.is_theirs("passwd", name)]
        if any(account.pw_dir == str(STATE) for account in theirs):
            return
        if self.asked["purge"]:
            self.tree(KEPT)
        elif STATE.exists():
            worth = [STATE / "decisions.jsonl", STATE / "archive"]
            worth += sorted(STATE.glob("SyftBox/*/app_data"))
            worth = [path for path in worth if path.is_file() or has_files(path, PERMISSIONS)]
            if worth:
                place = KEPT / time.strftime("%Y-%m-%dT%H%M%S")
                names = ", ".join(str(path.relative_to(STATE)) for path in worth)
                self.do(f"{names} moves from {STATE} to {place}", lambda: keep(worth, place))
        self.tree(STATE)

    def tree(self, folder: Path) -> None:
        """Remove a folder of ours."""
        if folder.exists():
            self.do(f"{folder} is removed", lambda: rmtree(folder))

    def swap(self) -> None:
        """Our swap file is gone, the owner's is back. What else makes swap: see texts and units."""
        swap, before = Path(self.asked["swap_file"]), self.before or {}
        lines = FSTAB.read_text().splitlines() if FSTAB.exists() else []
        ours = fstab_line(str(swap)) in [line.removeprefix("# ").split() for line in lines]
        self.file(Path(f"{swap}.new"))
        # The owner's, which role swap has deleted, or made anew in another size.
        size = before.get("swap_bytes")
        lost = size is not None and not (swap.exists() and swap.stat().st_size == size)
        if lost or (before and ours and str(swap) not in before["there"]):
            if str(swap) in [line.split()[0] for line in SWAPS.read_text().splitlines()]:
                self.do(f"swap on {swap} ends", lambda: must("swapoff", str(swap)))
            self.file(swap)
        if lost:
            self.do(f"{swap} is a swap file of {size >> 20} MiB again", lambda: make(swap, size))
        if Path(ZRAM).exists() and "/dev/zram0" in SWAPS.read_text():
            units = ("dev-zram0.swap", "systemd-zram-setup@zram0.service")
            self.do("swap on /dev/zram0 ends", lambda: run("systemctl", "stop", *units))

    def accounts(self) -> None:
        """The accounts and groups of the datasite, of which none was there before."""
        for kind, names, remove in (
            ("passwd", USERS, dismiss), ("group", GROUPS, lambda name: must("groupdel", name)),
        ):  # fmt: skip
            for name in names:
                if run("getent", kind, name) and not self.is_theirs(kind, name):
                    # userdel takes a group of the same name along.
                    self.do(f"the {kind} entry of {name} is removed",
                            lambda name=name, remove=remove: remove(name))  # fmt: skip

    def is_theirs(self, kind: str, name: str) -> bool:
        """Whether an account was there before, or a group that its account stays in."""
        if not self.before or name in self.before.get("accounts", {}).get(kind, []):
            return True
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_dir != str(STATE)
        return False

    def texts(self) -> None:
        """Lines that roles added are gone from the system's files, those they took are back."""
        for name in self.before["files"]:
            self.text(name)

    def text(self, name: str) -> None:
        """One of the system's files is as it was, but for what others did to it since."""
        path, before = Path(name), self.before["files"][name]
        now = path.read_text(errors="surrogateescape") if path.is_file() else None
        wanted = restored(name, now, before, self.asked["swap_file"])
        if wanted == now:
            return
        if wanted is None:
            self.file(path)
            return
        self.gone.add(name)
        self.do(f"{name} gets its own lines back", lambda: put(path, wanted))

    def names(self) -> None:
        """Host name, time zone, and who keeps the clock."""
        old, zone = self.before["hostname"], self.before["localtime"]
        contained = not subprocess.call(["systemd-detect-virt", "-qc"])
        if os.uname().nodename != old and not contained:
            self.do(f"its name is {old} again", lambda: run("hostnamectl", "set-hostname", old))
        link = Path("/etc/localtime")
        found = str(link.readlink()) if link.is_symlink() else None
        if found != zone:
            self.do(f"its time zone is {zone or 'the default'} again", lambda: relink(link, zone))
        package, unit = "systemd-timesyncd", "systemd-timesyncd.service"
        idle = package in self.before["packages"] and unit not in self.before["enabled"]
        if idle and not contained and run("systemctl", "is-enabled", unit) == "enabled\n":
            stop = ("systemctl", "disable", "--now", unit)
            self.do(f"{unit} is disabled again", lambda: must(*stop))

    def packages(self) -> None:
        """What the roles installed and what came with it, unless something else needs it."""
        asked = set(INSTALLED.read_text().split()) if INSTALLED.exists() else set()
        try:
            extra = brought(set(self.before["packages"]), asked, packages_here())
        except ImportError:
            # The note of what was before stays as well, for the next run.
            sys.exit("python3-apt is not installed, so packages stay: install it, then run again")
        apt = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "DPkg::Lock::Timeout=300"]
        if extra:
            self.do(f"packages {' '.join(extra)} are removed",
                    lambda: must(*apt, "--yes", "purge", *extra))  # fmt: skip
        # Role swap removes no other, and role os installs none that makes apt remove one.
        zram = "systemd-zram-generator"
        if zram in self.before["packages"] and not is_installed(zram):
            self.do(f"{zram} is installed again", lambda: must(*apt, "--yes", "install", zram))

    def folders(self) -> None:
        """Folders that were not there before and have nothing in them."""
        from_note = [
            "/etc/systemd/journald.conf.d", "/etc/rpi/swap.conf.d", "/etc/rpi",
            "/etc/systemd/zram-generator.conf.d", "/etc/sysusers.d", "/etc/tmpfiles.d",
            "/usr/local/lib/systemd/system", "/usr/local/lib/systemd",
        ]  # fmt: skip
        homes = [home / ".ansible" for home in (*Path("/home").glob("*"), Path("/root"))]
        for home in homes:
            from_note += [str(home / "tmp"), str(home)]
        for name in from_note:
            path = Path(name)
            here = name not in self.before["there"] and path.is_dir()
            if here and not has_files(path):
                self.do(f"{name} is removed", lambda path=path: rmtree(path))

    def in_force(self) -> None:
        """systemd and what makes swap read what is left, of a run that broke off as well."""
        if not (self.gone or self.before):
            return
        self.do("systemd reads its units anew", lambda: run("systemctl", "daemon-reload"))
        if any("journald" in name for name in self.gone):
            self.do("the journal restarts", lambda: run("systemctl", "restart", "systemd-journald"))
        for unit in (self.before or {}).get("enabled", []):
            if run("systemctl", "is-enabled", unit) != "enabled\n":
                self.do(
                    f"{unit} is enabled again", lambda unit=unit: run("systemctl", "enable", unit)
                )
            if unit in ("dphys-swapfile.service", "zramswap.service"):
                self.do(
                    f"{unit} makes its swap", lambda unit=unit: run("systemctl", "restart", unit)
                )
            if unit == "dphys-swapfile.service" and self.asked["act"]:
                self.text("/etc/fstab")  # in which it moves its comment to the end


def restored(name: str, now: str | None, before: str | None, swap: str) -> str | None:
    """A file of the system's without what roles did to it; what others did since stays."""
    if now is None:
        return now
    lines, old = now.splitlines(), (before or "").splitlines()
    if name == "/etc/hosts":
        if BEGIN in " ".join(lines):
            begin = next(n for n, line in enumerate(lines) if line.startswith(BEGIN))
            end = next((n for n, line in enumerate(lines) if line.startswith(END)), begin)
            del lines[begin : end + 1]
        lines = swapped(lines, old, "127.0.1.1")
    elif name == "/etc/fstab":
        # Role swap makes comments of what is not wanted, be it its own line of another time.
        lines = [
            x[2:] if x not in old and x.startswith("# ") and x[2:] in old else x for x in lines
        ]
        ours = fstab_line(swap)
        lines = [x for x in lines if x in old or x.removeprefix("# ").split() != ours]
        # dphys-swapfile moves its comment to the end.
        if [x for x in lines if x[:1] != "#"] == [x for x in old if x[:1] != "#"]:
            lines = old if sorted(lines) == sorted(old) else lines
    elif name == "/etc/default/locale":
        lines = swapped(lines, old, "LANG=")
    elif name == "/etc/dphys-swapfile":
        for key in ("CONF_SWAPSIZE=", "CONF_MAXSWAP="):
            lines = swapped(lines, old, key, f"#{key}")
    elif name.endswith("cmdline.txt"):
        if "cgroup_enable=memory" not in (before or ""):
            lines = [line.replace(" cgroup_enable=memory", "") for line in lines]
    else:
        return before
    if before is None and not lines:
        return None
    text = "\n".join(lines) + "\n"
    # Whoever wrote a file without an end to its last line finds it so.
    return before if before is not None and text.strip() == before.strip() else text


def fstab_line(swap: str) -> list[str]:
    """How role swap writes a swap file into fstab."""
    return [swap, "none", "swap", "sw", "0", "0"]


def dismiss(name: str) -> None:
    """Remove an account of ours, with its sessions at the gate. Ends with what userdel says."""
    uid = pwd.getpwnam(name).pw_uid
    for _ in range(50):
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended
                if f"\nUid:\t{uid}\t" in (process / "status").read_text(errors="replace"):
                    os.kill(int(process.name), signal.SIGKILL)
        if subprocess.run(["userdel", name], capture_output=True, check=False).returncode != BUSY:
            break
        time.sleep(0.1)
    if run("getent", "passwd", name):
        must("userdel", name)


def make(swap: Path, size: int) -> None:
    """Make a swap file; what is unfinished has another name."""
    new = Path(f"{swap}.new")
    must("fallocate", "--length", str(size), str(new))
    new.chmod(0o600)
    must("mkswap", str(new))
    new.rename(swap)


def swapped(lines: list[str], old: list[str], *begins: str) -> list[str]:
    """Lines in which those with a begin are as they were before."""
    theirs = [line for line in old if line.startswith(begins)]
    ours = [line for line in lines if line.startswith(begins)]
    if ours == theirs:
        return lines
    at = next((n for n, line in enumerate(lines) if line in ours), len(lines))
    rest = [line for line in lines if line not in ours]
    return rest[:at] + theirs + rest[at:]


def is_installed(name: str) -> bool:
    """Whether a package is there, and not only its settings: apt removes without them."""
    return run("dpkg-query", "-Wf", "${db:Status-Status}", name) == "installed"


class Package(NamedTuple):
    """An installed package: who wanted it, and the installed ones that answer each dependency."""

    auto: bool
    needs: list[set[str]]
    recommends: list[set[str]]


def packages_here() -> dict[str, Package]:
    """Every installed package by its name. Raises ImportError without python3-apt."""
    import apt

    def answers(version: apt.package.Version, *kinds: str) -> list[set[str]]:
        groups = version.get_dependencies(*kinds)
        return [
            {v.package.shortname for d in g for v in d.installed_target_versions} for g in groups
        ]

    return {
        p.shortname: Package(
            p.is_auto_installed,
            answers(p.installed, "PreDepends", "Depends"),
            answers(p.installed, "Recommends"),
        )
        for p in apt.Cache()
        if p.is_installed
    }


def brought(before: set[str], asked: set[str], here: dict[str, Package]) -> list[str]:
    """Packages that came by the roles: since, asked for or for what was asked for, and not needed.

    What the owner has installed since (apt calls it manual) stays with all that it needs, and so
    does what an upgrade of others has brought, such as a kernel.
    """
    extra = set(here) - before
    ours, own = extra & asked, {n for n in extra - asked if not here[n].auto}
    came = ours | reached(ours, extra, here, recommended=True)
    needed = own | reached(own, extra, here, recommended=True)
    needed |= reached(before & set(here), extra, here, recommended=False)
    return sorted(came - needed)


def reached(
    begin: set[str], extra: set[str], here: dict[str, Package], recommended: bool
) -> set[str]:
    """What some packages need of those that came since, and what that needs in its turn."""
    found, look = set(), sorted(begin)
    while look:
        package = here[look.pop()]
        for answers in package.needs + (package.recommends if recommended else []):
            # What was there before is enough where it answers.
            if answers <= extra:
                look += answers - found
                found |= answers
    return found


def has_files(folder: Path, but: str = "") -> bool:
    """Whether there is anything but folders in it, and files of one name."""
    return any(not path.is_dir() and path.name != but for path in folder.rglob("*"))


def keep(worth: list[Path], place: Path) -> None:
    """Move what is worth keeping to where root alone reads it."""
    KEPT.mkdir(mode=0o700, exist_ok=True)
    for path in worth:
        new = place / path.relative_to(STATE)
        new.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.rename(new)
    run("chown", "-R", "root:root", str(place))


def put(path: Path, text: str) -> None:
    """Change a file in its place: podman's /etc/hosts cannot be replaced, a card has no owners."""
    with path.open("w", errors="surrogateescape") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def relink(link: Path, target: str | None) -> None:
    """Make a link point where it did."""
    link.unlink(missing_ok=True)
    if target:
        link.symlink_to(target)


def rmtree(folder: Path) -> None:
    """Remove a folder, its note last: what is interrupted is finished by the next run."""
    for path in sorted(folder.iterdir()):
        if path != NOTE:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    shutil.rmtree(folder)


def run(*command: str) -> str:
    """What a command prints, whatever its status."""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def must(*command: str) -> None:
    """Run a command. Ends with what it says if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-1000:]}{done.stderr[-1000:]}")


if __name__ == "__main__":
    Undo(json.load(sys.stdin)).everything()
