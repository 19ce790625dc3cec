"""`python -m fedrnn.run`: train across the nodes, each node's data staying on that node."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING

from fedrnn.arguments import parse

if TYPE_CHECKING:
    from fedrnn.engine import Engine
    from fedrnn.plan import Plan
    from fedrnn.reporting.progress import Display


def engine_of(plan: Plan, display: Display) -> AbstractContextManager[Engine]:
    """Return the engine that a plan names; what an engine needs is imported for it alone."""
    if plan.engine == "simulation":
        from fedrnn.simulation import simulated

        return simulated(plan, display)
    if plan.engine == "superlink":
        from fedrnn.superlink import deployed

        return deployed(plan, display)
    from fedrnn.governed import governed

    return governed(plan, display)


def _end_as_by_ctrl_c() -> None:
    """Have a terminal that closes, and a system that goes down, end the jobs, too."""
    endings = [signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # nohup ignores it
        endings.append(signal.SIGHUP)
    terminals = [output for output in (1, 2) if os.isatty(output)]

    def end(number: int, _: object) -> None:
        for ending in endings:  # both come, and the second would break the ending off
            signal.signal(ending, signal.SIG_IGN)
        if number == signal.SIGHUP:  # there is nobody to tell, and to write would fail
            for output in terminals:
                os.dup2(os.open(os.devnull, os.O_WRONLY), output)
        raise KeyboardInterrupt

    for ending in endings:
        signal.signal(ending, end)


def main(arguments: list[str] | None = None) -> int:
    """Run and return the exit code: 0 done, 1 stopped by a fault, 2 asked wrongly, 130 Ctrl-C."""
    asked = parse(arguments)
    # Only now: torch, and what imports it, takes seconds that --help and a wrong option need not.
    from fedrnn.cluster import ClusterError
    from fedrnn.conduct import train
    from fedrnn.federation.strategies import FederationError
    from fedrnn.plan import make_plan
    from fedrnn.reporting.progress import Display

    with ExitStack() as stack:
        try:
            try:
                plan = make_plan(asked, stack)
            except ValueError as error:
                print(error, file=sys.stderr)
                return 2
            display = Display(plan.config.rounds, asked.quiet, asked.json)
            started = time.monotonic()
            engine = stack.enter_context(engine_of(plan, display))
            return train(engine, plan, display, started)
        except (ClusterError, FederationError, OSError) as error:  # OSError: the disk is full
            print(error, file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("\nStopped before the first round; the jobs are taken back.", file=sys.stderr)
            return 130


if __name__ == "__main__":
    _end_as_by_ctrl_c()
    sys.exit(main())
