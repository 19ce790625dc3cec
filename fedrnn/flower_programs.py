"""Flower's own programs: where they keep their things here, what they must not do, how they end."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from fedrnn.checkout import ROOT

HOME = ROOT / ".cache" / "flower"
BIN = Path(sys.executable).parent
START_SECONDS, END_SECONDS = 60.0, 20.0


class FlowerError(RuntimeError):
    """One of Flower's programs does not do what it should; the text has what it said."""


def settings(home: Path = HOME) -> dict[str, str]:
    """Return what the environment of whatever Flower or Ray starts must have."""
    return {
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "PATH": f"{BIN}:{os.environ.get('PATH', '')}",  # they start each other by name
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # no environment is built, no package fetched
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # without it, it warns
    }


def free_ports(number: int) -> list[int]:
    """Return ports of this machine on which nobody listens."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def wait_for(port: int, log: Path) -> None:
    """Wait until somebody listens. Raises FlowerError with what stands in the log."""
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > until:
                raise FlowerError(f"nobody listens on port {port}:\n{log.read_text()}") from None
            time.sleep(0.2)


@contextmanager
def running(command: list[str], environment: Mapping[str, str], log: Path) -> Iterator[None]:
    """Run one of Flower's programs, which ends with all that it has started.

    It ends with this process, too, whatever ends that: what Flower starts looks whether who started
    it is still there.
    """
    with_us = ["setpriv", "--pdeathsig", "KILL"]
    with log.open("a") as output:
        process = subprocess.Popen(
            [*with_us, BIN / command[0], *command[1:]], env=environment, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        yield
    finally:
        with suppress(ProcessLookupError):  # it has ended by itself
            os.killpg(process.pid, 15)
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()
