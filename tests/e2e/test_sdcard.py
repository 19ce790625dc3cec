"""Cards for an inventory of nodes that do not exist yet."""

from __future__ import annotations

import contextlib
import hashlib
import lzma
import os
import shutil
import signal
import struct
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from cluster import ROOT, Run, ansible_playbook, flat, must

SDCARD = "playbooks/sdcard.yml"
SECRET = "correct horse"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The example inventory as its reader fills it in, with wifi and a key."""
    home = tmp_path / "home"
    shutil.copytree(ROOT / "inventory" / "example", home)
    key = tmp_path / "operator"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    said = home / "group_vars" / "nodes.yml"
    more = {
        "ansible_ssh_private_key_file": str(key), "card_wifi": "Home", "card_wifi_country": "DE",
        "card_wifi_password": SECRET,
    }  # fmt: skip
    said.write_text(said.read_text() + yaml.safe_dump(more))
    return home


def test_each_node_gets_its_files_and_no_log_the_password(home: Path) -> None:
    run = must(ansible_playbook("-vvv", "-i", str(home), SDCARD))
    for name in ("pi-kitchen", "pi-attic", "pi-garage"):
        told = yaml.safe_load((home / "cards" / name / "user-data").read_text())
        assert told["hostname"] == name
        assert f"has the first-boot files of {name}" in flat(run.text)
    assert SECRET not in run.text
    assert set(must(ansible_playbook("-i", str(home), SDCARD)).changed.values()) == {0}


def test_a_mounted_card_gets_the_files_of_its_node(home: Path, tmp_path: Path) -> None:
    boot = tmp_path / "bootfs"
    boot.mkdir()
    (boot / "cmdline.txt").write_text("root=PARTUUID=1\n")
    must(ansible_playbook("-i", str(home), "--limit", "pi-attic", "-e", f"boot={boot}", SDCARD))
    assert yaml.safe_load((boot / "user-data").read_text())["hostname"] == "pi-attic"


def test_a_tilde_is_the_home_of_who_types_it(
    home: Path, card: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(card.parent))
    # Which Ansible's own parts look for in two different homes now.
    monkeypatch.setenv("ANSIBLE_ASYNC_DIR", str(card.parent / "async"))
    (card.parent / "cmdline.txt").write_text("root=PARTUUID=1\n")
    pictured = ("-e", "image=~/os.img.xz", "-e", f"device={card}", "-e", f"confirm={card}")
    for more in (("-e", "boot=~"), ("-e", "card_folder=~/files", *pictured)):
        must(ansible_playbook("-i", str(home), "--limit", "pi-attic", *more, SDCARD))
    for folder in (card.parent, card.parent / "files" / "pi-attic"):
        assert yaml.safe_load((folder / "user-data").read_text())["hostname"] == "pi-attic"


def test_what_is_wrong_is_told_of_all_nodes_and_nothing_is_written(home: Path) -> None:
    hosts = home / "hosts.yml"
    alike = hosts.read_text().replace("192.168.1.22", "192.168.1.21\n      ansible_port: 22")
    hosts.write_text(f"{alike}      os_hostname: pi-attic\n")
    run = ansible_playbook("-i", str(home), "-e", "card_hostname=my_pi", SDCARD)
    said = flat(run.text)
    assert run.rc != 0 and "Nothing was written" in said
    assert "pi-attic, pi-kitchen: each of them has the address 192.168.1.21" in said
    assert "pi-garage: 'my_pi' is no host name" in said
    run = ansible_playbook("-i", str(home), "-e", "ansible_user=fedrnn", SDCARD)
    assert run.rc != 0 and "'fedrnn' is a name of the node's own accounts" in flat(run.text)
    # The other node need not be asked for.
    run = ansible_playbook("-i", str(home), "--limit", "pi-attic", SDCARD)
    assert run.rc != 0 and "pi-attic, pi-kitchen: each of them" in flat(run.text)
    assert "pi-attic, pi-garage: each of them is called pi-attic" in flat(run.text)
    assert not (home / "cards").exists()


@pytest.fixture
def card(tmp_path: Path) -> Path:
    """A file with the size of a card, and beside it os.img.xz, an image with a boot partition."""
    plain = tmp_path / "os.img"
    data = bytearray(8 << 20)
    data[446:462] = struct.pack("<4xB3xII", 0x0C, 2048, 8192)
    data[510:512] = b"\x55\xaa"
    data[6 << 20 : (6 << 20) + 20] = b"\x7fELF\2\1\1" + bytes(9) + b"\2\0\xb7\0"
    plain.write_bytes(data)
    fat = ["mformat", "-i", f"{plain}@@1M", "-T", "8192", "-h", "16", "-s", "32", "::"]
    subprocess.run(fat, check=True)
    packed = lzma.compress(plain.read_bytes())
    (tmp_path / "os.img.xz").write_bytes(packed)
    digest = hashlib.sha256(packed).hexdigest()
    (tmp_path / "os.img.xz.sha256").write_text(f"{digest}  os.img.xz\n")
    file = tmp_path / "card"
    file.write_bytes(bytes(9 << 20))
    return file


def write(home: Path, card: Path, *more: str) -> Run:
    image = ("-e", f"image={card.parent}/os.img.xz", "-e", f"device={card}")
    return ansible_playbook("-i", str(home), "--limit", "pi-attic", *image, *more, SDCARD)


def test_an_image_becomes_the_card_of_a_node(
    home: Path, card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path / "compiled"))
    run = must(write(home, card, "-e", f"confirm={card}"))
    # What root writes a card with leaves nothing in the checkout.
    assert not list((tmp_path / "compiled").rglob("image.*.pyc"))
    assert "read back and compared" in flat(run.text)
    read = ["mtype", "-i", f"{card}@@1M", "::/user-data"]
    assert yaml.safe_load(subprocess.check_output(read))["hostname"] == "pi-attic"
    assert (
        card.read_bytes()[6 << 20 : 7 << 20]
        == (card.parent / "os.img").read_bytes()[6 << 20 : 7 << 20]
    )


def test_a_card_that_nobody_named_twice_stays_as_it_is(home: Path, card: Path) -> None:
    for more in ((), ("-e", "confirm=/dev/sdb")):
        run = write(home, card, *more)
        assert run.rc != 0 and "was typed again" in flat(run.text)
    (card.parent / "os.img.xz.sha256").unlink()
    run = write(home, card, "-e", f"confirm={card}")
    assert run.rc != 0 and "is not known" in flat(run.text)
    assert card.read_bytes() == bytes(9 << 20)


def writer(card: Path) -> int:
    """The process that writes a card, once there is one."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if f"write\0{card.parent}/os.img\0{card}\0--sha256" in file.read_text():
                    return int(file.parent.name)
        time.sleep(0.1)
    raise AssertionError("nothing writes the card")


def test_a_writer_that_is_killed_is_told(home: Path, card: Path) -> None:
    with (card.parent / "os.img").open("r+b") as image:
        image.truncate(64 << 30)  # which nobody checks meanwhile
    more = ("-e", f"image={card.parent}/os.img", "-e", f"sha256={'0' * 64}")
    with ThreadPoolExecutor(1) as play:
        run = play.submit(write, home, card, "-e", f"confirm={card}", *more)
        os.kill(writer(card), signal.SIGKILL)
    assert run.result().rc != 0 and "run the same command again" in flat(run.result().text)
