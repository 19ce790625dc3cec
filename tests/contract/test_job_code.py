"""The training job is complete, and brings nothing that a node does not have."""

import subprocess
import sys
from pathlib import Path

from fedrnn.datasite.job_code import TRAINING_FILES, training_code

SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
import fedrnn.transport.worker, fedrnn.federation.client_app
ours = sorted(m for m in sys.modules if m.startswith("fedrnn"))
bad = [m for m in ("asyncssh", "faker", "syft", "syft_job", "torch._dynamo",
                   "sympy") if m in sys.modules]
print(ours, bad, fedrnn.__file__, sep="\\n")
"""


def test_the_job_imports_only_what_travels(tmp_path: Path):
    code = training_code(tmp_path / "code")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    ours, bad, where = done.stdout.splitlines()
    assert where.startswith(str(code))
    assert bad == "[]"
    files = {
        "fedrnn" + "".join(f".{p}" for p in name.removesuffix(".py").split("/") if p != "__init__")
        for name in TRAINING_FILES
    }
    assert set(eval(ours)) == files
