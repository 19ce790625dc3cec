#!/usr/bin/python3
"""Compare a virtual environment with a lock of wheels."""

from __future__ import annotations

import base64
import csv
import hashlib
import os
import re
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: venv_drift
short_description: Compare a virtual environment with a lock of wheels
description:
  - Reports packages that are missing, of another version, altered, or not in the
    lock. Changes nothing.
  - A file counts as altered when it is gone or its size differs from the package's RECORD. Files
    that changed after the stamp was written are read and hashed as well, the others are not - that
    would read a gigabyte from an SD card at every run.
options:
  venv:
    description: The virtual environment.
    type: path
    required: true
  python:
    description: The Python that the lock is for, as 3.11; the module's own may be an older one.
    type: str
    required: true
  lock:
    description: Text of the lock, lines as C(name==version --hash=sha256:HEX).
    type: str
    required: true
  stamp:
    description: File that holds the lock's SHA-256 after an installation.
    type: path
    required: true
author: [fedrnn]
"""
EXAMPLES = r"""
- venv_drift:
    venv: /opt/fedrnn/venv
    python: "3.11"
    lock: "{{ lookup('file', 'locks/aarch64-cp311.txt') }}"
    stamp: /opt/fedrnn/venv/.lock-sha256
"""
RETURN = r"""
drift:
  description: One sentence per difference; empty if there is none.
  type: list
  elements: str
  returned: always
fresh:
  description: Whether nothing was installed into the environment yet.
  type: bool
  returned: always
"""


def canonical(name: str) -> str:
    """Give a package's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def file_is_right(path: str, recorded: str, size: str, stamped: float) -> bool:
    """Compare a file with its line in RECORD (PEP 376: urlsafe base64 of SHA-256, no padding)."""
    try:
        found = os.stat(path)  # noqa: PTH116 - twice as fast, and there are 20,000
    except OSError:
        return False
    if size and found.st_size != int(size):
        return False
    if found.st_ctime <= stamped:
        return True
    digest = hashlib.sha256(Path(path).read_bytes()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == recorded.partition("=")[2]


def altered(info: Path, stamped: float) -> str:
    """Give the first altered file of an installed package, or an empty string."""
    record = info / "RECORD"
    if not record.is_file():
        return "RECORD"
    site = f"{info.parent}{os.sep}"
    with record.open(newline="") as lines:
        for name, recorded, size in csv.reader(lines):
            if recorded and not file_is_right(site + name, recorded, size, stamped):
                return name
    return ""


def installed(site: Path) -> dict[str, tuple[str, Path]]:
    """Give canonical name to (version, .dist-info folder) of what is in a site-packages folder."""
    found = {}
    for info in site.glob("*.dist-info"):
        name, _, version = info.name.removesuffix(".dist-info").rpartition("-")
        found[canonical(name)] = (version, info)
    return found


def compare(site: Path, lock: str, stamp: Path) -> tuple[list[str], bool]:
    """List the differences, and tell whether the environment is fresh."""
    wanted = dict(re.findall(r"(?m)^([a-z0-9-]+)==(\S+)", lock))
    have = installed(site)
    if not have:
        return [f"{len(wanted)} packages are missing"], True
    try:
        stamped = stamp.stat().st_ctime
        if stamp.read_text().strip() != hashlib.sha256(lock.encode()).hexdigest():
            return ["it was installed from another lock"], False
    except OSError:
        return ["its installation was not finished"], False
    drift = [f"{name} is missing" for name in sorted(set(wanted) - set(have))]
    drift += [f"{name} is not in the lock" for name in sorted(set(have) - set(wanted))]
    for name in sorted(set(wanted) & set(have)):
        version, info = have[name]
        if version != wanted[name]:
            drift.append(f"{name} is {version}, not {wanted[name]}")
        elif file := altered(info, stamped):
            drift.append(f"{name} was altered: {file}")
    return drift, False


def main() -> None:
    """Run as an Ansible module, on the node."""
    module = AnsibleModule(
        {
            "venv": {"type": "path", "required": True},
            "python": {"type": "str", "required": True},
            "lock": {"type": "str", "required": True},
            "stamp": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    version = f"python{module.params['python']}"
    venv = Path(module.params["venv"])
    site = venv / "lib" / version / "site-packages"
    if not site.is_dir() or not (venv / "bin" / "python").exists():
        # Gone, half made, or made by another Python.
        module.exit_json(changed=False, drift=[f"it has no {version}"], fresh=False)
    drift, fresh = compare(site, module.params["lock"], Path(module.params["stamp"]))
    module.exit_json(changed=False, drift=drift, fresh=fresh)


if __name__ == "__main__":
    main()
