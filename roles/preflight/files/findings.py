"""Everything that preflight can find: what it says, what to do about it, and whether it stops.

The texts are filled in by checks.py. docs/troubleshooting.md has an entry for each name.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A kind of problem. `stops`: the node cannot be provisioned as long as it has it."""

    says: str
    remedy: str
    stops: bool = True


FLASH = (
    "Flash the card with Raspberry Pi OS Lite (64-bit), Bookworm or Trixie; in the imager it is"
    " under `Raspberry Pi OS (other)`"
)
PASSWORDLESS = "`echo '{user} ALL=(ALL) NOPASSWD: ALL' | sudo tee /etc/sudoers.d/010_operator`"

SWAP = "`ansible-playbook -i {inventory} playbooks/cluster.yml --tags swap`"

KINDS = {
    # The way to the node.
    "unreachable": Kind(
        "does not answer over SSH: {said}",
        "Is it switched on, on the network, and at this address? `ansible -i {inventory} -m ping"
        " {node} -vvv` shows what ssh tried. To go on without it:"
        " `--limit 'all:localhost:!{node}'`",
    ),
    "host-key": Kind(
        "has another host key than the one that was pinned, or none is pinned: {said}",
        "Find out why first: a newly flashed card explains it, an unknown reason may be somebody"
        " between you and the node. If you trust it: `ssh-keygen -R {known_as} -f"
        " {known_hosts}`, then pin the new key as docs/your-own-pis.md shows",
    ),
    "exchanged": Kind(
        "is not at its address: {other} answers there, as its {what} shows",
        "Correct ansible_host of {node} and {other} in the inventory, or give both their addresses"
        " back in the router. Pin host keys again only as docs/nodes.md shows. To look again:"
        " `ansible-playbook -i {inventory} playbooks/preflight.yml`",
    ),
    "ssh-key": Kind(
        "does not let {user} in: {said}",
        "`ssh-copy-id {user}@{address}` brings your key to the node; ansible_user in the inventory"
        " must be the account that you named in the imager",
    ),
    "operator": Kind(
        "is reached as {account}, and site.yml gives accounts with such a name no shell: you would"
        " be locked out",
        "Make an account with another name, your key and sudo on the node, and set ansible_user to"
        " it",
    ),
    "answer": Kind(
        "answered with something other than a shell's reply: {said}",
        "`ssh {user}@{address} true` must print nothing: look at ~/.bashrc and /etc/profile there",
    ),
    "malformed": Kind(
        "sent a malformed answer to: {questions}",
        "roles/preflight/files/probe.sh has the command of each question: look at what it prints"
        " on the node. If nothing explains it, somebody else may control the node: flash its card",
    ),
    "sudo": Kind(
        "does not let {user} become root without a password: {said}",
        f"Images since April 2026 ask for one. On the node: {PASSWORDLESS}; or run Ansible with"
        " --ask-become-pass",
    ),
    "foreign-account": Kind(
        "has accounts or groups that site.yml did not make, with the names of ours: {names}",
        "`ssh {user}@{address} getent passwd {plain}` and `getent group` show them. On the node,"
        " rename them with `usermod -l NEW OLD` and `groupmod -n NEW OLD`, or remove them with"
        " `userdel NAME` and `groupdel NAME`",
    ),
    "researcher-key": Kind(
        "knows {sender} by the key {theirs}, and this inventory has {ours}: the controller with"
        " the other key would be locked out",
        "Copy the folder keys/ of the first controller to {inventory}/keys. Or add a second"
        " researcher: `pysyft_researchers: [{{email: second@lab.local, key:"
        ' "{{{{ inventory_dir }}}}/keys/researcher.pub"}}, {{email: {sender}, key:'
        ' "{{{{ inventory_dir }}}}/keys/first.pub"}}]`'
        " with the first controller's public key (docs/your-own-pis.md). Or replace the key:"
        " `-e pysyft_retired_keys={theirs}`",
    ),
    "researcher-missing": Kind(
        "knows the researcher {sender} by the key {theirs}, and this inventory does not list"
        " {sender}: the researcher would be locked out",
        "Add the researcher to pysyft_researchers with that public key. Or remove the researcher:"
        " `-e pysyft_retired_keys={theirs}`",
    ),
    "researcher-lines": Kind(
        "has lines in /etc/fedrnn/researchers.keys that site.yml did not write and would remove:"
        " {count}",
        "`ssh {user}@{address} sudo cat /etc/fedrnn/researchers.keys` shows them. Add those"
        " researchers to pysyft_researchers, and remove the lines on the node",
    ),
    "home": Kind(
        "has no home directory for {user} that it can write to ({home}), where Ansible works",
        "On the node, as root: `mkhomedir_helper {user}`, or make the folder that `getent passwd"
        " {user}` names and give it to {user}",
    ),
    # Which node it is: see role identity.
    "identity": Kind(
        "shows {shown} identity, and is not the node that was pinned: its card was flashed anew, or"
        " another machine has its address",
        "If you have replaced it: `sed -i '/^{node} /d' {inventory}/known_nodes`, then"
        " `ansible-playbook -i {inventory} site.yml`. If not, correct its address: docs/nodes.md",
    ),
    "renamed": Kind(
        "shows the identity that is pinned for {other}, which the inventory does not have",
        "If you have renamed {other}: `sed -i 's/^{other} /{node} /' {inventory}/known_nodes`. If"
        " not, correct its address: docs/nodes.md",
    ),
    "same-identity": Kind(
        "shows the identity of {other}: their cards are copies of each other",
        "On the copy: `sudo rm /opt/fedrnn/.identity`; here, if it is pinned:"
        " `sed -i '/^{node} /d' {inventory}/known_nodes`. Then site.yml gives it one of its own",
    ),
    "unpinned": Kind(
        "shows an identity that is not pinned here: another controller, or another copy of the"
        " inventory, has provisioned it",
        "site.yml pins it. To compare it first, copy known_nodes from there",
        stops=False,
    ),
    # What was written to the card.
    "release": Kind(
        "runs {found}, and supported are {wanted} and newer",
        FLASH,
    ),
    "32-bit": Kind(
        "has a 32-bit userland ({userland}) under a {kernel} kernel: no torch and no PySyft exists"
        " for it",
        FLASH + ". A Pi 3, 4, 5 and Zero 2 W run it; `arm_64bit=1` alone changes the kernel only",
    ),
    "python": Kind(
        "has no Python, which Ansible and fedrnn need",
        "`sudo apt-get install python3` on the node",
    ),
    "old-python": Kind(
        "has Python {found}, and needs {wanted} or newer",
        "site.yml builds Python {wanted} beside it from Debian's source, once: minutes on a Pi 5,"
        " about an hour on a Pi 3. An image with Bookworm or Trixie has a newer one",
        stops=False,
    ),
    "lock": Kind(
        "is {userland} with Python {python}, for which there is no lock of wheels {lock}",
        "Use an image with one of {locks}; or add the name to roles/wheelhouse/files/lock.py and"
        " run `make locks`",
    ),
    "torch-atomics": Kind(
        "has a processor without the atomic instructions of ARMv8.1, and torch {torch} of lock"
        " {lock} would end with SIGILL (illegal instruction) at import",
        "Put torch==2.9.1 into roles/wheelhouse/files/locks/node.in and run `make locks`: it is the"
        " newest that runs on a Pi 3, 4 and Zero 2 W",
    ),
    "torch-cuda": Kind(
        "would get torch {torch} of lock {lock}, which brings 3 GB of CUDA",
        "Put torch==2.9.1 into roles/wheelhouse/files/locks/node.in and run `make locks`: newer"
        " wheels for aarch64 need CUDA or a Pi 5",
    ),
    "apt-python": Kind(
        "has {packages} from apt: `python3` sees them, fedrnn's /opt/fedrnn/venv does not",
        "Nothing, if you use /opt/fedrnn/venv/bin/python; else `sudo apt-get remove {packages}`",
        stops=False,
    ),
    "stray-python": Kind(
        "has leftovers of another installation: {paths}",
        "`sudo rm -r {paths}` and the .dist-info folders beside them, or the account's own Python"
        " programs use an old syft or a torchvision that fits no torch",
        stops=False,
    ),
    # Memory and disk.
    "memory": Kind(
        "has {found} MiB of memory, and training needs {wanted} MiB",
        "Use a board with 512 MB or more and `gpu_mem=16` in /boot/firmware/config.txt; swap does"
        " not replace memory here",
    ),
    "swap": Kind(
        "has {memory} MiB of memory and {swap} MiB of swap, together less than {wanted} MiB",
        f"site.yml makes swap; alone: {SWAP}",
        stops=False,
    ),
    "two-swaps": Kind(
        "has more than one mechanism that makes swap: {makers}",
        f"site.yml leaves one; alone: {SWAP}",
        stops=False,
    ),
    "memory-limits": Kind(
        "booted without the memory controller, so the limit on a job's memory does not hold",
        "site.yml adds cgroup_enable=memory to /boot/firmware/cmdline.txt and reboots",
        stops=False,
    ),
    "disk-full": Kind(
        "has {found} MiB free under /opt, and needs {wanted} MiB",
        "`sudo apt-get clean; sudo journalctl --vacuum-size=20M` makes room, `sudo raspi-config"
        " --expand-rootfs` and a reboot use the whole card; or take one of 16 GB or more",
    ),
    "disk-slow": Kind(
        "writes {found} MB/s to its disk, and less than {wanted} MB/s makes everything wait",
        "Use a card of class A1 or A2, or a USB SSD; a card that was faster once is wearing out",
        stops=False,
    ),
    "read-only": Kind(
        "has mounted {where} read-only",
        "The file system is damaged or the card worn out: `dmesg | grep -i -e mmc -e ext4`, then"
        " add `fsck.mode=force fsck.repair=yes` to the line in cmdline.txt of the card's first"
        " partition, reboot and take it out again; if it comes back, use a new card",
    ),
    "io-errors": Kind(
        "has errors of the card in its kernel's log: {line}",
        "Save what you need, then use a new card; under-voltage causes such errors too",
    ),
    # The board.
    "under-voltage": Kind(
        "has under-voltage {when} (get_throttled={flags})",
        "Use the power supply of the board (5.1 V; 2.5 A for a Pi 3, 3 A for a 4, 5 A for a 5)"
        " with a short cable, and no bus-powered disks: cards are damaged by it",
        stops=False,
    ),
    "throttled": Kind(
        "runs slower than it can, {when}: {what} (get_throttled={flags})",
        "A heat sink or fan helps against temperature, a better supply against under-voltage",
        stops=False,
    ),
    "temperature": Kind(
        "is {found} °C hot; it slows down at 80 and switches off at 85",
        "A heat sink or fan, and air around the board",
        stops=False,
    ),
    "clock": Kind(
        "has a clock {found} s away from the controller's",
        "A Pi 3 or 4 has no battery for it. `sudo timedatectl set-ntp true` where it reaches a time"
        " server, else `ssh {user}@{address} sudo date -s @$(date +%s)`",
    ),
    # The network.
    "route": Kind(
        "has no default route, so its apt reaches no archive",
        "`ip route` and `nmcli device` on the node; the router's address belongs in its network"
        " settings. A node that has all packages needs none: preflight_internet: false",
        stops=False,
    ),
    "names": Kind(
        "cannot resolve {hosts}, so its apt finds no archive",
        "`resolvectl status` or `cat /etc/resolv.conf` on the node: the name server is missing or"
        " does not answer. A node that has all packages needs none: preflight_internet: false",
        stops=False,
    ),
    "site": Kind(
        "does not reach {sites}, though it reaches {others}",
        "Nothing: fedrnn does not need it, Python packages come from the controller over SSH. A"
        " filter or proxy of your network is the usual reason",
        stops=False,
    ),
    "wifi-firmware": Kind(
        "has wifi without firmware or driver: {line}",
        "`sudo apt-get install firmware-brcm80211` (Raspberry Pi OS), or that of your stick, and"
        " reboot; or use the cable",
        stops=False,
    ),
    "wifi-country": Kind(
        "has its wifi blocked, as it is until a country is set",
        "`sudo raspi-config nonint do_wifi_country DE` with your country; `rfkill list` shows it",
        stops=False,
    ),
    # The package manager.
    "apt-lock": Kind(
        "has {lock} held by {program} (process {pid})",
        "Wait: an upgrade at boot takes minutes. site.yml waits as well, for five",
        stops=False,
    ),
    "half-configured": Kind(
        "has packages that an interruption left half configured: {packages}",
        "site.yml configures them; alone: `sudo dpkg --configure -a`",
        stops=False,
    ),
    # Two nodes, and the inventory.
    "same-address": Kind(
        "has the address {address}, as {other} has",
        "One address belongs to one node: correct ansible_host in the inventory, or give one of"
        " them another address in the router",
    ),
    "same-name": Kind(
        "calls itself {hostname}, as {other} does",
        "site.yml gives each node its name in the inventory",
        stops=False,
    ),
    "same-machine": Kind(
        "has the machine-id of {other}: their cards are copies of each other",
        "On one of them: `sudo rm /etc/machine-id /etc/ssh/ssh_host_*_key*; sudo"
        " systemd-machine-id-setup; sudo ssh-keygen -A; sudo reboot`, then pin its new host key",
        stops=False,
    ),
    "variable": Kind(
        "is given {name}, which no role knows",
        "Correct or remove it in the inventory or after -e{close}; roles/{role}/README.md lists"
        " what there is",
    ),
}
# Those that say whether it is the node that is meant; playbooks/reset.yml asks no more.
OF_IDENTITY = {
    "unreachable", "host-key", "exchanged", "ssh-key", "answer", "malformed", "identity",
    "renamed", "same-identity", "unpinned", "same-address",
}  # fmt: skip
