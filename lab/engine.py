"""Finds out how this machine runs the lab's containers, and prints it as JSON.

podman as root or as the user, runc or crun, cgroup v1 or v2, AppArmor, memory limits: nothing of
it is asked for, all of it is looked at. `playbooks/lab_up.yml` and `lab_down.yml` read the JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "lab"
# What playbooks make beside the inventory.
GENERATED = ("ports.yml", "known_hosts", "known_hosts.old", "known_nodes", "keys")
IMAGES = CACHE / "images"  # what other clones may link to: it names no clone
LABEL = "org.fedrnn.lab"
PATH_LABEL = "org.fedrnn.path"  # the clone's path, percent-encoded: podman splits labels at spaces


class LabError(Exception):
    """The lab cannot run here; the text says what was found and what to do."""


def lab_id(root: Path = ROOT) -> str:
    """Eight hex digits of the clone's path, so that two clones have two labs."""
    return hashlib.sha256(os.fsencode(root)).hexdigest()[:8]


def labels() -> list[str]:
    """What this clone's containers, network and images are labelled with."""
    return [f"{LABEL}={lab_id()}", f"{PATH_LABEL}={quote(os.fsencode(ROOT))}"]


def need(program: str, package: str) -> str:
    """Path of `program`; LabError names the package when it is missing."""
    # Debian keeps ip and nsenter where an ordinary user's PATH does not look.
    path = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        raise LabError(
            f"{program} is not installed on this machine. Install it with"
            f" `sudo apt-get install {package}`, or let `make system` do so."
        )
    return path


def cgroup2() -> bool:
    """Whether cgroup v2 is the only hierarchy here (crun refuses the hybrid of both)."""
    return Path("/sys/fs/cgroup/cgroup.controllers").exists()


def is_rootless() -> bool:
    """An ordinary user runs containers of its own on cgroup v2; elsewhere root must."""
    return os.getuid() != 0 and cgroup2()


def privileges() -> list[str]:
    """The prefix under which podman runs; LabError when it needs sudo and cannot have it."""
    if os.getuid() == 0 or is_rootless():
        return []
    sudo = shutil.which("sudo")
    if (
        sudo
        and subprocess.run([sudo, "-n", "true"], capture_output=True, check=False).returncode == 0
    ):
        return [sudo, "-n"]
    raise LabError(
        "This machine has cgroup v1, where podman needs root, and sudo asks for a password here."
        " Boot with cgroup v2 (systemd.unified_cgroup_hierarchy=1 on the kernel's command line),"
        " allow this account sudo without a password, or run as root."
    )


def runtime() -> str:
    """`crun` where it works, `runc` on cgroup v1."""
    if not cgroup2():
        need("runc", "runc")
        return "runc"
    return "crun" if shutil.which("crun") else Path(need("runc", "crun")).name


def session() -> Path | None:
    """The folder of this account's systemd session, None where su, sudo -u or cron started us."""
    folder = Path(f"/run/user/{os.getuid()}")
    return folder if os.access(folder / "bus", os.R_OK | os.W_OK) else None


def cgroup_manager() -> str:
    """`systemd` where podman can ask one for a scope, else `cgroupfs`."""
    if not cgroup2() or not Path("/run/systemd/system").exists():
        return "cgroupfs"
    return "systemd" if os.getuid() == 0 or session() else "cgroupfs"


def own_cgroup() -> Path:
    """The control group of this process, on cgroup v2."""
    told = Path("/proc/self/cgroup").read_text(encoding="utf-8")
    return Path(f"/sys/fs/cgroup/{told.strip().rpartition('::')[2]}")


def memory_limit_works() -> bool:
    """Whether the kernel lets podman limit a container's memory."""
    if not cgroup2():
        return Path("/sys/fs/cgroup/memory").exists()
    controllers = Path("/sys/fs/cgroup/cgroup.controllers")
    if is_rootless():
        if cgroup_manager() != "systemd":
            return False
        uid = os.getuid()
        controllers = Path(
            f"/sys/fs/cgroup/user.slice/user-{uid}.slice/user@{uid}.service/cgroup.controllers"
        )
    return controllers.exists() and "memory" in controllers.read_text().split()


def apparmor() -> bool:
    """Whether AppArmor is on: podman's profile forbids systemd's sandboxes their mounts."""
    flag = Path("/sys/module/apparmor/parameters/enabled")
    if is_rootless() or not flag.exists():
        return False
    return not os.access(flag, os.R_OK) or flag.read_text(encoding="utf-8").strip() == "Y"


def run_flags() -> list[str]:
    """Flags of `podman run` that depend on this machine."""
    flags = []
    # podman's own defaults are above what a container host may raise its limits to.
    for name, limit, most in (
        ("nofile", resource.RLIMIT_NOFILE, 1 << 20),
        ("nproc", resource.RLIMIT_NPROC, 1 << 15),
    ):
        hard = resource.getrlimit(limit)[1]
        value = most if hard == resource.RLIM_INFINITY else min(hard, most)
        flags += ["--ulimit", f"{name}={value}:{value}"]
    if memory_limit_works():
        flags += ["--memory", "1g"]
    if apparmor():
        flags += ["--security-opt", "apparmor=unconfined"]
    return flags


def write_configuration() -> Path:
    """containers.conf of the lab's own, with the hook that takes the default route; its path.

    The hook runs in the node's network before its first process does, at every start, and
    podman's own restarts read this file as well: no node is ever on a network with a way out.
    """
    hooks = CACHE / "hooks"
    hooks.mkdir(parents=True, exist_ok=True)
    ip = need("ip", "iproute2")
    hook = {
        "version": "1.0.0",
        "hook": {"path": ip, "args": ["ip", "route", "flush", "exact", "default"]},
        "when": {"annotations": {f"^{re.escape(LABEL)}$": f"^{lab_id()}$"}},
        "stages": ["createContainer"],
    }
    _write(hooks / "no-default-route.json", json.dumps(hook, indent=2) + "\n")
    template = (ROOT / "lab" / "containers.conf").read_text(encoding="utf-8")
    path = CACHE / "containers.conf"
    _write(path, template.replace("@HOOKS@", json.dumps(str(hooks))))
    return path


def _write(path: Path, text: str) -> None:
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def run_dir(root: Path = ROOT) -> Path:
    """A private folder with a short path: a Unix socket's has at most 107 bytes, a clone's may not.

    Raises LabError when somebody else made the folder first.
    """
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    if not base or not os.access(base, os.W_OK) or " " in base or len(base) > 40:
        base = tempfile.gettempdir() if len(tempfile.gettempdir()) <= 40 else "/tmp"  # noqa: S108 - a private folder is made there
    path = Path(base) / f"fedrnn-{os.getuid()}-{lab_id(root)}"
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.lstat()
    if status.st_uid != os.getuid() or path.is_symlink() or status.st_mode & 0o077:
        raise LabError(f"{path} is not a private folder of yours. Remove it and try again.")
    return path


def podman_command() -> list[str]:
    """The argument list that starts podman for the lab, to be followed by its subcommand."""
    podman = need("podman", "podman")
    environment = ["env", f"CONTAINERS_CONF={write_configuration()}"]
    if is_rootless() and (folder := session()):  # su keeps the variables of who was there before
        environment += [
            f"XDG_RUNTIME_DIR={folder}",
            f"DBUS_SESSION_BUS_ADDRESS=unix:path={folder}/bus",
        ]
    options = ["--runtime", runtime(), "--cgroup-manager", cgroup_manager()]
    return [*privileges(), *environment, podman, *options]


def check_machine() -> None:
    """Raises LabError for what podman and mmdebstrap would only tell in riddles."""
    need("mmdebstrap", "mmdebstrap")
    if not any(shutil.which(tool, path="/usr/sbin:/usr/bin:/sbin") for tool in ("iptables", "nft")):
        need("iptables", "iptables")
    if is_rootless():
        check_account(pwd.getpwuid(os.getuid()).pw_name)


def check_account(user: str) -> None:
    """Raises LabError where this account, which is not root, cannot run a node of its own."""
    for name in ("/etc/subuid", "/etc/subgid"):
        file = Path(name)
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        if not any(line.startswith((f"{user}:", f"{os.getuid()}:")) for line in lines):
            raise LabError(
                f"{name} gives {user} no range of ids, which containers of an ordinary user need."
                f" `sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}`"
                " adds one, if nobody else has that range."
            )
    if cgroup_manager() == "cgroupfs" and not os.access(own_cgroup(), os.W_OK):
        raise LabError(
            f"{user} has no systemd session here, and without one podman cannot give a node the"
            " control group that the node's systemd needs. su, sudo -u and cron start none: log in"
            f" over SSH or at the console, or run `sudo loginctl enable-linger {user}` once."
        )


def describe() -> dict[str, object]:
    """What the playbooks need to know; everything is JSON. The image of a suite, and its file's
    name, are `image` and `images` with the suite behind a hyphen."""
    podman = podman_command()
    check_machine()
    IMAGES.mkdir(parents=True, exist_ok=True)
    recipe = hashlib.sha256((ROOT / "lab" / "image.sh").read_bytes()).hexdigest()[:12]
    return {
        "label": f"{LABEL}={lab_id()}",
        "labels": labels(),
        "podman": podman,
        "run_flags": run_flags(),
        "run_dir": str(run_dir()),
        "prefix": f"fedrnn-{lab_id()}",
        "images": str(IMAGES / recipe),
        "sources": str(IMAGES / f"{recipe}.sources"),
        "image": f"localhost/fedrnn-lab-{lab_id()}:{recipe}",
    }


if __name__ == "__main__":
    try:
        print(json.dumps(describe()))
    except LabError as error:
        sys.exit(str(error))
