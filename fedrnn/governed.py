"""The engine of every run that is not told otherwise: PySyft's jobs, reached over SSH."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedrnn.cluster import Cluster
from fedrnn.compare import pool
from fedrnn.engine import Engine
from fedrnn.federation.outcome import Outcome
from fedrnn.member import decision
from fedrnn.plan import Plan
from fedrnn.reporting.progress import Display
from fedrnn.reporting.results import left_behind


@contextmanager
def governed(plan: Plan, display: Display) -> Iterator[Engine]:
    """Have every node's owner start the training code as a job, and attach to the workers.

    Raises ClusterError, FederationError with what is in the way.
    """
    with (
        tempfile.TemporaryDirectory() as box,
        Cluster(plan.links, plan.researcher, Path(box), display.say, plan.min_nodes) as cluster,
    ):
        if former := plan.former:
            former.check_code(cluster.sha256)
            cluster.end_former(former.jobs)
        cluster.describe(left_behind())
        display.phase(f"{len(cluster.members)} nodes found")
        rows = {member.name: member.described["labels"] for member in cluster.members}
        if plan.shares:
            pool(plan.shares, rows)  # refuses before anything is trained
        if plan.former:
            plan.former.note(cluster.job)
        display.phase(f"job {cluster.submit()} submitted")
        display.nodes(cluster.members, cluster.states())
        grid = cluster.gather()
        display.phase(f"{len(cluster.members)} workers are up (sha256 {cluster.sha256[:12]}…)")
        manifest = {
            "job": cluster.job,
            "sha256": cluster.sha256,
            "files": cluster.files,
            "nodes": {m.name: m.described["node"] for m in cluster.members},
            "owners": {m.name: decision(m) for m in cluster.members},
        }

        def measure(outcome: Outcome) -> dict[str, Any]:
            seen = cluster.memory()
            # In --local the gate tells no process from another; the worker tells its own.
            workers = {name: {"worker": mb} for name, mb in outcome.rss_mb.items()}
            memory = {m.name: seen.get(m.name) or workers.get(m.name) for m in cluster.members}
            return {"memory_mb": memory, "jobs": cluster.end()}

        yield Engine(grid, cluster.names, manifest, rows, grid.traffic, measure)
