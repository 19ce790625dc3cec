"""The rival of `flower round` in `bench.wire`: Flower's own SuperLink and three SuperNodes.

Flower as it comes, with the same echo: a ServerApp that sends the same content and waits for the
replies, five times. It is in the rival's favour that all runs on this machine, without TLS or SSH,
that nobody approves anything, and that the ClientApp, of which Flower starts a process for every
message, does not import torch.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from fedrnn.checkout import ROOT
from fedrnn.flower_programs import BIN, free_ports, running, settings, wait_for

NODES, ROUNDS = 3, 5
RUN_SECONDS = 600
PROJECT = """
[project]
name = "echo"
version = "1.0.0"
dependencies = []
[tool.hatch.build.targets.wheel]
packages = ["."]
[tool.flwr.app]
publisher = "bench"
[tool.flwr.app.components]
serverapp = "echo:server"
clientapp = "echo:client"
[tool.flwr.app.config]
"""
APP = f"""
import os, time
from flwr.app import Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from bench.echo import payload

client = ClientApp()
server = ServerApp()

@client.train()
def echo(message, context):
    records = {{"arrays": message.content["arrays"], "metrics": MetricRecord({{"stale": 0}})}}
    return Message(RecordDict(records), reply_to=message)

@server.main()
def main(grid, context):
    while len(list(grid.get_node_ids())) < {NODES}:
        time.sleep(0.5)
    content = payload()
    for _ in range({ROUNDS}):
        started = time.perf_counter()
        messages = [Message(content, node, "train") for node in grid.get_node_ids()]
        replies = list(grid.send_and_receive(messages))
        assert len(replies) == {NODES} and not any(reply.has_error() for reply in replies)
        with open(os.environ["BENCH_ROUNDS"], "a") as file:
            print(time.perf_counter() - started, file=file)
"""


def round_seconds() -> float:
    """Return the median of Flower's rounds; what goes wrong ends the bench with Flower's words."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        home = Path(folder)
        rounds, log = home / "rounds", home / "log"
        environment = {
            **os.environ,
            **settings(home / "flwr"),
            "PYTHONPATH": str(ROOT),
            "BENCH_ROUNDS": str(rounds),
        }
        link, *ports = free_ports(1 + NODES)
        app = home / "app"
        app.mkdir()
        (app / "pyproject.toml").write_text(PROJECT)
        (app / "echo.py").write_text(APP)
        (home / "flwr").mkdir()
        (home / "flwr" / "config.toml").write_text(
            f'[superlink]\ndefault = "here"\n[superlink.here]\naddress = "127.0.0.1:{link}"\n'
            "insecure = true\n"
        )
        local = ["--insecure", "--host", "127.0.0.1", "--port"]
        superlink = ["flower-superlink", *local, str(link)]
        superlink.append("--disable-runtime-dependency-installation")
        stack.enter_context(running(superlink, environment, log))
        wait_for(link, log)
        for port in ports:
            node = ["flower-supernode", *local, str(port), "--superlink", f"127.0.0.1:{link}"]
            stack.enter_context(running(node, environment, log))
        asked = subprocess.run(
            [BIN / "flwr", "run", app, "here"], env=environment, capture_output=True, text=True
        )
        until = time.monotonic() + RUN_SECONDS
        while not rounds.exists() or len(rounds.read_text().splitlines()) < ROUNDS:
            failed = "Malformed" in log.read_text() or "Traceback" in log.read_text()
            if asked.returncode or failed or time.monotonic() > until:
                sys.exit(f"Flower did no round:\n{asked.stdout}{asked.stderr}{log.read_text()}")
            time.sleep(1)
        return statistics.median(map(float, rounds.read_text().splitlines()))


if __name__ == "__main__":
    print(json.dumps({"flower round, s": round_seconds()}))
