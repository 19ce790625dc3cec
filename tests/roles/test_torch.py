"""torch computes on the node's own processor, without CUDA."""

import json
import shlex
from pathlib import Path

from testinfra.host import Host

PROOF = Path(__file__).parents[2] / "roles" / "torch" / "files" / "prove.py"


def test_matmul_and_a_gru_step(host: Host, lock: dict[str, str]) -> None:
    command = ["/opt/fedrnn/venv/bin/python", "-I", "-c", PROOF.read_text()]
    told = json.loads(host.check_output(shlex.join(command)))
    # The wheel 2.9.1 for aarch64 calls itself 2.9.1+cpu.
    assert told["version"].partition("+")[0] == lock["torch"].partition("+")[0]
    assert told["cuda"] is False
    assert told["gru_ms"] < 60_000


def test_no_package_of_cuda(host: Host) -> None:
    found = host.check_output("find /opt/fedrnn/venv/lib -maxdepth 3 -iname '*nvidia*'")
    assert found == ""
