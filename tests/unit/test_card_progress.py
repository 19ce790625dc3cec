"""How far the writing of a card is: told, watched, and ended where nobody watches."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

FILES = Path(__file__).parents[2] / "roles" / "card" / "files"
sys.path.insert(0, str(FILES))
import write  # noqa: E402
from card import Failed  # noqa: E402
from image import Image  # noqa: E402


def test_progress_tells_percent_and_the_seconds_to_go(tmp_path: Path) -> None:
    file = tmp_path / "progress"
    file.touch()
    tell = write.Progress(str(file))
    tell("writing", 1 << 20, 4 << 20)
    assert " writing 25% (1 MiB, " in file.read_text() and " s to go)" in file.read_text()
    tell("writing", 2 << 20, 4 << 20)  # within a second
    assert "25%" in file.read_text()
    tell("writing", 4 << 20, 4 << 20)
    assert " writing 100% (4 MiB, " in file.read_text()
    assert file.read_text().count("\n") == 1


def test_progress_is_never_empty_for_who_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "progress"
    file.touch()
    tell = write.Progress(str(file))
    with ThreadPoolExecutor(1) as reader:
        read = reader.submit(lambda: [file.read_text() for _ in range(20_000)])
        while not read.done():
            tell("comparing", 1, 1)
            tell("a longer word for it", 1, 1)
    assert all(text.startswith(f"{os.getpid()} ") for text in read.result())


def watch(file: Path) -> subprocess.Popen[str]:
    command = ["sh", FILES / "watch.sh", file]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_who_watches_waits_for_a_writer_to_begin_and_sees_one_end(tmp_path: Path) -> None:
    for name in ("never", "late", "dead"):
        (tmp_path / name).touch()
    gone = subprocess.Popen(["true"])
    gone.wait()
    (tmp_path / "dead").write_text(f"{gone.pid} writing 12%\n")
    watched = {name: watch(tmp_path / name) for name in ("never", "late", "dead", "none")}
    assert watched["dead"].communicate(timeout=9)[0] == "ended\n"
    time.sleep(2)
    assert watched["late"].poll() is None and watched["never"].poll() is None
    tell = write.Progress(str(tmp_path / "late"))
    tell("writing", 1 << 20, 4 << 20)
    said = watched["late"].communicate(timeout=60)[0]
    assert said.startswith("writing 25% (1 MiB, ") and said.endswith(" s to go)\n")
    for name in ("never", "none"):
        assert watched[name].communicate(timeout=60)[0] == "ended\n"


@pytest.mark.slow
def test_a_writer_goes_on_only_while_somebody_watches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "PATIENCE", 4)
    file, huge = tmp_path / "progress", tmp_path / "os.img"
    file.touch()
    with huge.open("wb") as image:
        image.seek(510)
        image.write(b"\x55\xaa")
        image.truncate(1 << 40)
    watched, began = watch(file), time.monotonic()
    with pytest.raises(Failed, match="Nobody has touched"):
        Image(huge).check("0" * 64, write.Progress(str(file)))
    assert time.monotonic() - began > 10
    assert watched.communicate()[0].startswith("checking 0% (")
