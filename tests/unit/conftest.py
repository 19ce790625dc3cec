"""Small nodes for the tests of the federation, and a datasite of this account."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch._dynamo  # noqa: F401 - it cannot be imported once Ansible has patched sys.intern
from inprocess import InProcessGrid
from sites import OWNER, SENDER

from fedrnn.datasite.layout import Site

ENDINGS = {"Finnish": "nen", "Greek": "dis", "Polish": "ski", "Georgian": "vili"}


def make_names(label: str, count: int, seed: int) -> list[str]:
    """Invented names that give their language away by the ending."""
    draw = random.Random(f"{label}/{seed}")
    syllables = [c + v for c in "bdgklmnprstv" for v in "aeiou"]
    return sorted(
        {"".join(draw.choices(syllables, k=draw.randint(1, 3))) + ENDINGS[label]
         for _ in range(count)}
    )  # fmt: skip


@pytest.fixture
def make_grid(tmp_path: Path) -> Callable[..., InProcessGrid]:
    """Return a function that makes nodes out of label lists, by default one or two labels each."""

    def make(*nodes: list[str], count: int = 200) -> InProcessGrid:
        folders = []
        for number, labels in enumerate(nodes or (["Finnish", "Greek"], ["Polish"]), 1):
            folder = tmp_path / str(number)
            folder.mkdir()
            for label in labels:
                text = "\n".join(make_names(label, count, number))
                (folder / f"{label}.txt").write_text(text)
            folders.append(folder)
        return InProcessGrid(folders)

    return make


@pytest.fixture
def site(tmp_path) -> Site:
    site = Site.at(tmp_path / "site")
    for folder in (site.etc, site.syftbox, site.mailbox, site.due, site.jobs, site.run):
        folder.mkdir(parents=True)
    config = {"owner": OWNER, "researchers": [SENDER], "launcher": "process", "idle_seconds": 900}
    (site.etc / "datasite.json").write_text(json.dumps(config))
    (site.etc / "approved_jobs.json").write_text("{}")
    (site.etc / "approved_jobs.json").chmod(0o600)
    return site


@pytest.fixture
def names(tmp_path) -> Path:
    folder = tmp_path / "names"
    folder.mkdir()
    (folder / "Polish.txt").write_text("Kowalski\nNowak\n\n")
    (folder / "Greek.txt").write_text("Papadopoulos\n")
    return folder
