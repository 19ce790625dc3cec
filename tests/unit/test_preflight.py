"""Every problem that preflight can find, from the answers of a node that has it.

HEALTHY is what probe.sh prints on a Pi 3B with Raspberry Pi OS Bookworm, 64-bit. What only a board
can tell (voltage, heat, firmware, wifi) is told here in the words of the real commands.
"""

import base64
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = ROOT / "roles" / "preflight" / "files"
sys.path.insert(0, str(FILES))
from findings import KINDS  # noqa: E402
from judge import judge  # noqa: E402
from questions import QUESTIONS, malformed  # noqa: E402

HEALTHY = {
    "clock": "1795595365\n1795595367",
    "root": "yes",
    "home": "/home/pi\nusable",
    "release": "debian\n12",
    "kernel": "aarch64",
    "userland": "arm64",
    "python": "3.11",
    "model": "Raspberry Pi 3 Model B Rev 1.2",
    "features": "Features : fp asimd evtstrm crc32 cpuid",
    "hostname": "pi1",
    "machine": "e6e3a428965a50d2b4219dc05fd479b8",
    "addresses": r"2: eth0    inet 192.168.1.21/24 brd 192.168.1.255 scope global eth0\  forever",
    "routes": "default via 192.168.1.1 dev eth0 proto dhcp src 192.168.1.21 metric 100",
    "memory": "MemTotal:         925696 kB",
    "controllers": "cpuset cpu io memory pids",
    "swaps": "/var/swap                               file\t\t524284\t\t0\t\t-2",
    "swap_makers": "dphys-swapfile",
    "disk": "/dev/root         30270332 4023014  24886120      14% /",
    "mounts": "/dev/mmcblk0p2 / ext4 rw,noatime 0 0\n"
    "/dev/mmcblk0p1 /boot/firmware vfat rw,relatime,fmask=0022,errors=remount-ro 0 0",
    "write": "612",
    "names": "yes deb.debian.org",
    "sites": "yes www.debian.org\nyes www.raspberrypi.com",
    "kernel_log": "[    7.1] brcmfmac: brcmf_c_preinit_dcmds: Firmware: BCM43430/1 wl0: Jul 2021",
    "temperature": "48312",
    "throttled": "throttled=0x0",
    "wifi": "/sys/class/net/wlan0/wireless",
    "rfkill": "bluetooth 0\nwlan 0",
    "packages": "adduser\npython3\nzlib1g",
    "stray": "",
    "apt_locks": "",
    "unconfigured": "",
    "end": "",
}
BLOBS = ["AAAAC3NzaC1lZDI1NTE5AAAAI" + letter * 43 for letter in "AB"]
A, B = (f"ssh-ed25519 {blob}" for blob in BLOBS)


def fingerprint(blob: str) -> str:
    digest = hashlib.sha256(base64.b64decode(blob)).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


OF_A, OF_B = map(fingerprint, BLOBS)


def bound(sender: str, key: str) -> str:
    """A line of researchers.keys, as role pysyft writes it."""
    return f'restrict,command="exec /opt/fedrnn/bin/gate --sender {sender}" {key} comment'


LOCKS = {
    "aarch64-cp311": "numpy==2.4.6\ntorch==2.9.1 --hash=sha256:0\n",
    "aarch64-cp313": "torch==2.10.0 --hash=sha256:0\n",
    "aarch64-cp312": "torch==2.13.0 --hash=sha256:0\n",
    "x86_64-cp311": "torch==2.13.0+cpu --hash=sha256:0\n",
    "x86_64-cp312": "nvidia-cublas-cu12==12.6\ntorch==2.13.0 --hash=sha256:0\n",
}


def said(**answers: str) -> str:
    """Return what probe.sh prints on the healthy node, with other answers to some questions."""
    return "\n".join(f"\n@ {name}\n{text}" for name, text in {**HEALTHY, **answers}.items())


def node(answer: str, **more: object) -> dict:
    return {
        "address": "192.168.1.21",
        "port": 22,
        "user": "pi",
        "known_as": "192.168.1.21",
        "inventory": "/home/me/fedrnn/inventory/home",
        "known_hosts": "/home/me/fedrnn/inventory/home/known_hosts",
        "variables": ["ansible_host", "swap_size", "inventory_hostname"],
        "unreachable": False,
        "said": "",
        "answer": answer,
        "researchers": [{"email": "a@b.c", "file": "keys/researcher.pub", "text": f"{A} a@b.c\n"}],
        "retired": [],
        **more,
    }


def report_on(tmp_path: Path, inventory: tuple = (), only: bool = False, **nodes: dict) -> dict:
    locks = tmp_path / "locks"
    locks.mkdir(exist_ok=True)
    for name, text in LOCKS.items():
        (locks / f"{name}.txt").write_text(text)
    for role, option in (("swap", "swap_size"), ("os", "os_timezone")):
        specs = tmp_path / role / "meta" / "argument_specs.yml"
        specs.parent.mkdir(parents=True, exist_ok=True)
        specs.write_text(f"argument_specs: {{main: {{options: {{{option}: {{type: str}}}}}}}}\n")
    (tmp_path / "swap" / "vars").mkdir(exist_ok=True)
    (tmp_path / "swap" / "vars" / "main.yml").write_text("swap_is_hosts: x\n")
    wanted = {
        "distributions": {"debian": "11", "ubuntu": "24.04"},
        "python": "3.11",
        "memory": 380,
        "memory_and_swap": 850,
        "disk": 3072,
        "disk_provisioned": 256,
        "disk_speed": 2.0,
        "clock": 60,
        "internet": True,
        "locks": str(locks),
    }
    question = {"roles": str(tmp_path), "wanted": wanted, "nodes": nodes, "identity_only": only}
    return judge({**question, "inventory": inventory or [[name, "", 22, ""] for name in nodes]})


def found(report: dict) -> list[tuple[str, str]]:
    return [(one["node"], one["finding"]) for one in report["findings"]]


MMC = "[  812.4] mmc0: cache flush error -110\n[  812.5] I/O error, dev mmcblk0, sector 71304"
EXT4 = "[ 90.1] EXT4-fs error (device mmcblk0p2): ext4_lookup:1785: inode #1042: comm apt: bad"
BRCM = (
    "[ 6.8] brcmfmac mmc1:0001:1: Direct firmware load for brcm/brcmfmac43430-sdio.bin failed"
    " with error -2"
)

CASES = {
    "sudo": [({"root": "sudo: a password is required"}, "a password is required")],
    "operator": [({"user": "fedrnn"}, "is reached as fedrnn"), ({"user": "fedrnn-x"}, "fedrnn-x")],
    "foreign-account": [
        ({"foreign": "account fedrnn\ngroup fedrnn\ngroup fedrnn-job"},
         "account fedrnn, group fedrnn, group fedrnn-job"),
    ],
    "researcher-key": [
        ({"researchers": bound("a@b.c", B)}, f"-e pysyft_retired_keys={OF_B}"),
        ({"researchers": f"{bound('a@b.c', A)}\n{bound('a@b.c', B)}"}, f"inventory has {OF_A}"),
    ],
    "researcher-missing": [
        ({"researchers": f"{bound('a@b.c', A)}\n{bound('d@e.f', A)}"}, f"d@e.f by the key {OF_A}"),
    ],
    "researcher-lines": [
        ({"researchers": B}, "did not write and would remove: 1"),
        ({"researchers": bound('a@b.c" no-x', A)}, "would remove: 1"),
    ],
    "home": [({"home": "/home/pi"}, "/home/pi")],
    "release": [
        ({"release": "debian\n10"}, "debian 10"),
        ({"release": "arch"}, "arch"),
        ({"release": "ubuntu\n22.04"}, "24.04"),
    ],
    "32-bit": [({"userland": "armhf"}, "armhf")],
    "python": [({"python": ""}, "no Python")],
    "old-python": [({"python": "3.9"}, "site.yml builds Python 3.11 beside it")],
    "lock": [({"python": "3.14"}, "aarch64-cp314")],
    "torch-atomics": [({"python": "3.13"}, "SIGILL")],
    "torch-cuda": [
        ({"python": "3.12"}, "3 GB of CUDA"),
        ({"userland": "amd64", "python": "3.12"}, "2.13.0"),
    ],
    "apt-python": [({"packages": "python3\npython3-numpy"}, "python3-numpy from apt")],
    "stray-python": [
        ({"stray": "/home/pi/.local/lib/python3.11/site-packages/torchvision"}, "torchvision")
    ],
    "memory": [
        ({"memory": "MemTotal: 372000 kB"}, "363 MiB"),
        ({"memory": "MemTotal: 925696 kB\n268435456"}, "256 MiB"),
    ],
    "swap": [({"memory": "MemTotal: 430080 kB", "swaps": ""}, "420 MiB of memory and 0 MiB")],
    "two-swaps": [({"swap_makers": "dphys-swapfile\n/etc/fstab"}, "dphys-swapfile, /etc/fstab")],
    "memory-limits": [({"controllers": "cpuset cpu io pids"}, "memory controller")],
    "disk-full": [
        ({"disk": "/dev/root 3870332 3023014 1024000 75% /"}, "1000 MiB free"),
        ({"installed": "yes", "disk": "/dev/root 3870332 3723014 102400 98% /"}, "256 MiB"),
    ],
    "disk-slow": [({"write": "9300"}, "0.9 MB/s")],
    "read-only": [({"mounts": "/dev/mmcblk0p2 / ext4 ro,noatime 0 0"}, "/ read-only")],
    "io-errors": [({"kernel_log": MMC}, "sector 71304"), ({"kernel_log": EXT4}, "inode #1042")],
    "under-voltage": [
        ({"throttled": "throttled=0x10001"}, "now"),
        ({"throttled": "throttled=0x10000"}, "since it was switched on"),
        ({"throttled": "10000"}, "0x10000"),
    ],
    "throttled": [
        ({"throttled": "throttled=0x20000"}, "frequency is capped"),
        ({"throttled": "throttled=0x80008"}, "now: soft limit of temperature"),
    ],
    "temperature": [({"temperature": "82515"}, "82 °C")],
    "clock": [
        ({"clock": "1795595365\n1795595426"}, "61 s"),
        ({"clock": "1795595365\n86400"}, "17955"),
    ],
    "route": [({"routes": "", "names": "no deb.debian.org"}, "no default route")],
    "names": [({"names": "no deb.debian.org"}, "deb.debian.org")],
    "site": [({"sites": "yes www.debian.org\nno www.raspberrypi.com"}, "not reach www.raspberry")],
    "wifi-firmware": [({"wifi": "", "kernel_log": BRCM}, "brcmfmac43430")],
    "wifi-country": [({"rfkill": "bluetooth 0\nwlan 1"}, "country")],
    "apt-lock": [
        ({"apt_locks": "/var/lib/dpkg/lock-frontend 812 unattended-upgr"}, "unattended-upgr"),
    ],
    "half-configured": [({"unconfigured": "python3-numpy\nlibc6"}, "python3-numpy libc6")],
    "malformed": [
        ({"address": "192.168.1.21 pi2"}, "malformed answer to: address"),
        ({"address": "192.168.1.21\n192.168.1.22"}, "malformed answer to: address"),
        ({"python": "../../../etc/3.11"}, "malformed answer to: python"),
        ({"python": "3.²"}, "malformed answer to: python"),
        ({"packages": "python3-numpy;reboot"}, "malformed answer to: packages"),
        ({"boot_file": "/boot/$(reboot)"}, "malformed answer to: boot_file"),
        ({"swap_own": "../../../../tmp/tasks"}, "malformed answer to: swap_own"),
        ({"disk": "/dev/root", "clock": "²\n²"}, "malformed answer to: clock, disk"),
        ({"swaps": f"/swapfile file {'9' * 5000} 0 -2"}, "malformed answer to: swaps"),
        ({"memory": "MemTotal: 9 kB\x1b[2J"}, "malformed answer to: memory"),
    ],
}  # fmt: skip
ONE_BY_ONE = [(kind, *case) for kind, cases in CASES.items() for case in cases]


def test_a_healthy_node_has_no_problem(tmp_path: Path) -> None:
    report = report_on(tmp_path, pi1=node(said()))
    assert report["findings"] == [] and report["stopped"] == [] and report["table"] == ""
    assert report["locks"] == {"pi1": "aarch64-cp311"}


@pytest.mark.parametrize(
    ("kind", "answers", "words"), ONE_BY_ONE, ids=[f"{c[0]}-{n}" for n, c in enumerate(ONE_BY_ONE)]
)
def test_a_problem_is_found_alone_and_in_words(
    tmp_path: Path, kind: str, answers: dict[str, str], words: str
) -> None:
    report = report_on(tmp_path, pi1=node(said(**answers)))
    assert found(report) == [("pi1", kind)]
    assert words in report["table"]
    assert report["stopped"] == (["pi1"] if KINDS[kind].stops else [])


def test_an_old_python_gets_the_lock_of_the_one_that_is_built(tmp_path: Path) -> None:
    built = {"pi1": node(said(python="3.9", python_built="2411c7" + 58 * "0"))}
    report = report_on(tmp_path, **built)
    assert report["findings"] == [] and report["locks"] == {"pi1": "aarch64-cp311"}


def test_every_bit_of_get_throttled_is_decoded(tmp_path: Path) -> None:
    report = report_on(tmp_path, pi1=node(said(throttled="throttled=0x50005")))
    assert found(report) == [("pi1", "under-voltage"), ("pi1", "throttled")]
    assert "throttled (get_throttled=0x50005)" in report["table"]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("unreachable", "ssh: connect to host 192.168.1.21 port 22: No route to host"),
        ("host-key", "Host key verification failed."),
        ("ssh-key", "pi@192.168.1.21: Permission denied (publickey,password)."),
    ],
)
def test_the_ways_in_which_ssh_says_no(tmp_path: Path, kind: str, words: str) -> None:
    report = report_on(tmp_path, pi1=node("", unreachable=True, said=words))
    assert found(report) == [("pi1", kind)]
    assert words in report["table"] and report["stopped"] == ["pi1"]


def test_a_shell_that_talks_is_told_from_one_that_answers(tmp_path: Path) -> None:
    report = report_on(tmp_path, pi1=node("Please login as the user ubuntu\n"))
    assert found(report) == [("pi1", "answer")]
    assert "Please login as the user" in report["table"]


def test_a_password_that_ansible_has_makes_root(tmp_path: Path) -> None:
    asks = said(root="sudo: a password is required")
    as_root = f"\n@ root\nyes\n@ researchers\n{bound('a@b.c', B)}\n"
    report = report_on(tmp_path, pi1=node(f"{asks}\n{as_root}"))
    assert found(report) == [("pi1", "researcher-key")]


def test_an_account_of_ours_is_no_operator_whatever_it_answers(tmp_path: Path) -> None:
    refused = node("refused: no verb\n", user="fedrnn")
    assert found(report_on(tmp_path, pi1=refused)) == [("pi1", "operator")]


def test_the_key_that_an_inventory_has_is_known(tmp_path: Path) -> None:
    assert found(report_on(tmp_path, pi1=node(said(researchers=bound("a@b.c", A))))) == []


def test_an_inventory_without_its_keys_is_stopped_with_both(tmp_path: Path) -> None:
    missing = [{"email": "a@b.c", "file": "keys/researcher.pub", "text": ""}]
    report = report_on(tmp_path, pi1=node(said(researchers=bound("a@b.c", B)), researchers=missing))
    assert found(report) == [("pi1", "researcher-key")]
    assert f"a@b.c by the key {OF_B}" in report["table"]
    assert "a new one (keys/researcher.pub is missing)" in report["table"]


@pytest.mark.parametrize("retired", [[OF_B], OF_B, f"{OF_A},{OF_B}"])
def test_a_key_that_is_named_may_go_and_no_other(tmp_path: Path, retired: object) -> None:
    lines = f"{bound('a@b.c', B)}\n{bound('d@e.f', B)}"
    assert found(report_on(tmp_path, pi1=node(said(researchers=lines), retired=retired))) == []
    third = bound("d@e.f", A.replace("A" * 9, "C" * 9))
    told = said(researchers=f"{lines}\n{third}")
    report = report_on(tmp_path, pi1=node(told, retired=retired))
    assert found(report) == [("pi1", "researcher-missing")]


def test_a_fingerprint_is_what_ssh_keygen_says(tmp_path: Path) -> None:
    file = tmp_path / "key.pub"
    file.write_text(f"{A} a@b.c\n")
    told = subprocess.run(["ssh-keygen", "-lf", file], capture_output=True, text=True, check=True)
    assert told.stdout.split()[1] == OF_A


OTHER = {
    "hostname": "pi2",
    "machine": "0",
    "addresses": HEALTHY["addresses"].replace("1.21/", "1.22/"),
}


@pytest.mark.parametrize(
    ("kind", "answers", "address"),
    [
        ("same-address", OTHER, "192.168.1.21"),
        ("same-address", {**OTHER, "addresses": HEALTHY["addresses"]}, "192.168.1.22"),
        ("same-name", {**OTHER, "hostname": "pi1"}, "192.168.1.22"),
        ("same-machine", {**OTHER, "machine": HEALTHY["machine"]}, "192.168.1.22"),
    ],
)
def test_two_nodes_have_something_in_common(
    tmp_path: Path, kind: str, answers: dict[str, str], address: str
) -> None:
    nodes = {"pi1": node(said()), "pi2": node(said(**answers), address=address)}
    report = report_on(tmp_path, **nodes)
    assert found(report) == [("pi2", kind)]
    assert "pi1" in report["findings"][0]["says"]


def test_all_problems_of_all_nodes_are_told_at_once(tmp_path: Path) -> None:
    report = report_on(
        tmp_path,
        pi1=node(said(temperature="85000", userland="armhf")),
        pi2=node("", unreachable=True, said="timed out", address="192.168.1.22"),
    )
    assert found(report) == [("pi1", "32-bit"), ("pi1", "temperature"), ("pi2", "unreachable")]
    assert report["stopped"] == ["pi1", "pi2"]
    assert report["table"].count("\n      -> ") == 3


def test_a_variable_that_no_role_knows_is_told_with_the_nearest(tmp_path: Path) -> None:
    given = ["swap_sise", "swap_size", "os_timezone", "osmosis_x", "swap_is_hosts", "ansible_user"]
    report = report_on(tmp_path, pi1=node(said(), variables=given))
    assert found(report) == [("pi1", "variable")]
    assert "swap_sise" in report["table"] and "do you mean swap_size?" in report["table"]


def test_the_judge_is_a_program(tmp_path: Path) -> None:
    question = {"roles": str(ROOT / "roles"), "nodes": {"pi1": node(said(userland="armhf"))}}
    wanted = dict.fromkeys(
        ("memory", "memory_and_swap", "disk", "disk_provisioned", "disk_speed", "clock"), 9
    )
    question["wanted"] = {**wanted, "distributions": {}, "python": "3", "internet": False}
    question["wanted"]["locks"] = str(tmp_path)
    question |= {"inventory": [], "identity_only": False}
    done = subprocess.run(
        [sys.executable, FILES / "judge.py"],
        input=json.dumps(question), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout)["stopped"] == ["pi1"]


def test_no_kind_of_problem_is_without_its_test() -> None:
    elsewhere = {"unreachable", "host-key", "ssh-key", "answer", "variable"}
    elsewhere |= {"same-address", "same-name", "same-machine"}
    elsewhere |= {"exchanged", "identity", "renamed", "same-identity", "unpinned"}  # test_identity
    assert set(KINDS) == set(CASES) | elsewhere


LIES = (
    "", "²", "-", "9" * 5000, "{node}", "{{ 1 }}", "\x1b[2J", "no ", "../../x", "a\n" * 60_000,
)  # fmt: skip


@pytest.mark.parametrize("lie", LIES, ids=range(len(LIES)))
def test_no_answer_raises_or_harms_another_node(tmp_path: Path, lie: str) -> None:
    nodes = {f"pi{n}": node(said(**{name: lie})) for n, name in enumerate(QUESTIONS)}
    nodes["honest"] = node(
        said(hostname="honest", machine="1", addresses=""), address="192.168.1.9"
    )
    report = report_on(tmp_path, **nodes)
    assert "honest" not in report["stopped"]
    for answers in report["told"].values():
        assert set(answers) == set(QUESTIONS) and not malformed(answers)


def test_a_question_that_nobody_asked_is_dropped(tmp_path: Path) -> None:
    report = report_on(tmp_path, pi1=node(said(wheelhouse_cache="/home/me")))
    assert "wheelhouse_cache" not in report["told"]["pi1"]


def test_every_question_of_the_probe_has_its_pattern() -> None:
    asked = "".join((ROOT / name).read_text() for name in
                    ("roles/preflight/files/probe.sh", "fedrnn/reporting/nodes.sh"))  # fmt: skip
    names = re.findall(r"(?m)^\s*ask (\w+)|@ (\w+)\\n", asked)
    assert {"".join(name) for name in names} - {"end"} == set(QUESTIONS)


def test_every_problem_is_in_the_troubleshooting_guide() -> None:
    guide = (ROOT / "docs" / "troubleshooting.md").read_text()
    assert [kind for kind in KINDS if f"`{kind}`" not in guide] == []
