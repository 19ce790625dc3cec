"""Locks: complete, one file each; a wheelhouse that trusts nothing but hashes."""

import hashlib
import importlib.util
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

FILES = Path(__file__).parents[2] / "roles" / "wheelhouse" / "files"
LOCKS = ["x86_64-cp311", "aarch64-cp311", "aarch64-cp312", "aarch64-cp313"]


@pytest.fixture(scope="module")
def wheelhouse():
    spec = importlib.util.spec_from_file_location("wheelhouse", FILES / "wheelhouse.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["wheelhouse"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def small(wheelhouse, tmp_path, monkeypatch):
    """A lock of two 'wheels', and a pip that copies them from a shelf."""
    shelf = {"alpha-1-py3-none-any.whl": b"a" * 999, "beta-2-py3-none-any.whl": b"b" * 999}
    pins = [
        wheelhouse.Pin(name.split("-")[0], name.split("-")[1], hashlib.sha256(data).hexdigest())
        for name, data in shelf.items()
    ]
    asked = []

    def download(lock, wanted, folder, hear):
        asked.append([pin.name for pin in wanted])
        for name, data in shelf.items():
            if any(name.startswith(pin.name) for pin in wanted):
                (folder / name).write_bytes(data)

    monkeypatch.setattr(wheelhouse, "download", download)
    return pins, tmp_path, asked


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_is_complete_and_safe(wheelhouse, lock):
    pins = wheelhouse.read_lock(FILES / "locks" / f"{lock}.txt")
    versions = {pin.name: pin.version for pin in pins}
    assert len(versions) == len(pins) > 100
    assert versions["torch"] == ("2.13.0+cpu" if lock.startswith("x86_64") else "2.9.1")
    assert versions["flwr"] == "1.42.0" and versions["syft"] == "0.10.0"
    assert not [name for name in versions if name.startswith(("nvidia", "cuda", "triton"))]
    assert "://" not in (FILES / "locks" / f"{lock}.txt").read_text()


def test_second_fetch_asks_no_network(wheelhouse, small):
    pins, folder, asked = small
    assert wheelhouse.fetch("l", folder, pins)["fetched"] == ["alpha", "beta"]
    assert wheelhouse.fetch("l", folder, pins) == {"wheels": 2, "fetched": [], "refused": []}
    assert asked == [["alpha", "beta"]]


def test_a_flipped_bit_is_refused_named_and_fetched_again(wheelhouse, small, capsys):
    pins, folder, asked = small
    wheelhouse.fetch("l", folder, pins)
    damaged = folder / "beta-2-py3-none-any.whl"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:500] + bytes([whole[500] ^ 1]) + whole[501:])
    with pytest.raises(wheelhouse.WheelhouseError, match="beta"):
        wheelhouse.verify("l", folder, pins)
    result = wheelhouse.fetch("l", folder, pins)
    assert result["refused"] == [damaged.name] and result["fetched"] == ["beta"]
    assert damaged.name in capsys.readouterr().err
    assert asked[1:] == [["beta"]] and damaged.read_bytes() == whole


def test_what_is_in_no_lock_is_removed(wheelhouse, small):
    pins, folder, _ = small
    wheelhouse.fetch("l", folder, pins)
    (folder / "gamma-3-py3-none-any.whl").write_bytes(b"?")
    assert wheelhouse.fetch("l", folder, pins)["refused"] == ["gamma-3-py3-none-any.whl"]
    assert len(list(folder.glob("*.whl"))) == 2


@pytest.mark.parametrize("line", ["a==1", "a>=1 --hash=sha256:" + "0" * 64, "-r other.txt"])
def test_a_line_without_version_and_hash_is_an_error(wheelhouse, tmp_path, line):
    path = tmp_path / "x86_64-cp311.txt"
    path.write_text(line + "\n")
    with pytest.raises(wheelhouse.WheelhouseError, match=":1:"):
        wheelhouse.read_lock(path)


def test_a_lock_that_is_not_there_is_an_error(wheelhouse):
    with pytest.raises(wheelhouse.WheelhouseError, match="aarch64-cp311"):
        wheelhouse.read_lock(FILES / "locks" / "armv7l-cp311.txt")


def test_pip_is_heard_how_far_it_is(wheelhouse, tmp_path, monkeypatch):
    shelf, told, folder = (tmp_path / name for name in ("shelf", "told", "folder"))
    pins = []
    for name in ("alpha", "beta", "gamma"):
        path = shelf / f"{name}-1-py3-none-any.whl"
        path.parent.mkdir(exist_ok=True)
        with zipfile.ZipFile(path, "w") as wheel:
            metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n"
            wheel.writestr(f"{name}-1.dist-info/METADATA", metadata)
            wheel.writestr(f"{name}-1.dist-info/WHEEL", "Wheel-Version: 1.0\n")
            wheel.writestr(f"{name}-1.dist-info/RECORD", "")
        pins.append(wheelhouse.Pin(name, "1", hashlib.sha256(path.read_bytes()).hexdigest()))
    told.mkdir()
    folder.mkdir()
    shutil.copy(shelf / "beta-1-py3-none-any.whl", folder)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    monkeypatch.setenv("FEDRNN_PROGRESS", str(told))
    result = wheelhouse.fetch("x86_64-cp311", folder, pins)
    assert result["fetched"] == ["alpha", "gamma"]
    # The last that it said: the third is begun.
    assert (told / "x86_64-cp311").read_text() == "2 of 3 wheels of x86_64-cp311"


@pytest.mark.slow
def test_an_installation_tells_how_far_it_is_until_it_has_ended(tmp_path):
    work, linked = tmp_path / "work", tmp_path / "linked"
    for name in ("alpha", "beta"):
        package = work / "cache" / "archive-v0" / name
        (package / f"{name}-1.dist-info").mkdir(parents=True)
        (package / name / "vendored" / "gamma-1.dist-info").mkdir(parents=True)
    (work / "cache" / "torch").write_bytes(bytes(3 << 20))
    (linked / "lib" / "python3.11" / "site-packages" / "alpha-1.dist-info").mkdir(parents=True)

    def watch(venv):
        told = ["sh", FILES / "watch.sh", work, venv, "7"]
        return subprocess.Popen(told, stdout=subprocess.PIPE, text=True)

    with subprocess.Popen(["sleep", "60"]) as installer:
        (work / "pid").write_text(f"{installer.pid}\n")
        first, second = watch(tmp_path / "empty"), watch(linked)
        assert re.fullmatch(
            r"2 of 7 packages unpacked \([34] MB\)\n", first.communicate(timeout=50)[0]
        )
        assert second.communicate(timeout=50)[0] == "1 of 7 packages installed\n"
        installer.kill()
    assert watch(linked).communicate(timeout=50)[0] == "ended\n"
