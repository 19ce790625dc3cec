"""What a card says at its first boot, read by cloud-init itself; and what it is never told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from cloud_init import cloud_init

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "roles" / "card" / "files" / "first_boot.py"
STATIC = {"address": "192.168.1.21/24", "gateway": "192.168.1.1"}
WIFI = {"wifi": 'Müller: "5" GHz #1', "wifi_password": "top secret", "wifi_country": "DE"}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of key pairs, by kind."""
    folder = tmp_path_factory.mktemp("keys")
    for name, kind, bits, phrase in (
        ("good", "ed25519", "256", ""),
        ("short", "rsa", "1024", ""),
        ("rsa", "rsa", "2048", ""),
        ("locked", "ed25519", "256", "a phrase"),
    ):
        command = ["ssh-keygen", "-q", "-t", kind, "-b", bits, "-N", phrase, "-C", "me"]
        subprocess.run([*command, "-f", folder / name], check=True)
    dsa = b"\0\0\0\7ssh-dss" + b"\0\0\0\1\1" * 4
    encoded = subprocess.run(["base64", "-w0"], input=dsa, capture_output=True, check=True).stdout
    (folder / "dsa.pub").write_text(f"ssh-dss {encoded.decode()} me\n")
    return folder


class Desk:
    """Where cards are prepared."""

    def __init__(self, folder: Path, keys: Path) -> None:
        self.folder, self.keys, self.boot = folder / "cards", keys, ""
        self.image = ""
        self.environment = {k: v for k, v in os.environ.items() if k != "SSH_AUTH_SOCK"}

    def node(self, **different: Any) -> dict[str, Any]:
        return {
            "system": "trixie", "hostname": "pi1", "account": "pi",
            "public_key": str(self.keys / "good.pub"), "private_key": "",
            "timezone": "Europe/Berlin", "locale": "", "keymap": "us", "interface": "eth0",
            "address": "", "gateway": "", "nameservers": [], "wifi": "", "wifi_password": "",
            "wifi_country": "", "reached": "pi1.local", **different,
        }  # fmt: skip

    def ask(self, **nodes: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        question = {
            "nodes": nodes, "everybody": nodes, "folder": str(self.folder), "boot": self.boot,
            "image": self.image,
        }  # fmt: skip
        return subprocess.run(
            [sys.executable, PROGRAM], input=json.dumps(question), env=self.environment,
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    def files(self, **different: Any) -> dict[str, str]:
        done = self.ask(pi1=self.node(**different))
        assert done.returncode == 0, done.stderr
        return {path.name: path.read_text() for path in (self.folder / "pi1").iterdir()}


@pytest.fixture
def desk(tmp_path: Path, keys: Path) -> Desk:
    return Desk(tmp_path, keys)


def found_in(file: Path, of: str) -> str:
    """What the schema of a cloud-init finds wrong with a file.

    That of Debian 12 has none for network-config, and without netplan that of 13 knows no wifi.
    """
    kind = ["--schema-type", file.name] if file.name == "network-config" else []
    done = cloud_init("schema", *kind, "--config-file", file, of=of)
    assert done.returncode in (0, 1) and ("Valid" in done.stdout) == (done.returncode == 0)
    return done.stdout + done.stderr if done.returncode else ""


@pytest.mark.slow
@pytest.mark.parametrize(
    "asked",
    [{}, STATIC, WIFI, {"locale": "de_DE.UTF-8"}, {**STATIC, **WIFI, "interface": "wlan0"}],
    ids=["plain", "static", "wifi", "locale", "static-wifi"],
)
def test_cloud_init_itself_finds_nothing_wrong(desk: Desk, asked: dict[str, str]) -> None:
    files = desk.files(**asked)
    assert set(files) == {"user-data", "network-config", "meta-data"}
    assert not found_in(desk.folder / "pi1" / "user-data", of="root")
    assert not found_in(desk.folder / "pi1" / "user-data", of="trixie")
    if "wifi" not in asked:
        assert not found_in(desk.folder / "pi1" / "network-config", of="trixie")
    told = yaml.safe_load(files["user-data"])
    assert told["hostname"] == "pi1" and told["timezone"] == "Europe/Berlin"
    (account,) = told["users"]
    assert account["name"] == "pi" and account["sudo"] == "ALL=(ALL) NOPASSWD:ALL"
    assert account["ssh_authorized_keys"] == [(desk.keys / "good.pub").read_text().strip()]
    assert account["lock_passwd"] is True and "passwd" not in account


@pytest.mark.slow
def test_cloud_init_would_find_a_mistake(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "user-data").write_text("#cloud-config\nusers: 3\n")
    assert "users" in found_in(tmp_path / "user-data", of="root")
    assert "users" in found_in(tmp_path / "user-data", of="trixie")
    wired = desk.files()["network-config"]
    (tmp_path / "network-config").write_text(wired.replace("dhcp4: true", "dhcp4: 7"))
    assert "eth0.dhcp4" in found_in(tmp_path / "network-config", of="trixie")


def rendered(desk: Desk, tmp_path: Path, kind: str) -> str:
    """What cloud-init makes of the network configuration for a renderer."""
    done = cloud_init(
        *("devel", "net-convert", "-k", "yaml", "-D", "debian", "-O", kind, "-d", tmp_path / "out"),
        *("-m", "eth0,b8:27:eb:00:00:01", "-p", desk.folder / "pi1" / "network-config"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    made = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    return "\n".join(path.read_text() for path in made)


@pytest.mark.slow
def test_a_static_address_reaches_the_network_configuration(desk: Desk, tmp_path: Path) -> None:
    desk.files(**STATIC, nameservers=["9.9.9.9"])
    text = rendered(desk, tmp_path, "networkd")
    for line in ("Address=192.168.1.21/24", "Gateway=192.168.1.1", "DNS=9.9.9.9", "DHCP=no"):
        assert line in text.splitlines(), text


@pytest.mark.slow
def test_without_an_address_it_asks_for_one(desk: Desk, tmp_path: Path) -> None:
    desk.files()
    assert "DHCP=ipv4" in rendered(desk, tmp_path, "networkd").splitlines()


@pytest.mark.slow
def test_a_wifi_network_is_on_the_card_by_name_and_key(desk: Desk, tmp_path: Path) -> None:
    files = desk.files(**WIFI)
    network = yaml.safe_load(rendered(desk, tmp_path, "netplan"))["network"]["wifis"]["wlan0"]
    assert network["regulatory-domain"] == "DE"
    (name,) = network["access-points"]
    assert name == WIFI["wifi"]
    assert WIFI["wifi_password"] not in "".join(files.values())


def test_the_key_of_a_wifi_network_is_the_one_of_ieee_802_11(desk: Desk) -> None:
    # The first test vector of the standard, annex J.4.
    files = desk.files(wifi="IEEE", wifi_password="password", wifi_country="US")
    assert "f42c6fc52df0ebef9ebb4b90b38a5f902e83fe1b135a70e23aed762e9710a12e" in "".join(
        files.values()
    )


def test_bookworm_gets_what_its_first_boot_reads(desk: Desk) -> None:
    files = desk.files(system="bookworm", **WIFI)
    assert set(files) == {"custom.toml"}
    told = tomllib.loads(files["custom.toml"])
    assert told["config_version"] == 1 and told["system"] == {"hostname": "pi1"}
    assert told["user"] == {"name": "pi"} and told["ssh"]["enabled"] is True
    assert told["ssh"]["password_authentication"] is False
    assert told["wlan"]["ssid"] == WIFI["wifi"] and told["wlan"]["country"] == "DE"
    assert told["wlan"]["password_encrypted"] is True and len(told["wlan"]["password"]) == 64
    assert told["locale"] == {"keymap": "us", "timezone": "Europe/Berlin"}


def test_nobody_else_reads_them_and_a_second_time_changes_nothing(desk: Desk) -> None:
    assert desk.ask(pi1=desk.node(**WIFI)).stdout.strip() == str(desk.folder / "pi1")
    assert {p.stat().st_mode & 0o077 for p in [*desk.folder.rglob("*")]} == {0}
    assert desk.ask(pi1=desk.node(**WIFI)).stdout == ""
    first = desk.files(**WIFI)["meta-data"]
    # cloud-init does its work anew where the identity is another.
    assert desk.files(**{**WIFI, "hostname": "pi9"})["meta-data"] != first
    assert set(desk.files(system="bookworm")) == {"custom.toml"}


def test_what_else_lies_in_a_nodes_folder_stays(desk: Desk) -> None:
    mine = desk.folder / "pi1" / "mine"
    mine.mkdir(parents=True)
    (mine / "thesis").write_text("years of work")
    (desk.folder / "pi1" / "notes").write_text("more of it")
    for system in ("bookworm", "trixie"):
        assert desk.ask(pi1=desk.node(system=system)).returncode == 0
    assert (mine / "thesis").read_text() == "years of work"
    assert (mine.parent / "notes").read_text() == "more of it"
    assert not (mine.parent / "custom.toml").exists()


@pytest.mark.parametrize(
    ("different", "words"),
    [
        ({"hostname": "pi_1"}, "no underscore"),
        ({"hostname": "Pi1"}, "is no host name"),
        ({"account": "root"}, "is no account"),
        ({"account": "fedrnn"}, "is a name of the node's own accounts"),
        ({"account": "fedrnn-owner"}, "Set ansible_user to another"),
        ({"timezone": "Europe/Bonn"}, "no time zone"),
        ({"locale": "german"}, "no locale"),
        ({"interface": "eth0\nx"}, "card_interface"),
        ({**WIFI, "wifi_password": "seven77"}, "has 7 characters"),
        ({**WIFI, "wifi_password": "x" * 65}, "has 65 characters"),
        ({**WIFI, "wifi_country": "UK"}, "'UK'"),
        ({**WIFI, "wifi_country": ""}, "wifi stays off"),
        ({**WIFI, "wifi": "x" * 33}, "at most 32 bytes"),
        ({"wifi_password": "long enough"}, "without card_wifi"),
        ({**STATIC, "address": "192.168.1.21"}, "192.168.1.21/24"),
        ({**STATIC, "address": "192.168.1.300/24"}, "192.168.1.300"),
        ({**STATIC, "address": "192.168.1.255/24"}, "not one for a node"),
        ({**STATIC, "address": "192.168.1.1/24"}, "not one for a node"),
        ({**STATIC, "gateway": ""}, "card_gateway"),
        ({**STATIC, "gateway": "10.0.0.1"}, "not in the network"),
        ({**STATIC, "nameservers": ["one"]}, "card_nameservers"),
        ({**STATIC, "reached": "192.168.1.99"}, "ansible_host 192.168.1.99"),
        ({**STATIC, "system": "bookworm"}, "knows no static address"),
    ],
)
def test_what_would_not_boot_is_refused_before_anything_is_written(
    desk: Desk, different: dict[str, Any], words: str
) -> None:
    done = desk.ask(pi1=desk.node(**different), pi2=desk.node(hostname="pi2", reached="pi2"))
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("pi1: ") and words in done.stderr
    assert not desk.folder.exists()
    assert "top secret" not in done.stderr and "seven77" not in done.stderr


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("good", "is a PRIVATE key"),
        ("short.pub", "RSA key of 1024 bits"),
        ("dsa.pub", "of the kind ssh-dss, which a node refuses"),
        ("locked.pub", "is encrypted and no agent has it"),
        ("none.pub", "cannot be read"),
    ],
)
def test_a_key_that_would_let_nobody_in_is_refused(desk: Desk, key: str, words: str) -> None:
    done = desk.ask(pi1=desk.node(public_key=str(desk.keys / key)))
    assert done.returncode == 1 and words in done.stderr
    assert not desk.folder.exists()


def test_a_key_with_options_or_cut_off_is_no_key(desk: Desk, tmp_path: Path) -> None:
    good = (desk.keys / "good.pub").read_text().split()
    for line in (f'command="x" {good[0]} {good[1]}', f"{good[0]} {good[1][:-8]}",
                 f"ssh-rsa {good[1]}", "ssh-rsa AAAAB3NzaC1yc2E=",
                 f"{good[0]} {good[1]}\n{good[0]} {good[1]}"):  # fmt: skip
        (tmp_path / "odd.pub").write_text(line)
        done = desk.ask(pi1=desk.node(public_key=str(tmp_path / "odd.pub")))
        assert done.returncode == 1 and "Traceback" not in done.stderr, line


def test_a_damaged_private_key_is_left_to_ssh_to_tell(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "odd.pub").write_text((desk.keys / "good.pub").read_text())
    for text in ("AAA", "b3BlbnNzaC1rZXktdjEA", "-"):
        begin, end = (f"-----{word} OPENSSH PRIVATE KEY-----" for word in ("BEGIN", "END"))
        (tmp_path / "odd").write_text(f"{begin}\n{text}\n{end}\n")
        done = desk.ask(pi1=desk.node(public_key=str(tmp_path / "odd.pub")))
        assert done.returncode == 0, done.stderr


def test_an_encrypted_key_that_the_agent_has_is_as_good_as_any(desk: Desk) -> None:
    started = subprocess.run(["ssh-agent", "-s"], capture_output=True, text=True, check=True).stdout
    words = dict(part.split("=") for part in started.replace("\n", "").split(";") if "=" in part)
    desk.environment |= {**words, "SSH_ASKPASS_REQUIRE": "force", "SSH_ASKPASS": "/bin/false"}
    asks = desk.folder.parent / "asks"
    asks.write_text("#!/bin/sh\necho a phrase\n")
    asks.chmod(0o700)
    environment = {**desk.environment, "SSH_ASKPASS": str(asks)}
    try:
        subprocess.run(["ssh-add", "-q", desk.keys / "locked"], env=environment, check=True)
        done = desk.ask(pi1=desk.node(public_key=str(desk.keys / "locked.pub")))
    finally:
        os.kill(int(words["SSH_AGENT_PID"]), signal.SIGTERM)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"reached": "pi1.local"}, "has the address pi1.local"),
        ({"hostname": "pi1"}, "is called pi1"),
        ({**STATIC, "reached": "pi2"}, "has the address 192.168.1.21"),
    ],
)
def test_two_nodes_with_one_address_or_name_are_refused(
    desk: Desk, other: dict[str, str], words: str
) -> None:
    first = desk.node(**(STATIC if "address" in other else {}))
    second = desk.node(**{"hostname": "pi2", "reached": "pi2.local", **other})
    done = desk.ask(pi1=first, pi2=second)
    assert done.returncode == 1 and f"pi1, pi2: each of them {words}" in done.stderr
    assert not desk.folder.exists()


def test_a_card_gets_no_address_at_which_another_node_is_reached(desk: Desk) -> None:
    card = desk.node(**STATIC, hostname="pi2", reached="pi2.local")
    done = desk.ask(pi1=desk.node(reached="192.168.1.21"), pi2=card)
    assert done.returncode == 1 and "each of them has the address 192.168.1.21" in done.stderr
    # Its own is another matter.
    assert desk.ask(pi2={**card, "reached": "192.168.1.21"}).returncode == 0


def test_a_mounted_boot_partition_gets_the_files_of_one_node(desk: Desk, tmp_path: Path) -> None:
    boot = tmp_path / "boot"
    desk.boot = str(boot)
    assert "is no folder" in desk.ask(pi1=desk.node()).stderr
    boot.mkdir()
    assert "is no boot partition" in desk.ask(pi1=desk.node()).stderr
    (boot / "config.txt").write_text("# the image's own")
    two = desk.ask(pi1=desk.node(), pi2=desk.node(hostname="pi2", reached="pi2"))
    assert "add `--limit NODE`" in two.stderr
    assert [path.name for path in boot.iterdir()] == ["config.txt"]
    assert desk.ask(pi1=desk.node()).returncode == 0
    wanted = ["config.txt", "meta-data", "network-config", "user-data"]
    assert sorted(path.name for path in boot.iterdir()) == wanted


def test_a_mounted_card_gets_no_image_as_well(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "config.txt").write_text("# the image's own")
    desk.boot, desk.image = str(tmp_path), str(tmp_path / "os.img.xz")
    done = desk.ask(pi1=desk.node())
    assert done.returncode == 1 and "leave boot out" in done.stderr
    assert not (tmp_path / "user-data").exists()
