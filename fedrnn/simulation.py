"""`--engine simulation`: the nodes of `--local N` in Flower's simulation, on a few Ray actors.

One actor a processor plays all nodes in turn, so a thousand of them fit. Nobody governs them: their
data is the embedded names. What Ray and Flower start ends with the run and reports to nobody. Ray
listens on every interface and would run whatever it is sent: here only for who has the token of the
run. Its files lie in a temporary folder, for the path of a socket is short.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import queue
import secrets
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import psutil
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation

from fedrnn.cluster import ClusterError
from fedrnn.datasite.job_code import training_manifest
from fedrnn.datasite.policy import fingerprint
from fedrnn.engine import Engine
from fedrnn.federation.dealing import deal
from fedrnn.federation.flower_app import app
from fedrnn.flower_programs import HOME, settings
from fedrnn.plan import Plan
from fedrnn.reporting.progress import Display

NO_RAY = (
    "Flower's simulation needs Ray, which is not installed: a lab does without its 70 MB. "
    "Type: make simulation"
)
STORE_BYTES = 256 << 20  # of shared memory for what is under way; Ray would take a third of all
END_SECONDS = 20.0
START_SECONDS = 300.0  # a busy machine needs a minute


Lent = queue.Queue[tuple[Grid, int] | BaseException]


@contextmanager
def simulated(plan: Plan, display: Display) -> Iterator[Engine]:
    """Have Flower simulate the nodes of a plan; raises ClusterError where it cannot."""
    if importlib.util.find_spec("ray") is None:
        raise ClusterError(NO_RAY)
    files = training_manifest()
    sha256 = fingerprint(files)
    if plan.former:
        plan.former.check_code(sha256)
    with flowers_simulation(len(plan.names), app) as (grid, run_id, lent):
        nodes = sorted(grid.get_node_ids())
        manifest = {
            "job": f"simulation-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}",
            "sha256": sha256,
            "files": files,
        }
        rows = {
            name: {label: len(members) for label, members in held.items()}
            for name, held in plan.held.items()
        }
        with deal(run_id, nodes, list(plan.held.values())):
            _wait_for_ray(grid, nodes[0], plan.config.data_seed, lent)
            display.phase(f"{len(nodes)} nodes are simulated (sha256 {sha256[:12]}…)")
            names = dict(zip(nodes, plan.names, strict=True))
            yield Engine(grid, names, manifest, rows)


@contextmanager
def flowers_simulation(number: int, client: ClientApp) -> Iterator[tuple[Grid, int, Lent]]:
    """Start Flower's simulation of so many nodes; yield its Grid and the id of its run.

    Flower gives the Grid to a ServerApp; this one lends it to whoever called. In the queue is then
    what ends the simulation before its time.
    Raises ClusterError when it does not start.
    """
    logging.getLogger("flwr").setLevel(logging.CRITICAL)  # it tells what ends it with a traceback
    os.environ.update(settings(), RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
    HOME.mkdir(parents=True, exist_ok=True)
    lent: Lent = queue.Queue()
    done = threading.Event()
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        lent.put((grid, context.run_id))
        done.wait()

    def run(folder: str) -> None:
        try:
            run_simulation(
                server,
                client,
                number,
                backend_config={
                    "client_resources": {"num_cpus": 1, "num_gpus": 0},
                    "init_args": {
                        "_temp_dir": folder,
                        "object_store_memory": STORE_BYTES,
                        "include_dashboard": False,
                        "log_to_driver": False,
                        "logging_level": "ERROR",
                    },
                },
            )
        except BaseException as error:
            why = error
            while why.__cause__:  # Flower says that there was an error
                why = why.__cause__
            lent.put(why)

    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        engine = threading.Thread(target=run, args=(folder,))
        engine.start()
        try:
            got = lent.get()
            if isinstance(got, BaseException):
                raise ClusterError(f"Flower's simulation does not start: {got}") from got
            _wait_for(number, got[0], lent)
            yield (*got, lent)
        finally:
            started = psutil.Process().children(recursive=True)
            done.set()
            engine.join()
            # Ray tells its actors to end, and does not wait until they have.
            for process in psutil.wait_procs(started, timeout=END_SECONDS)[1]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()


def _wait_for(number: int, grid: Grid, lent: Lent) -> None:
    until = time.monotonic() + START_SECONDS
    while len(list(grid.get_node_ids())) < number:
        _look(lent, until, f"has not come up with {number} nodes")
        time.sleep(0.1)


def _wait_for_ray(grid: Grid, node: int, data_seed: int, lent: Lent) -> None:
    """Have one node answer: the actors, which import torch first, are up then."""
    content = RecordDict({"config": ConfigRecord({"data-seed": data_seed})})
    asked = [Message(content, message_type="query", dst_node_id=node)]
    sent = list(grid.push_messages(asked))
    until = time.monotonic() + START_SECONDS
    while not list(grid.pull_messages(sent)):
        _look(lent, until, f"has started no actor of Ray within {START_SECONDS:.0f} s")
        time.sleep(0.1)


def _look(lent: Lent, until: float, otherwise: str) -> None:
    """Raise ClusterError where the simulation has ended, or the time has."""
    if not lent.empty():
        raise ClusterError(f"Flower's simulation has ended before its time: {lent.get()}")
    if time.monotonic() > until:
        raise ClusterError(f"Flower's simulation {otherwise}")
