"""`--resume`: the run that is taken up where its last checkpoint left it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedrnn.cluster import ClusterError
from fedrnn.config import RunConfig
from fedrnn.federation.state import RunState
from fedrnn.inventory import Inventory
from fedrnn.reporting import checkpoint


@dataclass(frozen=True)
class Former:
    """A run as its folder tells of it.

    ``asked`` is what is not in the config: ``local``, ``inventory``, ``min_nodes``, ``compare``;
    ``spent`` what the run had cost; ``sha256`` the code that its job was, ``job`` its name.
    """

    folder: Path
    config: RunConfig
    state: RunState
    asked: dict[str, Any]
    spent: dict[str, float]
    job: str
    sha256: str

    @property
    def nodes(self) -> list[str]:
        """The names of the nodes that took part."""
        return list(self.state.counts)

    @property
    def jobs(self) -> list[str]:
        """The jobs that may be left on nodes: the checkpoint's, and of attempts to go on."""
        noted = self.folder / checkpoint.JOBS
        since = noted.read_text().split() if noted.exists() else []
        return list(dict.fromkeys([self.job, *since]))

    def note(self, job: str) -> None:
        """Keep the name of a job that goes on from here, before a node has it. Raises OSError."""
        with (self.folder / checkpoint.JOBS).open("a") as file:
            file.write(f"\n{job}\n")  # after what a full disk may have cut short

    def check_inventory(self, inventory: Inventory) -> None:
        """Refuse an inventory that says other things; raises ValueError with what differs."""
        pairs = {
            "dataset_split": (self.config.split, inventory.split),
            "dataset_seed": (self.config.data_seed, inventory.data_seed),
        }
        for name, (before, now) in pairs.items():
            if before != now:
                raise ValueError(
                    f"{self.folder} was begun with {name} {before}, and the inventory has {now} "
                    "now: set it back, or start a new run"
                )
        known = {node.name for node in inventory.nodes}
        if missing := [name for name in self.nodes if name not in known]:
            raise ValueError(
                f"{self.folder} was begun with {', '.join(missing)}, which the inventory does not "
                "have: --inventory names another, or start a new run"
            )

    def check_code(self, sha256: str) -> None:
        """Refuse a checkout that trains in another way; raises ClusterError."""
        if sha256 != self.sha256:
            raise ClusterError(
                f"{self.folder} was begun with other training code (sha256 {self.sha256[:12]}…, "
                f"and here {sha256[:12]}…): check out the commit that its manifest.json names, or "
                "start a new run"
            )


def read(folder: Path) -> Former:
    """Return the run of a folder.

    Raises:
        ValueError: it has no checkpoint, or a damaged one; the sentence says what can be done.
    """
    folder = Path(os.path.realpath(folder))
    try:
        arrays, values = checkpoint.read(folder)
        state = RunState.unpack(arrays, values)
        return Former(folder, RunConfig.from_dict(state.config), state, **values["rest"])
    except FileNotFoundError:
        if (folder / "summary.json").exists():
            raise ValueError(f"{folder} has come to its end: there is nothing to resume") from None
        raise ValueError(
            f"{folder} has no checkpoint to resume from: name the folder of a run that was broken "
            "off after one, or start a new run"
        ) from None
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(
            f"the checkpoint in {folder} is not one of this version ({error!r}): start a new run"
        ) from error
