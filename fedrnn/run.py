"""`python -m fedrnn.run`: train across the nodes, each node's data staying on that node."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack

from fedrnn.arguments import parse
from fedrnn.cluster import ClusterError
from fedrnn.conduct import train
from fedrnn.federation.strategies import FederationError
from fedrnn.governed import governed
from fedrnn.plan import make_plan
from fedrnn.reporting.progress import Display
from fedrnn.simulation import simulated
from fedrnn.superlink import deployed

ENGINES = {"ssh": governed, "simulation": simulated, "superlink": deployed}


def main(arguments: list[str] | None = None) -> int:
    """Run and return the exit code: 0 done, 1 stopped by a fault, 2 asked wrongly, 130 Ctrl-C."""
    asked = parse(arguments)
    with ExitStack() as stack:
        try:
            plan = make_plan(asked, stack)
        except ValueError as error:
            print(error, file=sys.stderr)
            return 2
        try:
            display = Display(plan.config.rounds, asked.quiet, asked.json)
            started = time.monotonic()
            engine = stack.enter_context(ENGINES[plan.engine](plan, display))
            return train(engine, plan, display, started)
        except (ClusterError, FederationError, OSError) as error:  # OSError: the disk is full
            print(error, file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("\nStopped before the first round; the jobs are taken back.", file=sys.stderr)
            return 130


if __name__ == "__main__":
    sys.exit(main())
