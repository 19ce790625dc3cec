"""Run under an emulated core: what a node's processes do with the locked wheels.

Prints one line per step when it has passed. A core that lacks an instruction ends the whole
program with SIGILL, so the last line tells which step did not.
"""

import importlib
import runpy
import sys
import time

MODULES = {
    "flwr": ["flwr.app", "flwr.clientapp"],
    "syft": ["syft", "syft_rds", "syft_job", "syft_datasets", "syft_permissions"],
}


def prove(step: str) -> None:
    """Do one step."""
    if step == "torch":
        runpy.run_path(sys.argv[1])
    elif step == "safetensors":
        import numpy
        from safetensors.numpy import load, save

        there = numpy.arange(1000, dtype="float32")
        assert (load(save({"a": there}))["a"] == there).all()
    else:
        for module in MODULES[step]:
            importlib.import_module(module)


for name in sys.argv[2:]:
    started = time.monotonic()
    prove(name)
    print(f"passed {name} {time.monotonic() - started:.1f}", flush=True)
