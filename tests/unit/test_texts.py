"""The module that writes text files: what differs is written whole, the rest is left alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MODULE = Path(__file__).parents[2] / "library" / "texts.py"
AS_ROOT = pytest.mark.skipif(os.getuid() != 0, reason="the files belong to root")


def texts(*files: dict, check: bool = False) -> dict:
    arguments = {"ANSIBLE_MODULE_ARGS": {"files": list(files), "_ansible_check_mode": check}}
    done = subprocess.run(
        [sys.executable, MODULE, json.dumps(arguments)], capture_output=True, text=True, check=False
    )
    return json.loads(done.stdout)


@AS_ROOT
def test_what_differs_is_written_and_the_rest_left_alone(tmp_path: Path) -> None:
    same, other, new = (tmp_path / name for name in ("same", "other", "new/deep"))
    same.write_text("a\n")
    other.write_text("b\n")
    for path in (same, other):
        path.chmod(0o644)
    inode = same.stat().st_ino
    files = [{"path": str(path), "content": "a\n"} for path in (same, other, new)]
    files[2]["mode"] = "0640"
    assert texts(*files, check=True)["paths"] == [str(other), str(new)]
    assert other.read_text() == "b\n" and not new.exists()
    done = texts(*files)
    assert done["changed"] and done["paths"] == [str(other), str(new)]
    assert other.read_text() == new.read_text() == "a\n" and same.stat().st_ino == inode
    assert new.stat().st_mode & 0o777 == 0o640
    assert not texts(*files)["changed"]


@AS_ROOT
def test_a_mode_a_link_or_an_owner_that_is_not_as_wanted_differs(tmp_path: Path) -> None:
    mode, link, owner = (tmp_path / name for name in ("mode", "link", "owner"))
    target = tmp_path / "target"
    for path in (mode, owner, target):
        path.write_text("a\n")
        path.chmod(0o644)
    mode.chmod(0o666)
    link.symlink_to(target)
    os.chown(owner, 65534, 0)
    files = [{"path": str(path), "content": "a\n"} for path in (mode, link, owner)]
    assert texts(*files)["paths"] == [str(mode), str(link), str(owner)]
    assert not link.is_symlink() and owner.stat().st_uid == 0
    assert not texts(*files)["changed"]


@AS_ROOT
def test_a_file_that_is_not_wanted_goes(tmp_path: Path) -> None:
    path = tmp_path / "gone"
    path.write_text("a\n")
    assert texts({"path": str(path)})["changed"] and not path.exists()
    assert not texts({"path": str(path)})["changed"]


@AS_ROOT
def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = texts({"path": str(tmp_path / "file" / "x"), "content": "a\n"})
    assert done["failed"] and "Is the disk full or read-only?" in done["msg"]
