"""The system's own files, edited by roles and perhaps by their owner since: back as they were."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "roles" / "reset" / "files"))
from remember import main, swap_bytes  # noqa: E402
from undo import FILES, SSHD, Package, Undo, brought, has_files, is_installed, restored  # noqa: E402

HOSTS = "127.0.0.1\tlocalhost\n127.0.1.1\traspberrypi\n"
MARK = "nodes of the cluster, by Ansible\n"
BLOCK = f"# BEGIN {MARK}10.0.0.1 pi1\n# END {MARK}"
FSTAB = "PARTUUID=1-02 / ext4 noatime 0 1\n"
DPHYS = "# a swapfile is not a swap partition, no line here\n"
OURS = "/swapfile none swap sw 0 0\n"


@pytest.mark.parametrize(
    ("name", "before", "now", "after"),
    [
        ("/etc/hosts", HOSTS, HOSTS.replace("raspberrypi", "pi1") + BLOCK, HOSTS),
        ("/etc/hosts", "127.0.0.1 localhost", "127.0.0.1 localhost\n127.0.1.1\tpi1\n" + BLOCK,
         "127.0.0.1 localhost"),
        # What their owner has added since stays.
        ("/etc/hosts", HOSTS, HOSTS + BLOCK + "10.0.0.9 nas\n", HOSTS + "10.0.0.9 nas\n"),
        ("/etc/fstab", FSTAB, FSTAB + OURS, FSTAB),
        ("/etc/fstab", FSTAB + OURS, FSTAB + OURS, FSTAB + OURS),
        ("/etc/fstab", FSTAB + "/dev/sda2 none swap sw 0 0\n",
         FSTAB + "# /dev/sda2 none swap sw 0 0\n" + OURS, FSTAB + "/dev/sda2 none swap sw 0 0\n"),
        ("/etc/fstab", FSTAB + "# /dev/sda2 none swap sw 0 0\n",
         FSTAB + "# /dev/sda2 none swap sw 0 0\n" + OURS, FSTAB + "# /dev/sda2 none swap sw 0 0\n"),
        # dphys-swapfile has moved its comment to the end.
        ("/etc/fstab", FSTAB + DPHYS + "/old none swap sw 0 0\n",
         FSTAB + "# /old none swap sw 0 0\n" + DPHYS, FSTAB + DPHYS + "/old none swap sw 0 0\n"),
        # A file was wanted, and then none.
        ("/etc/fstab", FSTAB, FSTAB + f"# {OURS}", FSTAB),
        ("/etc/fstab", FSTAB + OURS, FSTAB + f"# {OURS}", FSTAB + OURS),
        ("/etc/default/locale", "LANG=en_GB.UTF-8\n", "LANG=C.UTF-8\n", "LANG=en_GB.UTF-8\n"),
        ("/etc/default/locale", None, "LANG=C.UTF-8\n", None),
        ("/etc/dphys-swapfile", "CONF_SWAPSIZE=512\n#CONF_MAXSWAP=2048\n",
         "CONF_SWAPSIZE=1024\nCONF_MAXSWAP=1024\n", "CONF_SWAPSIZE=512\n#CONF_MAXSWAP=2048\n"),
        ("/boot/firmware/cmdline.txt", "root=PARTUUID=1 quiet \n",
         "root=PARTUUID=1 quiet cgroup_enable=memory\n", "root=PARTUUID=1 quiet \n"),
        ("/boot/firmware/cmdline.txt", "root=PARTUUID=1\n",
         "root=PARTUUID=1 cgroup_enable=memory isolcpus=3\n", "root=PARTUUID=1 isolcpus=3\n"),
        ("/boot/firmware/cmdline.txt", "root=1 cgroup_enable=memory\n",
         "root=1 cgroup_enable=memory\n", "root=1 cgroup_enable=memory\n"),
        ("/etc/timezone", "Europe/Berlin\n", "Etc/UTC\n", "Europe/Berlin\n"),
        ("/etc/timezone", None, "Etc/UTC\n", None),
    ],
)  # fmt: skip
def test_a_file_of_the_systems_loses_what_roles_added_and_no_more(
    name: str, before: str | None, now: str, after: str | None
) -> None:
    assert restored(name, now, before, "/swapfile") == after
    if after is not None:
        assert restored(name, after, before, "/swapfile") == after


def test_every_file_that_a_role_writes_is_taken_away() -> None:
    texts = [path.read_text() for path in ROOT.glob("roles/*/[vt]a[rs]*/*.yml")]
    own = ROOT / "roles" / "pysyft" / "files" / "root"
    written = {f"/{path.relative_to(own)}" for path in own.rglob("*") if path.is_file()}
    for text in texts:
        for word in text.replace('"', " ").split():
            if word.startswith("/etc/") and "fedrnn" in word and Path(word).suffix not in ("", "."):
                written.add(word)
    kept_elsewhere = {name for name in written if name.startswith(("/opt/fedrnn/", "/etc/fedrnn/"))}
    assert written - kept_elsewhere - {*FILES, *SSHD} == set()
    given = yaml.safe_load((ROOT / "roles/reset/vars/main.yml").read_text())["reset_sshd_files"]
    assert [file["path"] for file in given] == SSHD


def test_a_folder_of_folders_has_no_files(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert not has_files(tmp_path)
    (tmp_path / "a" / "b" / "c").touch()
    assert has_files(tmp_path)


def test_what_the_owner_has_installed_since_stays_and_what_roles_brought_goes() -> None:
    def package(auto: bool, *needs: str) -> Package:
        return Package(auto, [{name} for name in needs], [])

    here = {
        "libc6": package(True),
        "python3": package(False, "libc6"),
        # By role os.
        "acl": package(False, "libacl1"),
        "libacl1": package(True, "libc6"),
        # By their owner, where no Python was built; another package of theirs needs one of ours.
        "gcc": package(False, "cpp"),
        "cpp": package(True, "libc6"),
        "backup": package(False, "tzdata"),
        "tzdata": package(False),
        # An upgrade that nobody of us asked for.
        "linux-image-2": package(True, "linux-base-2"),
        "linux-base-2": package(True),
    }
    assert brought({"libc6", "python3"}, {"acl", "tzdata"}, here) == ["acl", "libacl1"]
    built = {"acl", "tzdata", "gcc"}
    assert brought({"libc6", "python3"}, built, here) == ["acl", "cpp", "gcc", "libacl1"]


def test_nodes_of_two_inventories_are_not_reset_by_the_name_of_one(tmp_path: Path) -> None:
    given = []
    for name, node in (("home", "pi1"), ("lab", "pi2")):
        shutil.copytree(ROOT / "inventory/example", tmp_path / name)
        # No node that answers, lest this test reset anything.
        host = f"{node}: {{ansible_host: 127.0.0.1, ansible_port: 1}}"
        (tmp_path / name / "hosts.yml").write_text(f"nodes: {{hosts: {{{host}}}}}\n")
        given += ["-i", str(tmp_path / name)]
    done = subprocess.run(
        ["ansible-playbook", *given, "-e", "confirm=home", ROOT / "playbooks/reset.yml"],
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}, cwd=tmp_path,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    said = " ".join(done.stdout.split())
    assert done.returncode == 2 and "UNREACHABLE" not in said, said
    assert f"These are nodes of {tmp_path}/home and {tmp_path}/lab" in said


def test_a_package_of_which_the_settings_alone_are_left_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = "Package: {}\nStatus: {}\nVersion: 1\nArchitecture: all\nMaintainer: x\nDescription: x"
    status = (("gone", "deinstall ok config-files"), ("there", "install ok installed"))
    (tmp_path / "status").write_text("".join(f"{entry}\n\n".format(*one) for one in status))
    monkeypatch.setenv("DPKG_ADMINDIR", str(tmp_path))
    assert [is_installed(name) for name in ("gone", "there", "never")] == [False, True, False]


@pytest.mark.parametrize(
    ("packages", "kept_by_us"),
    [([], True), (["chrony"], False), (["ntpsec"], False), (["systemd-timesyncd"], True)],
)
def test_the_clock_is_left_to_the_daemon_that_keeps_it(
    tmp_path: Path, packages: list[str], kept_by_us: bool
) -> None:
    told = {"preflight_told": {"container": [], "packages": packages}}
    role = ROOT / "roles" / "os"
    play = [{
        "hosts": "localhost", "gather_facts": False, "vars": told,
        "vars_files": [str(role / "defaults/main.yml"), str(role / "vars/main.yml")],
        "tasks": [{"ansible.builtin.debug": {"msg": "kept: {{ os_has_own_clock }}"}}],
    }]  # fmt: skip
    (tmp_path / "play.yml").write_text(yaml.safe_dump(play))
    done = subprocess.run(
        ["ansible-playbook", "-i", "localhost,", "play.yml"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert f"kept: {kept_by_us}" in done.stdout


@pytest.mark.parametrize(
    ("packages", "enabled", "disabled"),
    [
        (["systemd-timesyncd"], [], True),
        (["systemd-timesyncd"], ["systemd-timesyncd.service"], False),
        ([], [], False),
    ],
)
def test_a_clock_that_nobody_kept_is_left_to_itself_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packages: list[str], enabled: list[str],
    disabled: bool,
) -> None:  # fmt: skip
    # A board, whose systemd writes down what it is told: this machine's is not to be touched.
    told = tmp_path / "told"
    for name, text in (
        ("systemd-detect-virt", "exit 1"),
        ("systemctl", f"case $1 in is-enabled) echo enabled ;; *) echo $* >> {told} ;; esac"),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    undo = Undo({"act": True})
    zone = Path("/etc/localtime")
    undo.before = {
        "hostname": os.uname().nodename, "packages": packages, "enabled": enabled,
        "localtime": str(zone.readlink()) if zone.is_symlink() else None,
    }  # fmt: skip
    undo.names()
    wanted = "disable --now systemd-timesyncd.service\n" if disabled else None
    assert (told.read_text() if told.exists() else None) == wanted


def test_what_a_run_left_that_broke_off_is_put_in_force_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files are gone already, so nothing but the note tells that it was not all."""
    told = tmp_path / "told"
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(
        f"#!/bin/sh\ncase $1 in is-enabled) echo disabled ;; *) echo $* >> {told} ;; esac\n"
    )
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    undo = Undo({"act": True})
    undo.before = {"enabled": ["zramswap.service"]}
    undo.in_force()
    assert told.read_text().splitlines() == [
        "daemon-reload", "enable zramswap.service", "restart zramswap.service",
    ]  # fmt: skip
    told.unlink()
    undo.before = None
    undo.in_force()
    assert not told.exists()


def test_without_python3_apt_reset_ends_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "apt", None)
    undo = Undo({"act": True})
    undo.before = {"packages": []}
    with pytest.raises(SystemExit, match="python3-apt is not installed, so packages stay"):
        undo.packages()


@pytest.mark.parametrize(
    ("before", "home", "gone"),
    [
        (None, "/var/lib/fedrnn", []),
        ({"passwd": ["fedrnn"], "group": ["fedrnn"]}, "/var/lib/fedrnn", ["fedrnn-job"]),
        ({"passwd": [], "group": ["fedrnn-job"]}, "/var/lib/fedrnn", ["fedrnn", "fedrnn"]),
        ({"passwd": [], "group": []}, "/home/fedrnn", ["fedrnn-job"]),
        ({"passwd": [], "group": []}, "/var/lib/fedrnn", ["fedrnn", "fedrnn-job", "fedrnn"]),
    ],
)
def test_accounts_that_were_there_before_the_roles_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    before: dict[str, list[str]] | None, home: str, gone: list[str],
) -> None:  # fmt: skip
    getent = tmp_path / "getent"
    getent.write_text("#!/bin/sh\ncase $2 in fedrnn|fedrnn-job) echo $2 ;; esac\n")
    getent.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    known = {"fedrnn": SimpleNamespace(pw_dir=home)}
    monkeypatch.setattr("undo.pwd", SimpleNamespace(getpwnam=known.__getitem__))
    undo = Undo({"act": False})
    undo.before = before and {"accounts": before}
    undo.accounts()
    said = [line.split()[4] for line in capsys.readouterr().out.splitlines()]
    assert sorted(said) == sorted(gone)


def test_the_note_names_the_accounts_that_a_node_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    getent = tmp_path / "getent"
    getent.write_text("#!/bin/sh\ncase $*  in *fedrnn-wire) echo $2:x:7: ;; esac\n")
    getent.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("remember.NOTE", tmp_path / "note.json")
    monkeypatch.setattr("sys.argv", ["remember.py", "/swapfile"])
    main()
    note = json.loads((tmp_path / "note.json").read_text())
    assert note["accounts"] == {"passwd": ["fedrnn-wire"], "group": ["fedrnn-wire"]}


@pytest.fixture
def swap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place of a swap file on a node whose fstab names it, as role swap does."""
    file = tmp_path / "swapfile"
    (tmp_path / "fstab").write_text(f"{FSTAB}{file} none swap sw 0 0\n")
    (tmp_path / "swaps").write_text("Filename Type Size Used Priority\n")
    monkeypatch.setattr("undo.FSTAB", tmp_path / "fstab")
    monkeypatch.setattr("undo.SWAPS", tmp_path / "swaps")
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:/usr/sbin:/sbin")
    return file


def undo_of(swap: Path, size: int | None) -> Undo:
    undo = Undo({"act": True, "swap_file": str(swap)})
    undo.before = {"there": [] if size is None else [str(swap)], "swap_bytes": size}
    return undo


def test_the_swap_file_of_a_role_that_was_interrupted_goes(swap: Path) -> None:
    for unused in (swap, Path(f"{swap}.new")):
        unused.touch()
    undo_of(swap, None).swap()
    assert not swap.exists() and not Path(f"{swap}.new").exists()


def test_no_file_has_the_name_of_swap_before_reset_could_know_that_it_is_ours() -> None:
    tasks = yaml.safe_load((ROOT / "roles/swap/tasks/file.yml").read_text())
    order = yaml.safe_dump(tasks, sort_keys=False)
    assert 0 < order.index("ansible.posix.mount:") < order.index("fallocate")


def test_a_swap_file_that_is_still_in_use_stays(swap: Path) -> None:
    swap.touch()
    # What swapoff says of a file that it cannot take out of use.
    swaps = swap.with_name("swaps")
    swaps.write_text(f"{swaps.read_text()}{swap} file 1048572 4096 -2\n")
    with pytest.raises(SystemExit, match=f"swapoff {swap} failed"):
        undo_of(swap, None).swap()
    assert swap.exists()


@pytest.mark.parametrize("ours", [None, 2 << 20])
def test_the_owners_swap_file_is_made_again_in_its_size(swap: Path, ours: int | None) -> None:
    if ours:
        swap.write_bytes(bytes(ours))
    undo_of(swap, 1 << 20).swap()
    assert (swap.stat().st_size, oct(swap.stat().st_mode)) == (1 << 20, "0o100600")
    assert swap_bytes(str(swap)) == 1 << 20
    made = swap.stat().st_ino
    undo_of(swap, 1 << 20).swap()
    assert swap.stat().st_ino == made


def test_what_is_no_swap_file_has_no_size_to_be_given_back(swap: Path) -> None:
    assert swap_bytes(str(swap)) is None
    swap.write_bytes(bytes(1 << 20))
    assert swap_bytes(str(swap)) is None
