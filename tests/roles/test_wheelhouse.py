"""The packages: exactly the lock's, and as their wheels had them."""

import json
import shlex

import pytest
from testinfra.host import Host

PYTHON = "/opt/fedrnn/venv/bin/python"
VERSIONS = """
import importlib.metadata as m, json, re
print(json.dumps({re.sub("[-_.]+", "-", d.name).lower(): d.version for d in m.distributions()}))
"""
# RECORD holds urlsafe base64 of each file's SHA-256 (PEP 376).
RECORD = """
import base64, hashlib, importlib.metadata as m, sys
files = [f for f in m.files(sys.argv[1]) if f.hash]
assert files
for f in files:
    digest = hashlib.sha256(f.locate().read_bytes()).digest()
    assert base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == f.hash.value, f
print(len(files))
"""


def python(host: Host, code: str, *arguments: str) -> str:
    return host.check_output(shlex.join([PYTHON, "-I", "-c", code, *arguments]))


def test_packages_are_exactly_those_of_the_lock(host: Host, lock: dict[str, str]) -> None:
    assert json.loads(python(host, VERSIONS)) == lock


@pytest.mark.parametrize("module", ["torch", "numpy", "flwr", "safetensors", "pandas", "pydantic"])
def test_versions_that_run(host: Host, lock: dict[str, str], module: str) -> None:
    if module == "flwr":
        told = host.check_output("/opt/fedrnn/venv/bin/flwr --version").split()[-1]
    else:
        told = python(host, f"import {module}; print({module}.__version__)")
    # The wheel of torch 2.9.1 for aarch64 calls itself 2.9.1+cpu.
    assert told == lock[module] or told == f"{lock[module]}+cpu"


@pytest.mark.parametrize(
    "package", ["torch", "numpy", "flwr", "syft-rds", "syft-job", "syft-dataset", "syft-perms"]
)
def test_files_are_those_of_the_wheel(host: Host, package: str) -> None:
    assert int(python(host, RECORD, package)) > 3


def test_byte_code_of_what_we_import_is_there(host: Host) -> None:
    told = python(host, "import torch, pathlib; print(pathlib.Path(torch.__cached__).exists())")
    assert told == "True"


def test_wheels_are_gone(host: Host) -> None:
    assert host.check_output("sudo find /opt/fedrnn /home /root -name '*.whl'") == ""
