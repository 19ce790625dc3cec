"""Which node it is: what it shows is what the controller has pinned."""

from pathlib import Path

import pytest


def test_the_identity_is_the_pinned_one(node: str, host, request: pytest.FixtureRequest) -> None:
    inventory = Path(request.config.getoption("inventory"))
    folder = inventory if inventory.is_dir() else inventory.parent
    shown = host.file("/opt/fedrnn/.identity")
    assert f"{node} {shown.content_string}" in (folder / "known_nodes").read_text()
    assert (shown.user, shown.mode) == ("root", 0o644)
