#!/usr/bin/python3
"""Text files with their content and mode, all in one round over SSH."""

from __future__ import annotations

import grp
import os
import stat
import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: texts
short_description: Text files with their content and mode, all in one round
description:
  - Writes each file beside its place and renames it, so that a reader sees the old text or the new
    one. Makes missing folders, for root alone to write. The files belong to root.
options:
  files:
    description: What each file is to be.
    type: list
    elements: dict
    required: true
    suboptions:
      path: {description: Absolute path., type: path, required: true}
      content: {description: The text; none where the file is not to be., type: str}
      mode: {description: Mode in octal., type: str, default: "0644"}
      group: {description: Name of the group., type: str, default: root}
author: [fedrnn]
"""
EXAMPLES = r"""
- texts:
    files:
      - path: /etc/systemd/journald.conf.d/50-fedrnn.conf
        content: "[Journal]\nStorage=volatile\n"
"""
RETURN = r"""
paths:
  description: The files that differed.
  type: list
  elements: str
  returned: always
"""


def found(path: Path) -> tuple[str | None, str, int]:
    """Give text, mode and group of a file; no text where there is no plain file of root's."""
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_uid != 0:
            return None, "", -1
        return path.read_text(), f"{stat.S_IMODE(status.st_mode):04o}", status.st_gid
    except (FileNotFoundError, NotADirectoryError):
        return None, "", -1


def write(path: Path, content: str, mode: str, group: int) -> None:
    """Write a file of root's beside its place, and rename it there."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(content)
            os.fchown(file.fileno(), 0, group)
            os.fchmod(file.fileno(), int(mode, 8))
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except OSError:
        Path(name).unlink()
        raise


def main() -> None:
    """Run as an Ansible module, on the node."""
    options = {
        "path": {"type": "path", "required": True},
        "content": {"type": "str"},
        "mode": {"type": "str", "default": "0644"},
        "group": {"type": "str", "default": "root"},
    }
    module = AnsibleModule(
        {"files": {"type": "list", "elements": "dict", "required": True, "options": options}},
        supports_check_mode=True,
    )
    os.umask(0o022)
    differ: list[str] = []
    diffs = []
    for file in module.params["files"]:
        path, content = Path(file["path"]), file["content"]
        text, mode, group = found(path)
        if content is None:
            same = not path.is_symlink() and not path.exists()
        else:
            try:
                wanted = grp.getgrnam(file["group"]).gr_gid
            except KeyError:
                wanted = -1  # in check mode a role's group may be still to come
            same = (text, mode, group) == (content, file["mode"], wanted)
        if same:
            continue
        differ.append(str(path))
        diffs.append({"before_header": str(path), "before": text or "", "after": content or ""})
        if module.check_mode:
            continue
        try:
            if content is None:
                path.unlink()
            else:
                write(path, content, file["mode"], wanted)
        except OSError as error:
            module.fail_json(f"{path} cannot be written: {error}. Is the disk full or read-only?")
    module.exit_json(changed=bool(differ), paths=differ, diff=diffs)


if __name__ == "__main__":
    main()
