"""What lab/engine.py makes of an account that is not root; the machine's part is played."""

from pathlib import Path

import pytest

from lab import engine


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An account with a range of ids on a machine with cgroup v2, and no session."""
    (tmp_path / "ids").write_text("pat:100000:65536\n")

    def path(name: str) -> Path:
        return tmp_path / "ids" if name in ("/etc/subuid", "/etc/subgid") else Path(name)

    monkeypatch.setattr(engine, "Path", path)
    monkeypatch.setattr(engine.os, "getuid", lambda: 54321)
    monkeypatch.setattr(engine, "cgroup2", lambda: True)
    monkeypatch.setattr(engine, "own_cgroup", lambda: tmp_path / "of somebody else")


def test_without_a_session_the_remedy_is_told(account: None) -> None:
    with pytest.raises(engine.LabError, match=r"su, sudo -u and cron.* enable-linger pat"):
        engine.check_account("pat")


def test_a_control_group_of_its_own_is_enough(account: None, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(engine, "own_cgroup", lambda: tmp_path)
    engine.check_account("pat")


def test_without_a_range_of_ids_the_remedy_is_told(account: None) -> None:
    with pytest.raises(engine.LabError, match=r"no range of ids.* usermod --add-subuids"):
        engine.check_account("kim")
