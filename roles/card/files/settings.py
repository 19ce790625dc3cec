"""What a card may be told: everything that is wrong with it is found before anything is written."""

from __future__ import annotations

import base64
import ipaddress
import os
import re
import subprocess
import zoneinfo
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

HOSTNAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
ACCOUNT = re.compile(r"[a-z_][a-z0-9_-]{0,31}\Z")
# What sshd of Debian 12 and newer takes: no DSA, and no RSA below this.
KEY_KINDS = re.compile(
    r"(sk-)?(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521))(@openssh\.com)?\Z"
)
RSA_BITS = 2048
# All that is ever put onto a card beside its image: what its system reads at its first boot.
FILES = ("user-data", "network-config", "meta-data", "custom.toml")


class Node(TypedDict):
    """One node, as role card hands it over: empty where nothing is asked for."""

    system: str
    hostname: str
    account: str
    public_key: str  # a file
    private_key: str  # a file, or nothing
    timezone: str
    locale: str
    keymap: str
    interface: str
    address: str  # 192.168.1.21/24, or nothing for DHCP
    gateway: str
    nameservers: list[str]
    wifi: str
    wifi_password: str
    wifi_country: str
    reached: str  # where the inventory reaches the node: ansible_host, and a port unless it is 22


def problems(chosen: dict[str, Node], everybody: dict[str, dict[str, str]]) -> list[str]:
    """Tell what is wrong with the nodes for which there shall be a card, one sentence each.

    ``everybody`` has ``reached``, ``address`` and ``hostname`` of all nodes of the inventory.
    """
    found = [f"{name}: {what}" for name, node in chosen.items() for what in wrong_with(node)]
    # A node may have one address twice: as the one that its card gets, and where it is reached.
    for whats, of in ((("reached", "address"), "has the address"), (("hostname",), "is called")):
        names: dict[str, set[str]] = {}
        for name, node in everybody.items():
            for what in whats:
                if value := str(node[what]).partition("/")[0]:
                    names.setdefault(value, set()).add(name)
        found += [
            f"{', '.join(sorted(alike))}: each of them {of} {value}. One value for one node."
            for value, alike in names.items()
            if len(alike) > 1 and alike & set(chosen)
        ]
    return found


def wrong_with(node: Node) -> Iterator[str]:
    """Yield what is wrong with one node."""
    if not HOSTNAME.match(node["hostname"]):
        yield (
            f"{node['hostname']!r} is no host name: lower-case letters, digits and hyphens,"
            " no underscore, at most 63. Set card_hostname."
        )
    if not ACCOUNT.match(node["account"]) or node["account"] == "root":
        yield f"{node['account']!r} is no account to be made. Set ansible_user, such as pi."
    elif node["account"].startswith("fedrnn"):
        yield (
            f"{node['account']!r} is a name of the node's own accounts, which have no shell. Set"
            " ansible_user to another, such as pi."
        )
    zones = zoneinfo.available_timezones()
    if zones and node["timezone"] not in zones:
        yield f"there is no time zone {node['timezone']!r}. It is a name such as Europe/Berlin."
    if node["locale"] and not re.fullmatch(r"[A-Za-z_]+\.(UTF-8|utf8)", node["locale"]):
        yield f"{node['locale']!r} is no locale with UTF-8, such as de_DE.UTF-8."
    if not re.fullmatch(r"[a-z]{2,8}[0-9]{0,2}", node["interface"]):
        yield f"card_interface {node['interface']!r} is no name such as eth0 or wlan0."
    yield from wrong_with_address(node)
    yield from wrong_with_wifi(node)
    yield from wrong_with_key(node)


def wrong_with_address(node: Node) -> Iterator[str]:
    """A static address, its router and name servers."""
    if not node["address"]:
        return
    if node["system"] == "bookworm":
        yield (
            "custom.toml of Bookworm knows no static address. Reserve it at the router for this"
            " Pi, and leave card_address out."
        )
    try:
        own = ipaddress.ip_interface(node["address"])
        router = ipaddress.ip_address(node["gateway"])
        for server in node["nameservers"]:
            ipaddress.ip_address(server)
    except ValueError as error:
        yield (
            f"{error}. Beside card_address, such as 192.168.1.21/24, stand card_gateway,"
            " the router's address, and perhaps card_nameservers."
        )
        return
    # Without a length of the network it would be one of this address alone.
    if own.network.num_addresses < 4:
        yield f"card_address {node['address']} has no network: write it as {own.ip}/24."
    elif own.ip in (own.network.network_address, own.network.broadcast_address, router):
        yield f"{own.ip} is the network's or the router's address, not one for a node."
    elif router not in own.network:
        yield f"the router {router} is not in the network {own.network} of card_address."
    try:
        elsewhere = ipaddress.ip_address(node["reached"].partition(" ")[0]) != own.ip
    except ValueError:
        return  # a name
    if elsewhere:
        yield f"the card gets {own.ip}, but the inventory says ansible_host {node['reached']}."


def wrong_with_wifi(node: Node) -> Iterator[str]:
    """Name, password and country of the wifi network. No message holds the password."""
    if not node["wifi"]:
        if node["wifi_password"]:
            yield "card_wifi_password without card_wifi, the name of the network."
        return
    if len(node["wifi"].encode()) > 32 or not node["wifi"].isprintable():
        yield f"{node['wifi']!r} is no name of a wifi network: at most 32 bytes."
    password = node["wifi_password"]
    if not re.fullmatch(r"[ -~]{8,63}|[0-9a-fA-F]{64}", password):
        yield (
            f"card_wifi_password has {len(password)} characters. WPA takes 8 to 63 of ASCII,"
            " or a key of 64 hexadecimal digits."
        )
    if not re.fullmatch(r"[A-Z]{2}", node["wifi_country"]) or node["wifi_country"] == "UK":
        yield (
            f"card_wifi_country {node['wifi_country']!r} is no code such as DE, US or GB (ISO"
            " 3166), and without one a Pi's wifi stays off."
        )


def wrong_with_key(node: Node) -> Iterator[str]:
    """The operator's public key, and whether ssh here can use its private half."""
    path = Path(node["public_key"]).expanduser()
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        yield (
            f"{path} cannot be read as a public key ({error}). `ssh-keygen -t ed25519` makes a"
            " pair; card_public_key names the file that ends in .pub."
        )
        return
    if "PRIVATE KEY" in text:
        yield (
            f"{path} is a PRIVATE key, which must never be on a card. Set card_public_key to"
            f" {path}.pub."
        )
        return
    if why := unusable(text):
        yield f"{path} {why} `ssh-keygen -t ed25519` makes one that every node takes."
        return
    private = Path(node["private_key"] or path.with_suffix("")).expanduser()
    if is_encrypted(private) and text.split()[1] not in agent_keys():
        yield (
            f"{private} is encrypted and no agent has it, so Ansible could not use it. Run"
            f' `eval "$(ssh-agent)"; ssh-add {private}`, then this again.'
        )


def unusable(line: str) -> str:
    """Say why a node would not take a public key; nothing if it would. Format: RFC 4253, 6.6."""
    if line.count("\n") or len(line.split()) < 2:
        return "is not one public key on one line."
    kind, encoded = line.split()[:2]
    try:
        parts = list(fields(base64.b64decode(encoded, validate=True)))
    except ValueError:
        return "is no public key: its second word is damaged, or has options in front."
    if not parts or parts[0] != kind.encode():
        return f"is damaged: it says {kind} and holds another kind."
    if not KEY_KINDS.match(kind):
        return f"is a key of the kind {kind}, which a node refuses."
    bits = int.from_bytes(parts[-1], "big").bit_length()
    if kind == "ssh-rsa" and bits < RSA_BITS:
        return f"is an RSA key of {bits} bits, and a node wants {RSA_BITS}."
    return ""


def fields(blob: bytes) -> Iterator[bytes]:
    """Yield the strings of a key, each behind its length. Raises ValueError."""
    while blob:
        length = int.from_bytes(blob[:4], "big")
        if len(blob) < 4 + length:
            raise ValueError("cut off")
        yield blob[4 : 4 + length]
        blob = blob[4 + length :]


def is_encrypted(private: Path) -> bool:
    """Whether a private key needs a passphrase. Format: PROTOCOL.key of OpenSSH, and PEM."""
    try:
        text = private.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return False
    if "ENCRYPTED" in text:
        return True
    if "OPENSSH PRIVATE KEY" not in text:
        return False
    magic = b"openssh-key-v1\0"
    try:
        blob = base64.b64decode("".join(text.split("-----")[2].split()))
        return blob.startswith(magic) and next(fields(blob[len(magic) :])) != b"none"
    except (ValueError, IndexError, StopIteration):  # damaged: ssh itself will say so
        return False


def agent_keys() -> str:
    """The public keys that the agent has, as it lists them."""
    if not os.environ.get("SSH_AUTH_SOCK"):
        return ""
    asked = ["ssh-add", "-L"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout
