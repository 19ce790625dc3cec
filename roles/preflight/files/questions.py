"""What a node may answer: a pattern for the lines of each question of probe.sh, and the most lines.

Answers decide on the controller, and go into commands and into the /etc/hosts of other nodes.
Preflight stops a node whose answer does not match, and drops answers to questions that are not
listed here.
"""

from __future__ import annotations

import re

SHOWN = r"[^\x00-\x1f\x7f-\x9f]{1,2000}"  # text for people
WORDS = r"[!-~][ -~\t]{0,999}"
NAME = r"[A-Za-z0-9][\w.@-]{0,63}"
PATH = r"/[\w./@+-]{0,250}"
PACKAGE = r"[a-z0-9][a-z0-9+.-]{0,100}"
SHA256 = r"[0-9a-f]{64}"
NUMBER = r"[0-9]{1,15}"
MAKERS = "rpi-swap|systemd-zram-generator|dphys-swapfile|zram-tools|/etc/fstab"

QUESTIONS: dict[str, tuple[str, int]] = {
    "clock": (NUMBER, 2),
    "root": (SHOWN, 30),
    "user": (SHOWN, 1),
    "home": (SHOWN, 2),
    "release": (NAME, 2),
    "kernel": (NAME, 1),
    "userland": (NAME, 1),
    "python": (r"[0-9]{1,2}\.[0-9]{1,3}", 1),
    "python_built": (SHA256, 1),
    "container": (NAME, 1),
    "model": (SHOWN, 1),
    "features": (WORDS, 1),
    "hostname": (NAME, 1),
    "cluster_hosts": (r"[0-9A-Fa-f:][\w.:% \t-]{1,400}", 10_000),
    "timezone": (r"[\w./+-]{1,200}", 1),
    "timesync": (NAME, 1),
    "locale": (NAME, 1),
    "locales": (SHOWN, 2_000),
    "cloud_init": (PATH, 1),
    "cmdline": (r"[ -~\t]{1,4096}", 1),
    "boot_file": (r"/boot/(firmware/)?cmdline\.txt", 1),
    "machine": ("[0-9a-f]{1,32}|uninitialized", 1),
    "addresses": (WORDS, 100),
    "address": (r"([0-9]{1,3}\.){3}[0-9]{1,3}|[0-9a-f:]{2,39}", 1),
    "routes": (WORDS, 1_000),
    "memory": (rf"MemTotal:\s+{NUMBER} kB|[0-9]{{1,20}}|max", 3),
    "controllers": (WORDS, 60),
    "swaps": (rf"[!-~]{{1,250}}\s+[a-z]+\s+{NUMBER}\s+{NUMBER}\s+-?{NUMBER}", 32),
    "swap_makers": (MAKERS, 5),
    "swap_own": (MAKERS, 1),
    "disk": (rf"{SHOWN} {NUMBER} +{NUMBER} +-?{NUMBER} +([0-9]{{1,3}}%|-) +{PATH}", 1),
    "mounts": (
        rf"[^\x00-\x20\x7f-\x9f]{{1,999}} {PATH} [!-~]{{1,50}} [!-~]{{1,9999}} [0-9] [0-9]",
        32,
    ),
    "identity": (r"[0-9a-f]{32}", 1),
    "accounts": ("fedrnn(-owner)?", 2),
    "before": (PATH, 1),
    "foreign": ("(account|group) fedrnn(-owner|-wire|-job)?", 8),
    "researchers": (r"[^\x00-\x08\x0a-\x1f\x7f-\x9f]{1,4000}", 1_000),
    "sshd": (rf"({SHA256}|unproved)  {PATH}", 100),
    "tmp_of_owner": (PATH, 1),
    "os_in_force": (SHA256, 1),
    "torch_proved": (SHA256, 1),
    "share": (rf"{NAME} {SHA256}", 1),
    "installed": ("yes", 1),
    "write": (f"-?{NUMBER}", 1),
    "names": (r"(yes|no) [\w.:-]{1,253}", 100),
    "sites": (r"(yes|no) [\w.:-]{1,253}", 100),
    "kernel_log": (SHOWN, 40),
    "temperature": (r"-?[0-9]{1,7}", 100),
    "throttled": (WORDS, 3),
    "wifi": (PATH, 32),
    "rfkill": (WORDS, 32),
    "packages": (PACKAGE, 50_000),
    "stray": (SHOWN, 1_000),
    "apt_locks": (rf"{PATH} {NUMBER}( {SHOWN})?", 16),
    "unconfigured": (PACKAGE, 50_000),
    # Of fedrnn/reporting/nodes.sh.
    "kernel_release": (r"[\w.+-]{1,100}", 1),
    "pretty": (SHOWN, 1),
    "uptime": (r"[0-9.]{1,20} [0-9.]{1,20}", 1),
    "meminfo": (rf"[\w()]{{1,40}}:\s+{NUMBER}( kB)?", 200),
    "venv": (r"[A-Za-z][\w .+-]{1,100}", 10),
    "vcgencmd": (PATH, 1),
    "datasite": (NAME, 1),
    "datasite_failed": (NAME, 1),
    "drained": (PATH, 1),
    "last_job": (r"[^\x00-\x1f\x7f-\x9f]{1,100000}", 10_000),
    "told": ("", 0),
}
_PATTERNS = {name: re.compile(pattern, re.ASCII) for name, (pattern, _) in QUESTIONS.items()}


def malformed(lines: dict[str, list[str]]) -> list[str]:
    """Return the questions with a line that does not match, or with too many lines."""
    return [
        name
        for name, (_, most) in QUESTIONS.items()
        if len(said := lines.get(name, [])) > most or not all(map(_PATTERNS[name].fullmatch, said))
    ]
