"""`python -m fedrnn.run`: train across the nodes, each node's data staying on that node."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fedrnn.arguments import parse
from fedrnn.cluster import Cluster, ClusterError, ssh_links
from fedrnn.compare import OWN_DATA, Names, compare, pool
from fedrnn.config import DEFAULT_ROUNDS, RunConfig, parse_settings
from fedrnn.datasite.job_code import allow_list
from fedrnn.federation.outcome import Outcome
from fedrnn.federation.server_app import federate
from fedrnn.federation.state import RunState
from fedrnn.federation.strategies import FederationError
from fedrnn.former import Former
from fedrnn.former import read as read_former
from fedrnn.inventory import DEFAULT, RESEARCHER, read_inventory
from fedrnn.learning.embedded import share, write_shares
from fedrnn.learning.evaluation import worst
from fedrnn.local import local_site
from fedrnn.member import decision
from fedrnn.reporting import report
from fedrnn.reporting.progress import Display
from fedrnn.reporting.results import RunFolder, controller_software, left_behind
from fedrnn.transport.link import Link, LocalLink

Links = dict[str, tuple[Link, str]]


@dataclass
class Plan:
    """A run before it begins: what was asked, and the nodes that are to do it."""

    config: RunConfig
    links: Links
    researcher: str
    min_nodes: int | None
    asked: dict[str, Any]  # what --resume must know beside the config
    shares: dict[str, Names] | None = None  # with --compare: what every node holds
    former: Former | None = None  # with --resume

    def __post_init__(self) -> None:
        if self.min_nodes is not None and not 1 <= self.min_nodes <= len(self.links):
            raise ValueError(
                f"--min-nodes is {self.min_nodes}: it must be from 1 to {len(self.links)}, the "
                "number of nodes"
            )


def make_plan(asked: argparse.Namespace, stack: ExitStack) -> Plan:
    """Look the nodes up, or make local ones that end with `stack`.

    Raises InventoryError or ValueError with a sentence on what was asked wrongly.
    """
    former = read_former(asked.resume) if asked.resume else None
    config = former.config if former else _config(asked)
    if former:
        asked.local, asked.compare = former.asked["local"], former.asked["compare"]
        asked.min_nodes = asked.min_nodes or former.asked["min_nodes"]
        asked.inventory = asked.inventory or Path(former.asked["inventory"])
    told = {
        "local": asked.local,
        "compare": asked.compare,
        "min_nodes": asked.min_nodes,
        "inventory": str((asked.inventory or DEFAULT).absolute()),
    }
    if asked.local is not None:
        links = stack.enter_context(local_links(asked.local, config))
        shares = embedded_shares(list(links), config) if asked.compare else None
        return Plan(config, links, RESEARCHER, asked.min_nodes, told, shares, former)
    inventory = read_inventory(asked.inventory or DEFAULT)
    if former:
        former.check_inventory(inventory)
        nodes = inventory.choose(former.nodes)
    else:
        nodes = inventory.choose([name for name in asked.nodes.split(",") if name])
        config = replace(
            config,
            split=inventory.split,
            data_seed=inventory.data_seed,
            nodes=tuple(node.name for node in nodes),
        )
    shares = None
    if asked.compare:
        shares = embedded_shares([node.name for node in inventory.nodes], config)
    links = ssh_links(inventory, nodes)
    return Plan(config, links, inventory.researcher, asked.min_nodes, told, shares, former)


def _config(asked: argparse.Namespace) -> RunConfig:
    rounds = DEFAULT_ROUNDS[asked.strategy] if asked.rounds is None else asked.rounds
    return RunConfig(
        rounds=rounds,
        strategy=asked.strategy,
        seed=asked.seed,
        cell=asked.model,
        hidden=asked.hidden,
        embedding=asked.embedding,
        split=asked.split or "language",
        **parse_settings(asked.strategy, asked.set),
    )


def embedded_shares(names: list[str], config: RunConfig) -> dict[str, Names]:
    """Return the embedded names of every node; raises ValueError where nodes have their own."""
    if config.split == "own":
        raise ValueError(OWN_DATA)
    parts = share(config.split, len(names), config.data_seed)
    return dict(zip(names, parts, strict=True))


@contextmanager
def local_links(count: int, config: RunConfig) -> Iterator[Links]:
    """Make datasites of this account, each with its share of the embedded names."""
    approved = allow_list(["training"])
    with ExitStack() as stack:
        data = stack.enter_context(tempfile.TemporaryDirectory())
        links: Links = {}
        shares = write_shares(Path(data), config.split, count, config.data_seed)
        for number, share in enumerate(shares, start=1):
            name = f"node{number}"
            owner = f"{name}@lab.local"
            site = local_site(owner, RESEARCHER, share, approved, config.data_seed)
            root = stack.enter_context(site)
            links[name] = (LocalLink(name, root, RESEARCHER), owner)
        yield links


def train(cluster: Cluster, plan: Plan, display: Display) -> int:
    """Do the whole run over a cluster and print what came of it; return the exit code."""
    started = time.monotonic()
    config, former = plan.config, plan.former
    if former:
        former.check_code(cluster.sha256)
        cluster.end_former(former.job)
    manifest: dict[str, Any] = {"job": cluster.job, "controller": controller_software()}
    cluster.describe(left_behind())
    display.phase(f"{len(cluster.members)} nodes found")
    told = {member.name: member.described["labels"] for member in cluster.members}
    if plan.shares:
        pool(plan.shares, told)  # refuses before anything is trained
    display.phase(f"job {cluster.submit()} submitted")
    display.nodes(cluster.members, cluster.states())
    grid = cluster.gather()
    manifest["sha256"] = cluster.sha256
    manifest["files"] = cluster.files
    manifest["nodes"] = {m.name: m.described["node"] for m in cluster.members}
    manifest["owners"] = {m.name: decision(m) for m in cluster.members}
    manifest["run"], manifest["asked"] = config.to_dict(), plan.asked
    display.phase(f"{len(cluster.members)} workers are up (sha256 {cluster.sha256[:12]}…)")
    if former:
        folder = RunFolder.again(former.folder, manifest, former.state.round)
        display.phase(
            f"taken up after round {former.state.round} of {config.rounds}: {folder.path}"
        )
    else:
        folder = RunFolder.new(manifest)
    before = former.spent if former else {}

    def keep(state: RunState, outcome: Outcome) -> None:
        rest = {
            "asked": plan.asked,
            "spent": _spent(cluster, started, before),
            "job": cluster.job,
            "sha256": cluster.sha256,
        }
        try:
            folder.checkpoint(config, state, outcome, rest)
        except OSError as error:
            display.say(
                f"no checkpoint of round {state.round}: {error.filename}: {error.strerror}. Make "
                "room: the run goes on, and the checkpoint before stays as it was"
            )

    def observe(event: dict[str, Any]) -> None:
        traffic = grid.traffic()
        if event["event"] == "round":
            event["traffic"] = {name: asdict(told) for name, told in traffic.items()}
        folder.event(event)
        display.event(event, sum(t.up + t.down for t in traffic.values()))

    problem = ""
    training = time.monotonic()
    with display:
        try:
            outcome = federate(
                grid,
                config,
                observe,
                cluster.names,
                keep,
                former.state if former else None,
                plan.min_nodes,
            )
        except FederationError as error:
            if error.outcome is None:
                raise
            outcome, problem = error.outcome, str(error)
    folder.save_model(config, outcome)  # before anything else can go wrong
    spent = _spent(cluster, started, before)
    if plan.shares and outcome.score:
        pooled = pool(plan.shares, {name: told[name] for name in outcome.rows})
        ours = {**outcome.score.figures(), "seconds": time.monotonic() - training}
        rivals = compare(
            pooled, config, outcome, lambda c: federate(grid, c, names=cluster.names), display.phase
        )
        spent["comparison"] = {f"{config.strategy}, federated": ours, **rivals}
    measured = {**spent, "problem": problem, **_measure(cluster, outcome)}
    summary = folder.finish(config, outcome, measured)
    if not (problem or outcome.interrupted):
        folder.forget_checkpoint()
    confusion = outcome.confusion
    weak = [] if confusion is None else worst(outcome.labels, confusion, 3)
    display.summary(summary, weak, _shown(folder.path))
    _report(folder.path, display)
    if problem:
        print(f"\nStopped early: {problem}{_resumable(folder)}", file=sys.stderr)
        return 1
    return 130 if outcome.interrupted else 0


def _spent(cluster: Cluster, started: float, before: Mapping[str, float]) -> dict[str, Any]:
    """Return what the run has cost up to now and ``before``: bytes, reconnects, seconds."""
    traffic = cluster.grid.traffic().values()
    now = {
        "bytes_up": sum(t.up for t in traffic),
        "bytes_down": sum(t.down for t in traffic),
        "reconnects": sum(t.reconnects for t in traffic),
        "seconds_total": round(time.monotonic() - started, 1),
    }
    return {name: before.get(name, 0) + value for name, value in now.items()}


def _report(folder: Path, display: Display) -> None:
    """Write the page that shows the run; the run is worth more than it."""
    try:
        display.phase(f"report: {_shown(report.write(folder))}")
    except OSError as error:
        display.say(f"no report: {error.filename}: {error.strerror}. Make room, then run python -m "
                    f"fedrnn.report {_shown(folder)}")  # fmt: skip


def _resumable(folder: RunFolder) -> str:
    """Return what can be done where a run has ended before its time."""
    if not folder.has_checkpoint:
        return ""
    return f"\nOnce that is mended: python -m fedrnn.run --resume {_shown(folder.path)}"


def _measure(cluster: Cluster, outcome: Outcome) -> dict[str, Any]:
    """End the jobs and return what only the cluster knows: memory, how each job ended."""
    seen = cluster.memory()
    # In --local the gate tells no process from another; the worker tells its own.
    workers = {name: {"worker": mb} for name, mb in outcome.rss_mb.items()}
    return {
        "memory_mb": {m.name: seen.get(m.name) or workers.get(m.name) for m in cluster.members},
        "jobs": cluster.end(),
    }


def _shown(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def main(arguments: list[str] | None = None) -> int:
    """Run and return the exit code: 0 done, 1 stopped by a fault, 2 asked wrongly, 130 Ctrl-C."""
    asked = parse(arguments)
    with ExitStack() as stack:
        try:
            plan = make_plan(asked, stack)
        except ValueError as error:
            print(error, file=sys.stderr)
            return 2
        box = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        try:
            display = Display(plan.config.rounds, asked.quiet, asked.json)
            cluster = stack.enter_context(
                Cluster(plan.links, plan.researcher, box, display.say, plan.min_nodes)
            )
            return train(cluster, plan, display)
        except (ClusterError, FederationError, OSError) as error:  # OSError: the disk is full
            print(error, file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("\nStopped before the first round; the jobs are taken back.", file=sys.stderr)
            return 130


if __name__ == "__main__":
    sys.exit(main())
