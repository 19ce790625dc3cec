"""The source of Python on a controller whose apt knows no archive, or that has no apt."""

import shutil
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest

FETCH = Path(__file__).parents[2] / "roles" / "python" / "files" / "fetch.sh"
WHOLE = b"the source"
PROGRAMS = ("cat", "dirname", "flock", "mkdir", "rm", "sha256sum", "sort")


@pytest.fixture
def without_apt(tmp_path: Path) -> str:
    """A PATH with what fetch.sh uses, but apt."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in PROGRAMS:
        (folder / name).symlink_to(shutil.which(name))
    return str(folder)


def fetch(file: Path, path: str) -> subprocess.CompletedProcess[str]:
    words = ["/bin/sh", FETCH, "pool/main/p/x.tar.gz", file, sha256(WHOLE).hexdigest()]
    return subprocess.run(words, env={"PATH": path}, capture_output=True, text=True, check=False)


def test_a_file_that_somebody_has_put_there_is_taken(tmp_path: Path, without_apt: str) -> None:
    file = tmp_path / "a folder" / "x.tar.gz"
    file.parent.mkdir()
    file.write_bytes(WHOLE)
    done = fetch(file, without_apt)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert file.read_bytes() == WHOLE


@pytest.mark.parametrize("found", [None, b"the sourcf"])
def test_what_is_missing_or_altered_is_told_with_the_remedy(
    tmp_path: Path, without_apt: str, found: bytes | None
) -> None:
    file = tmp_path / "cache" / "x.tar.gz"
    file.parent.mkdir()
    if found:
        file.write_bytes(found)
    done = fetch(file, without_apt)
    assert done.returncode == 1 and done.stdout == "" and not file.exists()
    assert f"http://MIRROR/debian/pool/main/p/x.tar.gz\nto {file}" in done.stderr
