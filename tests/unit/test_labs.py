"""The key of the tests' images covers everything that shapes a node."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from cluster import CLONE
from labs import SHAPES, image, key, shaping

from fedrnn.datasite.job_code import TRAINING_FILES

ONE_OF_EACH = (
    "site.yml", "ansible.cfg", "requirements.in", "requirements.txt",
    "playbooks/cluster.yml", "library/texts.py", "callbacks/epilogue.py",
    "roles/os/tasks/main.yml", "roles/pysyft/defaults/main.yml", "roles/pysyft/vars/main.yml",
    "roles/pysyft/templates/fedrnn-job@.service.j2", "roles/pysyft/files/root/opt/fedrnn/bin/gate",
    "roles/wheelhouse/files/locks/x86_64-cp311.txt", "roles/wheelhouse/files/wheelhouse.py",
    "inventory/lab/hosts.yml", "inventory/lab/group_vars/nodes.yml",
    "lab/image.sh", "lab/engine.py", "lab/tasks/node.yml", "lab/containers.conf",
    "fedrnn/owner.py", "fedrnn/datasite/gate.py", "fedrnn/federation/client_app.py",
    "fedrnn/learning/embedded.py", "fedrnn/transport/worker.py",
)  # fmt: skip


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for name in SHAPES:
        source, target = CLONE / name, tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, target)
    return tmp_path


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_changed_file_changes_the_key(copy: Path, name: str) -> None:
    before = key(copy)
    with (copy / name).open("a") as file:
        file.write("\n")
    assert key(copy) != before


def test_a_file_more_or_less_or_executable_does(copy: Path) -> None:
    keys = [key(copy)]
    (copy / "roles/os/files/more").touch()
    keys.append(key(copy))
    (copy / "roles/os/files/more").chmod(0o755)
    keys.append(key(copy))
    (copy / "roles/os/files/more").rename(copy / "roles/swap/files-more")
    keys.append(key(copy))
    (copy / "library/texts.py").unlink()
    keys.append(key(copy))
    assert len(set(keys)) == 5


def test_what_a_playbook_or_python_has_made_does_not(copy: Path) -> None:
    before = key(copy)
    for name in ("inventory/lab/keys/operator", "inventory/lab/ports.yml",
                 "fedrnn/datasite/__pycache__/gate.pyc", "docs/testing.md"):  # fmt: skip
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text("made")
    assert key(copy) == before == key(CLONE)


def test_every_file_that_reaches_a_node_counts() -> None:
    counted = {str(file.relative_to(CLONE)) for file in shaping(CLONE)}
    variables = yaml.safe_load((CLONE / "roles/pysyft/vars/main.yml").read_text())
    assert counted >= set(variables["pysyft_node_part"])
    assert counted >= {f"fedrnn/{name}" for name in TRAINING_FILES}


def test_an_image_is_named_by_the_key() -> None:
    assert image().endswith(f":{key()}")
