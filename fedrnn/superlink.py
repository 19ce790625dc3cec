"""`--engine superlink`: Flower's SuperLink on this machine, SuperNodes on the nodes.

For nodes that can only call out. `playbooks/flower.yml` brings the SuperNodes, which wait for a
SuperLink; it runs here as long as the run does. No PySyft job governs: a SuperNode runs what its
SuperLink sends, once its owner has allowed that there.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path
from tempfile import TemporaryDirectory

from fedrnn.cluster import ClusterError
from fedrnn.datasite.job_code import SOURCE, TRAINING_FILES, training_manifest
from fedrnn.datasite.policy import fingerprint
from fedrnn.engine import Engine
from fedrnn.flower_programs import (
    BIN,
    HOME,
    FlowerError,
    free_ports,
    running,
    settings,
    wait_for,
)
from fedrnn.plan import Plan
from fedrnn.printable import printable
from fedrnn.reporting.progress import Display
from fedrnn.superlink_door import Papers, door
from fedrnn.transport.lent import LentGrid

BUNDLE = (*TRAINING_FILES, "federation/flower_app.py", "transport/lent.py")
"""What a SuperNode is sent, and the ServerApp that lends its Grid to this process."""
PROJECT = """
[project]
name = "fedrnn"
version = "0.1.0"
dependencies = []
[tool.flwr.app]
publisher = "fedrnn"
fab-include = ["fedrnn/**/*.py"]
[tool.flwr.app.components]
serverapp = "fedrnn.transport.lent:app"
clientapp = "fedrnn.federation.flower_app:app"
[tool.flwr.app.config]
socket = ""
"""
LENT_SECONDS = 120.0
LAST_LINES = 6  # of the log, when it has died
ONLINE_SECONDS = 180.0  # a SuperNode that has waited for long tries every half a minute or so


def papers(folder: Path) -> Papers:
    """Return the papers that `playbooks/flower.yml` has made in an inventory's folder of keys."""
    made = Papers(*(folder / name for name in ("superlink.crt", "superlink.key", "authority.crt")))
    if not made.certificate.exists():
        raise ClusterError(
            f"{made.certificate} is not there: set flower_superlink in the inventory, then run "
            f"ansible-playbook -i {shlex.quote(str(folder.parents[1]))} playbooks/flower.yml"
        )
    return made


@contextmanager
def deployed(plan: Plan, display: Display) -> Iterator[Engine]:
    """Start a SuperLink and wait for the SuperNodes of a plan; raises ClusterError."""
    files = training_manifest()
    sha256 = fingerprint(files)
    if plan.former:
        plan.former.check_code(sha256)
    assert plan.inventory
    keys = plan.inventory.flower_papers
    host, _, port = plan.inventory.superlink.rpartition(":")
    HOME.mkdir(parents=True, exist_ok=True)
    try:
        with SuperLink(host, int(port), papers(keys)) as link:
            for name in plan.names:
                link.register(name, keys / f"{name}.pub")
            allowed = plan.inventory.supernodes
            if out := [node.name for node in plan.inventory.nodes if node.name not in allowed]:
                display.say(f"no SuperNode by their owners' word: {', '.join(out)}")
            link.open()
            display.phase(f"a SuperLink waits for {len(plan.names)} SuperNodes at {host}:{port}")
            grid = link.lend()
            names = dict(enumerate(plan.names, start=1))
            _wait_for(grid, names, plan.min_nodes or len(plan.names), display)
            manifest = {
                "job": f"superlink-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}",
                "sha256": sha256,
                "files": files,
            }
            yield Engine(grid, names, manifest)
    except FlowerError as error:
        raise ClusterError(str(error)) from error


def _wait_for(grid: LentGrid, names: Mapping[int, str], enough: int, display: Display) -> None:
    until = time.monotonic() + ONLINE_SECONDS
    while len(online := set(grid.get_node_ids())) < len(names):
        if time.monotonic() > until:
            missing = ", ".join(name for node, name in names.items() if node not in online)
            if len(online) < enough:
                raise ClusterError(
                    f"{missing}: no SuperNode has called within {ONLINE_SECONDS:.0f} s. On the node"
                    ": journalctl -u flower-supernode"
                )
            display.say(f"going on without {missing}")
            break
        time.sleep(0.5)
    display.phase(f"{len(online)} SuperNodes are online")


def listening(host: str) -> str:
    """Return where to listen for who dials ``host``: there, where that is an address of ours.

    Where it is another machine's, such as a router's that forwards the port, or a name, which may
    mean one, that is every address of ours.
    """
    with suppress(OSError, ValueError), socket.socket() as one:
        one.bind((str(IPv4Address(host)), 0))
        return host
    return "0.0.0.0"  # noqa: S104 - the door lets SuperNodes in, and nobody else


class SuperLink:
    """A SuperLink on loopback, its door for who dials ``host`` and ``port``, and what they need.

    Use as a context manager: what it starts and keeps ends with it. Raises FlowerError, OSError.
    """

    def __init__(self, host: str, port: int, papers: Papers) -> None:
        self._nodes: list[int] = []
        self._host, self._port, self._papers = host, port, papers
        self._stack = ExitStack()

    def __enter__(self) -> SuperLink:
        with ExitStack() as stack:
            self._home = Path(stack.enter_context(TemporaryDirectory(dir=HOME)))
            self._log = self._home / "log"
            self._environment = {**os.environ, **settings(self._home)}
            (inner,) = free_ports(1)
            address = f"127.0.0.1:{inner}"
            (self._home / "config.toml").write_text(
                f'[superlink]\ndefault = "here"\n[superlink.here]\naddress = "{address}"\n'
                f"root-certificates = {json.dumps(str(self._papers.authority))}\n"
            )
            command = ["flower-superlink", "--enable-supernode-auth", "--port", str(inner)]
            command += ["--host", "127.0.0.1", "--disable-runtime-dependency-installation"]
            command += ["--ssl-certfile", str(self._papers.certificate)]
            command += ["--ssl-keyfile", str(self._papers.key)]
            command += ["--ssl-ca-certfile", str(self._papers.authority)]
            stack.enter_context(running(command, self._environment, self._log))
            wait_for(inner, self._log)
            self._inner = f"https://{address}"
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def register(self, name: str, public_key: Path) -> None:
        """Let the SuperNode with this key in, as the next one of the Grid that is lent."""
        if not public_key.exists():
            raise FlowerError(f"{name}: {public_key} is not there: playbooks/flower.yml brings it")
        told = self._flwr("supernode", "register", str(public_key), "here", "--format", "json")
        self._nodes.append(int(told["node-id"]))

    def open(self) -> None:
        """Open the door, once all are registered: a SuperNode that is refused gives up."""
        where = listening(self._host)
        self._stack.enter_context(door(where, self._port, self._inner, self._papers))

    def lend(self) -> LentGrid:
        """Start a run whose ServerApp lends its Grid."""
        # The path of a socket is short, and that of a clone may not be.
        place = self._stack.enter_context(TemporaryDirectory(prefix="fedrnn-"))
        path = Path(place) / "grid"
        app = self._home / "fedrnn-app"
        for name in BUNDLE:
            target = app / "fedrnn" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(SOURCE / name, target)
        (app / "pyproject.toml").write_text(PROJECT)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
            server.listen()
            server.settimeout(LENT_SECONDS)
            self._flwr("run", str(app), "here", "-c", f'socket="{path}"', "--format", "json")
            try:
                end, _ = server.accept()
            except TimeoutError:
                raise FlowerError(f"no ServerApp has come up:{self._last_words()}") from None
        self._stack.enter_context(end)
        end.settimeout(None)
        grid = LentGrid(end, self._nodes, self._last_words)
        self._stack.callback(grid.close)
        return grid

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()[-LAST_LINES:]
        return "\n  ".join(["", *map(printable, lines)])

    def _flwr(self, *words: str) -> dict[str, str]:
        """Run `flwr` and return what it says as JSON."""
        try:
            done = subprocess.run(
                [BIN / "flwr", *words], env=self._environment, capture_output=True, text=True,
                timeout=LENT_SECONDS,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise FlowerError(
                f"flwr {words[0]} has no answer in {LENT_SECONDS:.0f} s:{self._last_words()}"
            ) from None
        try:
            told: dict[str, str] = json.loads(done.stdout[done.stdout.index("{") :])
        except ValueError:
            told = {}
        if done.returncode or not told.get("success"):
            said = printable(done.stdout + done.stderr)
            raise FlowerError(f"flwr {' '.join(words[:2])}: {said}")
        return told
