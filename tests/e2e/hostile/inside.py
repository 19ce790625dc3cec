"""A job that tries to get out of its sandbox; what came of each try is its output.

Each try is a line of `outputs/tries.json`: `OPEN` when it worked, else the error. The lists hold
what was found open.
"""

import contextlib
import ctypes
import json
import os
import socket
import stat
import subprocess
from pathlib import Path

libc = ctypes.CDLL(None, use_errno=True)
# Of x86-64 and of arm64.
NUMBERS = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "mount": (165, 40), "umount2": (166, 39),
    "unshare": (272, 97), "setns": (308, 268), "chroot": (161, 51), "pivot_root": (155, 41),
    "init_module": (175, 105), "bpf": (321, 280), "perf_event_open": (298, 241),
    "add_key": (248, 217), "keyctl": (250, 219), "reboot": (169, 142), "swapon": (167, 224),
    "sethostname": (170, 161), "settimeofday": (164, 170), "kexec_load": (246, 104),
    "open_by_handle_at": (304, 265), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "syslog": (103, 116), "acct": (163, 89), "quotactl": (179, 60),
}  # fmt: skip
tries: dict[str, str] = {}


def attempt(name, work):
    try:
        result = work()
        tries[name] = "OPEN" if result is None else f"OPEN {result!r}"[:200]
    except BaseException as error:
        tries[name] = f"{type(error).__name__}: {error}"[:200]


def syscall(name, *words):
    number = NUMBERS[name][0 if os.uname().machine == "x86_64" else 1]
    if libc.syscall(number, *words) == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def read(path):
    path = Path(path)
    if path.is_dir():
        return os.listdir(path)
    with path.open("rb") as file:
        return file.read(80)


def everything():
    """All files and folders that this job can see, but those of the kernel."""
    for folder, folders, files in os.walk("/"):
        if folder == "/":
            folders[:] = [f for f in folders if f not in ("proc", "sys")]
        yield Path(folder), files


# What it may, so that the tries can succeed at all.
data = Path(os.environ["FEDRNN_DATA"])
rows = sum(len(file.read_text().splitlines()) for file in data.glob("*.txt"))

# Reading.
for path in [
    "/etc/shadow", "/etc/sudoers", "/root", "/home/pi", "/etc/fedrnn", "/etc/fedrnn/datasite.json",
    "/etc/fedrnn/approved_jobs.json", "/etc/fedrnn/researchers.keys", "/opt/fedrnn/lib",
    "/opt/fedrnn/lib/fedrnn/owner.py", "/var/lib/fedrnn/decisions.jsonl", "/var/lib/fedrnn/mailbox",
    "/var/lib/fedrnn/published", "/var/lib/fedrnn/archive", "/var/lib/fedrnn/share",
    "/var/lib/fedrnn/SyftBox/.names.json", "/var/lib/fedrnn/SyftBox/.names.sha256",
    f"/var/lib/fedrnn/SyftBox/{os.environ['SYFTBOX_EMAIL']}/app_data", "/var/log/private",
    "/run/systemd/private", "/run/dbus/system_bus_socket", "/run/log", "/run/fedrnn/launch",
    "/proc/1/environ", "/proc/1/root", "/proc/1/mem", "/proc/1/fd", "/proc/kcore", "/proc/kmsg",
    "/dev/mem", "/dev/kmsg", "/dev/fuse", "/dev/sda", "/sys/kernel/debug/x",
    *map(str, Path("/etc/ssh").glob("ssh_host_*_key")),
]:  # fmt: skip
    attempt(f"read {path}", lambda path=path: read(path))
lists = {
    "host keys": [str(p) for p in Path("/etc/ssh").glob("ssh_host_*_key")],
    "processes": [
        Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        for pid in os.listdir("/proc") if pid.isdigit() and os.path.exists(f"/proc/{pid}/cmdline")
    ],
    "jobs": os.listdir("/var/lib/fedrnn/jobs"),
    "run": os.listdir("/run"), "run/fedrnn": os.listdir("/run/fedrnn"),
    "var": sorted(os.listdir("/var/lib/fedrnn")),
    "box": sorted(os.listdir(data.parents[1].parent)),
    "tmp": os.listdir("/tmp"), "environment": sorted(os.environ),
    "descriptors": sorted(os.readlink(f"/proc/self/fd/{n}") for n in (0, 1, 2)),
    "interfaces": [line.split(":")[0].strip()
                   for line in Path("/proc/net/dev").read_text().splitlines()[2:]],
    "may": dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines()
                if line.startswith(("Cap", "NoNewPrivs", "Seccomp:"))),
}  # fmt: skip

# Writing, wherever there is anything.
created, opened, sockets, privileged, secret = [], [], [], [], []
for folder, files in everything():
    probe = folder / f".probe-{os.getpid()}"
    with contextlib.suppress(OSError):
        os.close(os.open(probe, os.O_CREAT | os.O_WRONLY | os.O_EXCL))
        created.append(str(folder))
        probe.unlink()
    for name in files:
        path = folder / name
        try:
            mode = path.lstat().st_mode
        except OSError:
            continue
        if stat.S_ISSOCK(mode):
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                sockets.append(str(path))
        elif stat.S_ISREG(mode):
            if mode & (stat.S_ISUID | stat.S_ISGID) and mode & 0o111:
                privileged.append(str(path))
            with contextlib.suppress(OSError):
                os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
                opened.append(str(path))
            if not mode & stat.S_IROTH:
                with contextlib.suppress(OSError):
                    os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
                    secret.append(str(path))
        elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            with contextlib.suppress(OSError):
                os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY))
                opened.append(str(path))
lists |= {"created": created, "opened": opened, "sockets": sockets, "privileged": privileged,
          "secret": secret}  # fmt: skip
outputs = Path("outputs").resolve()
for name, target in {
    "data": next(data.glob("*.txt")), "run.sh": Path("../run.sh"), "stdout": Path("../stdout.txt"),
}.items():  # fmt: skip
    attempt(f"link {name}", lambda target=target, name=name: os.link(target, outputs / name))
attempt("replace outputs", lambda: outputs.rename(outputs.with_name("other")))
attempt("remove run.sh", lambda: os.unlink("../run.sh"))
attempt("chmod code", lambda: os.chmod(".", 0o777))
attempt("write /proc/sys", lambda: Path("/proc/sys/kernel/hostname").write_text("x"))
attempt("write /sys", lambda: Path("/sys/kernel/mm/ksm/run").write_text("0"))
attempt("oom_score", lambda: Path("/proc/self/oom_score_adj").write_text("-1000"))
attempt("cgroup", lambda: [p.write_text(str(os.getpid())) for p in
                           (Path("/sys/fs/cgroup/cgroup.procs"),
                            Path("/sys/fs/cgroup/systemd/cgroup.procs"))
                           if p.exists()])  # fmt: skip

# The network.
for family in ("AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET", "AF_VSOCK", "AF_ALG", "AF_CAN"):
    for kind in ("SOCK_STREAM", "SOCK_DGRAM", "SOCK_RAW"):
        attempt(
            f"socket {family} {kind}",
            lambda f=family, k=kind: socket.socket(getattr(socket, f), getattr(socket, k)).close(),
        )
for host in ("10.88.0.1", "127.0.0.1", "1.1.1.1", "::1"):
    attempt(f"tcp {host}", lambda host=host: socket.create_connection((host, 22), 2).close())
attempt("dns", lambda: socket.getaddrinfo("example.org", 80))
attempt(
    "abstract socket of another",
    lambda: socket.socket(socket.AF_UNIX).connect("\0fedrnn-test-abstract"),
)
for path in ("/run/fedrnn/launch", "/run/dbus/system_bus_socket", "/run/systemd/private",
             "/run/systemd/journal/stdout", "/run/systemd/notify", "/dev/log",
             "/run/systemd/io.system.ManagedOOM", "/run/systemd/userdb/io.systemd.DynamicUser",
             "/var/run/dbus/system_bus_socket"):  # fmt: skip
    attempt(f"connect {path}", lambda path=path: socket.socket(socket.AF_UNIX).connect(path))

# Privileges.
for program in privileged:

    def run(program=program):
        done = subprocess.run(
            [program, *{"sudo": ["-n"], "su": ["-c"]}.get(Path(program).name, []), "id"],
            capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=1,
        )  # fmt: skip
        if "uid=0" not in done.stdout:
            raise PermissionError(done.stderr[-100:])

    attempt(f"run {program}", run)
for command in ("systemctl start fedrnn-job@x.service", "systemctl stop fedrnn-datasite.path",
                "systemd-run true", "busctl list", "mount -t tmpfs none /mnt", "unshare -Ur true",
                "unshare -n true", "nsenter -t 1 -m true", "/usr/sbin/chroot / true",
                "/usr/local/bin/fedrnn-owner list",
                "kill -9 1", "ip link", "setpriv --reuid=0 true", "dmesg", "mknod outputs/d c 1 1",
                "chmod 4755 outputs", "sudo -n true"):  # fmt: skip
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=20,
                          stdin=subprocess.DEVNULL)  # fmt: skip
    tries[f"command {command}"] = "OPEN" if done.returncode == 0 else done.stderr[-200:] or "no"
memory = ctypes.create_string_buffer(8)
piece = ctypes.pointer((ctypes.c_size_t * 2)(ctypes.addressof(memory), 8))  # struct iovec
for name, words in {
    "ptrace": (16, 1, 0, 0), "process_vm_readv": (1, piece, 1, piece, 1, 0),
    "mount": (b"a", b"/mnt", b"tmpfs", 0, 0), "umount2": (b"/var/lib/fedrnn", 2),
    "unshare": (0x10000000,), "setns": (0, 0), "chroot": (b"/",),
    "pivot_root": (b"/", b"/mnt"), "init_module": (0, 0, b""), "bpf": (0, 0, 0),
    "perf_event_open": (0, 0, -1, -1, 0), "add_key": (b"user", b"a", b"b", 1, -4),
    "keyctl": (0, -3, 1),
    "reboot": (0, 0, 0, 0), "swapon": (b"/x", 0), "sethostname": (b"x", 1), "settimeofday": (0, 0),
    "kexec_load": (0, 0, 0, 0), "open_by_handle_at": (0, 0, 0), "userfaultfd": (0,),
    "io_uring_setup": (1, 0), "syslog": (3, 0, 0), "acct": (0,), "quotactl": (0, 0, 0, 0),
}.items():  # fmt: skip
    attempt(f"syscall {name}", lambda n=name, w=words: syscall(n, *w))
for namespace, flag in {  # of <linux/sched.h>
    "NEWNS": 0x20000, "NEWUTS": 0x4000000, "NEWIPC": 0x8000000, "NEWUSER": 0x10000000,
    "NEWPID": 0x20000000, "NEWNET": 0x40000000, "NEWCGROUP": 0x2000000,
}.items():  # fmt: skip
    attempt(f"unshare {namespace}", lambda flag=flag: syscall("unshare", flag))
attempt("setuid", lambda: os.setuid(0))
attempt("setgid", lambda: os.setgid(0))
attempt("setgroups", lambda: os.setgroups([0]))
attempt("kill 1", lambda: os.kill(1, 0))
attempt("nice", lambda: os.nice(-5))
script = outputs / "setuid"
script.write_text("#!/bin/sh\n")
attempt("setuid bit", lambda: script.chmod(0o4755))
attempt("setgid bit", lambda: script.chmod(0o2755))
attempt("give away", lambda: os.chown(script, 0, 0))
script.unlink()
Path("outputs/tries.json").write_text(
    json.dumps({"tries": tries, "lists": lists, "rows": rows, "uid": os.getuid()})
)
