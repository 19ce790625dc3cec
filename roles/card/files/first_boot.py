"""The first-boot files of cards, from what the inventory says of their nodes.

Reads JSON: ``everybody``, what tells nodes apart; ``nodes``, those that get files; ``folder``,
where each gets a folder of its name, or ``boot``, the one place for the one node; ``image``, which
is to be written with them. Prints where files changed. Exit status 1 with one line for each
problem, and then nothing was written.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import yaml
from settings import FILES, Node, problems

NOTE = "# Made from the inventory by playbooks/sdcard.yml. Read once, at the first boot.\n"
# Of the boot partition of every image for a Pi, one of these.
BOOT_FILES = ("cmdline.txt", "config.txt")


def files(node: Node) -> dict[str, str]:
    """Return the text of each file that this node's system reads at its first boot."""
    key = Path(node["public_key"]).expanduser().read_text(encoding="ascii").strip()
    if node["system"] == "bookworm":
        return {"custom.toml": NOTE + custom_toml(node, key)}
    user = "#cloud-config\n" + NOTE + as_yaml(user_data(node, key))
    network = NOTE + as_yaml(network_config(node))
    # Another identity makes cloud-init do its work anew, so it stands for what is asked for.
    digest = hashlib.sha256((user + network).encode()).hexdigest()[:12]
    meta = as_yaml({"instance-id": f"{node['hostname']}-{digest}"})
    return {"user-data": user, "network-config": network, "meta-data": meta}


def as_yaml(value: dict[str, Any]) -> str:
    """Return YAML in the order of the dictionary, one line for one value."""
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=1 << 16)


def user_data(node: Node, key: str) -> dict[str, Any]:
    """Name, account, key, clock: https://cloudinit.readthedocs.io/en/latest/reference/modules.html."""
    commands = [["systemctl", "enable", "--now", "ssh"]]
    if node["wifi"]:
        country = f"raspi-config nonint do_wifi_country {node['wifi_country']}"
        commands.append(["sh", "-c", f"! command -v raspi-config || {country}"])
    account = {
        "name": node["account"],
        "shell": "/bin/bash",
        "lock_passwd": True,
        "sudo": "ALL=(ALL) NOPASSWD:ALL",
        "ssh_authorized_keys": [key],
    }
    return {
        "hostname": node["hostname"],
        "manage_etc_hosts": "localhost",
        "timezone": node["timezone"],
        # "false" leaves the image's own: without a word cloud-init 22.4 sets en_US.UTF-8, which
        # Debian's images have not generated.
        "locale": node["locale"] or "false",
        "users": [account],
        "disable_root": True,
        "ssh_pwauth": False,
        "ssh_genkeytypes": ["ed25519"],
        "package_update": False,
        # Raspberry Pi OS comes with SSH and wifi switched off.
        "runcmd": commands,
    }


def network_config(node: Node) -> dict[str, Any]:
    """Network configuration of version 2, by the kernel's names, as on a Pi.

    cloud-init's renderer for systemd-networkd knows no patterns.
    """
    own: dict[str, Any] = {"dhcp4": True}
    if node["address"]:
        own = {
            "dhcp4": False,
            "addresses": [node["address"]],
            # Not `default`, which the cloud-init of Debian 12 does not know.
            "routes": [
                {"to": "::/0" if ":" in node["gateway"] else "0.0.0.0/0", "via": node["gateway"]}
            ],
            "nameservers": {"addresses": node["nameservers"] or [node["gateway"]]},
        }
    if not node["wifi"]:
        return {"version": 2, "ethernets": {node["interface"]: own}}
    network = {"password": wifi_key(node["wifi"], node["wifi_password"])}
    wireless: dict[str, Any] = {
        "regulatory-domain": node["wifi_country"],
        "access-points": {node["wifi"]: network},
    }
    on_wire = node["interface"].startswith("eth")
    return {
        "version": 2,
        # One of the two is enough: the boot does not wait for the other.
        "ethernets": {"eth0": {**(own if on_wire else {"dhcp4": True}), "optional": True}},
        "wifis": {
            "wlan0" if on_wire else node["interface"]: {
                **({"dhcp4": True} if on_wire else own),
                "optional": True,
                **wireless,
            }
        },
    }


def wifi_key(name: str, password: str) -> str:
    """The key that WPA makes of a password (IEEE 802.11, J.4), so that the card has no password."""
    if len(password) == 64:
        return password.lower()
    key = hashlib.pbkdf2_hmac("sha1", password.encode("ascii"), name.encode(), 4096, 32)
    return key.hex()


def custom_toml(node: Node, key: str) -> str:
    """Return what raspberrypi-sys-mods of Bookworm reads. JSON's strings are TOML's.

    Without a password the account is locked for passwords.
    """
    sections: dict[str, dict[str, object]] = {
        "system": {"hostname": node["hostname"]},
        "user": {"name": node["account"]},
        "ssh": {"enabled": True, "password_authentication": False, "authorized_keys": [key]},
        "locale": {"keymap": node["keymap"], "timezone": node["timezone"]},
    }
    if node["wifi"]:
        sections["wlan"] = {
            "ssid": node["wifi"],
            "password": wifi_key(node["wifi"], node["wifi_password"]),
            "password_encrypted": True,
            "hidden": False,
            "country": node["wifi_country"],
        }
    lines = ["config_version = 1"]
    for section, values in sections.items():
        lines += ["", f"[{section}]"]
        lines += [f"{name} = {json.dumps(v, ensure_ascii=False)}" for name, v in values.items()]
    return "\n".join(lines) + "\n"


def write(folder: Path, texts: dict[str, str], private: bool) -> bool:
    """Make a folder hold these files; return whether any differed. A card knows no modes."""
    if private:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Those of the other system. What else is there is not ours.
        for name in set(FILES) - set(texts):
            (folder / name).unlink(missing_ok=True)
    changed = False
    for name, text in texts.items():
        path = folder / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        changed = True
    return changed


def wrong_with_place(boot: str, image: str, nodes: dict[str, Node]) -> list[str]:
    """Say why the files cannot go to a mounted boot partition."""
    if not boot:
        return []
    if image:
        return [
            "A card that is mounted (boot) cannot get an image as well: leave boot out, and the"
            " node's files are written with the image."
        ]
    if len(nodes) != 1:
        return [f"One card is one node's, and these are {len(nodes)}: add `--limit NODE`."]
    if not Path(boot).is_dir():
        return [f"{boot} is no folder. Is the card's first partition mounted, and there?"]
    if not any((Path(boot) / name).exists() for name in BOOT_FILES):
        names = " nor ".join(BOOT_FILES)
        return [f"{boot} is no boot partition of a Pi: it has neither {names}."]
    return []


def main() -> int:
    """Read the question from standard input; return the exit status."""
    asked = json.load(sys.stdin)
    nodes: dict[str, Node] = asked["nodes"]
    place = wrong_with_place(asked["boot"], asked["image"], nodes)
    if found := problems(nodes, asked["everybody"]) + place:
        print("\n".join(found), file=sys.stderr)
        return 1
    for name, node in nodes.items():
        folder = Path(asked["boot"] or Path(asked["folder"]) / name)
        if write(folder, files(node), private=not asked["boot"]):
            print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
