"""The code of a job as it reaches a node, and the allow-list that names it by its hashes.

Without PySyft, whose import would cost an Ansible run half a second a node.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fedrnn.datasite.policy import fingerprint, manifest

SOURCE = Path(__file__).parents[1]  # the package `fedrnn` of this checkout
TRAINING_FILES = (
    "__init__.py",
    "learning/__init__.py",
    "learning/text.py",
    "learning/model.py",
    "learning/data.py",
    "learning/training.py",
    "learning/evaluation.py",
    "federation/__init__.py",
    "federation/client_app.py",
    "federation/codec.py",
    "federation/health.py",
    "transport/__init__.py",
    "transport/wire.py",
    "transport/worker.py",
)
MAIN = """\"\"\"Train on this node's data until the researcher ends the run.\"\"\"

from fedrnn.federation.client_app import app
from fedrnn.transport.worker import serve

raise SystemExit(serve(app))
"""
# The node's own environment holds the packages; PySyft's stock script would fetch them anew.
RUN = "#!/bin/bash\nset -euo pipefail\ncd code\nexec python {entrypoint}\n"


def training_code(folder: Path) -> Path:
    """Write the code of the training job, as it lies in this checkout, into a new folder."""
    for name in TRAINING_FILES:
        target = folder / "fedrnn" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(SOURCE / name, target)
    (folder / "main.py").write_text(MAIN)
    return folder


def training_manifest() -> dict[str, str]:
    """Return path and SHA-256 of every file of the training job of this checkout."""
    with tempfile.TemporaryDirectory() as folder:
        return code_manifest(training_code(Path(folder)), "main.py")


def code_manifest(code: Path, entrypoint: str) -> dict[str, str]:
    """Return the manifest that a job of this code has on a node."""
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder)
        shutil.copytree(code, job / "code")
        (job / "run.sh").write_text(RUN.format(entrypoint=entrypoint))
        return manifest(job)


def allow_list(names: Iterable[str]) -> dict[str, Any]:
    """Return the operator's allow-list for `training` and for folders with a `main.py`."""
    approved = {}
    for name in names:
        files = training_manifest() if name == "training" else code_manifest(Path(name), "main.py")
        approved[fingerprint(files)] = {"name": name, "files": files}
    return approved


if __name__ == "__main__":
    # `python -m fedrnn.datasite.job_code training FOLDER …`: the allow-list, for the role.
    print(json.dumps(allow_list(sys.argv[1:]), indent=1))
