"""A folder of `<Label>.txt`, one sample a line, becomes the node's PySyft data set.

Its private part stays on the node. Its mock part is made from the labels alone: no private row
is read for it. Counts per label are published, rows never.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from fedrnn.datasite.layout import DATASET, DESCRIPTION, MAX_LABELS, Site, dataset_folder
from fedrnn.datasite.publish import place

MOCK_ROWS = 5
SCHEMA = "<Label>.txt, UTF-8, one sample a line"


def data_files(folder: Path) -> list[Path]:
    """Return the files that hold samples: `<Label>.txt`, none that is hidden."""
    return sorted(p for p in folder.glob("*.txt") if p.is_file() and not p.name.startswith("."))


def count_rows(folder: Path) -> dict[str, int]:
    """Count the lines per label that are not blank.

    Raises ValueError naming the folder or the file, and what is expected there.
    """
    files = data_files(folder)
    if not files:
        raise ValueError(
            f"{folder} holds no data: put one file per label there, named <Label>.txt, "
            "one sample a line"
        )
    if len(files) > MAX_LABELS:
        raise ValueError(f"{folder} has {len(files)} labels, and at most {MAX_LABELS} may be")
    counts = {}
    for file in files:
        content = file.read_bytes()
        try:
            lines = content.decode().splitlines()
        except UnicodeDecodeError as error:
            number = content[: error.start].count(b"\n") + 1
            raise ValueError(
                f"{file} is not UTF-8 in line {number}: convert it, for example with iconv"
            ) from None
        counts[file.stem] = sum(1 for line in lines if line.strip())
        if not counts[file.stem]:
            raise ValueError(f"{file} is empty: remove it or fill it")
    return counts


def mock_rows(label: str) -> list[str]:
    """Make up samples from nothing but the label, the same on every node."""
    dice = random.Random(label)  # noqa: S311 - made-up names are no secret
    syllables = ["ba", "ko", "li", "mun", "ner", "sa", "tor", "vi", "zel", "dra"]
    return ["".join(dice.choices(syllables, k=dice.randint(2, 3))) for _ in range(MOCK_ROWS)]


def create(site: Site, source: Path) -> bool:
    """Make or renew the data set from `source`; return whether anything changed."""
    counts = count_rows(source)
    description = site.syftbox / DESCRIPTION
    config = site.config()
    digest = _digest(source, config["researchers"])
    stamp = site.syftbox / f".{DATASET}.sha256"  # the owner's alone: it would confirm a guess
    is_there = any(dataset_folder(site, config["owner"]).glob("*.txt"))
    if is_there and stamp.is_file() and stamp.read_text() == digest:
        return False

    # Not before it is needed: their import costs a Pi seconds at every `site.yml`.
    from syft_datasets.dataset_manager import SyftDatasetManager

    from fedrnn.datasite.datasite import Datasite, quiet

    datasite = Datasite(site)
    with datasite.alone(), quiet():
        stamp.unlink(missing_ok=True)  # until all is done: the power may go in between
        manager = SyftDatasetManager(site.syftbox, datasite.owner)
        if any(d.name == DATASET for d in manager.get_all(datasite.owner)):
            manager.delete(DATASET, require_confirmation=False)
        with tempfile.TemporaryDirectory(dir=site.var, prefix=".dataset-") as folder:
            mock, private = Path(folder) / "mock", Path(folder) / "private"
            mock.mkdir()
            private.mkdir()
            for label in counts:
                (mock / f"{label}.txt").write_text("\n".join(mock_rows(label)) + "\n")
            for file in data_files(source):  # and nothing else that lies there
                shutil.copyfile(file, private / file.name)
            manager.create(
                name=DATASET,
                mock_path=mock,
                private_path=private,
                summary=f"{sum(counts.values())} rows of {len(counts)} labels",
                users=datasite.researchers,
            )
        _open_to_jobs(site, datasite.owner)
        _forget_former_owners(site, datasite.owner)
        place(json.dumps(_describe(counts)).encode(), description)
        datasite.publish()
    place(digest.encode(), stamp)
    return True


def _digest(source: Path, researchers: list[str]) -> str:
    """Identify what the data set was made from; kept by the owner, never published."""
    parts = [f"{f.name} {hashlib.sha256(f.read_bytes()).hexdigest()}" for f in data_files(source)]
    return hashlib.sha256("\n".join([*sorted(parts), *researchers]).encode()).hexdigest()


def _open_to_jobs(site: Site, owner: str) -> None:
    """Let the job's group, which these folders have by setgid, read; nobody else."""
    public = site.syftbox / owner / "public"
    for top in (dataset_folder(site, owner), public):
        for path in (top, *top.rglob("*")):
            path.chmod(0o2750 if path.is_dir() else 0o640)


def _forget_former_owners(site: Site, owner: str) -> None:
    """Remove what was made of the data, and published of it, for owners before this one."""
    for folder in site.syftbox.glob(f"*/*/syft_datasets/{DATASET}"):  # private and public
        if folder.parents[2].name != owner:
            shutil.rmtree(folder)
    for folder in site.published("*").parent.glob("*/SyftBox/*"):
        if folder.name != owner:
            shutil.rmtree(folder)


def _describe(counts: dict[str, int]) -> dict[str, Any]:
    return {
        "dataset": DATASET,
        "schema": SCHEMA,
        "rows": sum(counts.values()),
        "labels": counts,
        "mock": {label: mock_rows(label) for label in counts},
    }


def main() -> int:
    """Make the data set of this node; print `changed` or `unchanged`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="the folder of <Label>.txt")
    parser.add_argument("--root", help="use the datasite below this folder")
    asked = parser.parse_args()
    os.umask(0o027)
    try:
        print("changed" if create(Site.at(asked.root), asked.source) else "unchanged")
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
