"""Names of the user's own beside embedded ones, and what is said when there are none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

import pytest
from cluster import ROOT, Lab, ansible_playbook, flat, must

CLUSTER = "playbooks/cluster.yml"
MINE = "/home/pi/my names"
# Of pi1, the first node, alone.
SOURCE = json.dumps(
    {"dataset_source": f"{{{{ '{MINE}' if inventory_hostname == 'pi1' else 'embedded' }}}}"}
)


@pytest.fixture(scope="module")
def private_folder(lab: Lab) -> Iterator[str]:
    """A folder that its user alone may read; afterwards all nodes have embedded names again."""
    lab.ssh("pi1", f"install -d -m 700 '{MINE}'")
    yield MINE
    lab.ssh("pi1", f"rm -r '{MINE}'")
    must(ansible_playbook("--tags", "dataset", CLUSTER))
    assert described(lab, "pi1")["rows"] > 1000


def described(lab: Lab, node: str) -> dict:
    return json.loads(
        lab.ssh(node, "sudo sh -c 'cat /var/lib/fedrnn/published/*/describe.json'").stdout
    )


def test_an_empty_folder_is_an_error_with_node_folder_and_remedy(
    lab: Lab, private_folder: str
) -> None:
    run = ansible_playbook("-e", SOURCE, "--tags", "dataset", "site.yml")
    assert run.rc != 0
    assert f"pi1: {MINE} holds no data: put one file per label there" in flat(run.text)
    assert described(lab, "pi1")["rows"] > 1000, "the old data set is left as it was"


def test_the_first_node_has_its_own_names_and_the_others_embedded_ones(
    lab: Lab, private_folder: str
) -> None:
    lab.ssh("pi1", f"cd '{MINE}' && seq -f name%.0f 30 > Klingon.txt && chmod 600 Klingon.txt")
    shutil.rmtree(ROOT / ".cache" / "shares")
    must(ansible_playbook("-e", SOURCE, "--tags", "dataset", CLUSTER))
    assert described(lab, "pi1")["labels"] == {"Klingon": 30}
    for node in ("pi2", "pi3"):
        assert described(lab, node)["rows"] > 1000
