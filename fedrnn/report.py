"""`python -m fedrnn.report RUN …`: the report of a run, or several runs side by side."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fedrnn.checkout import LATEST
from fedrnn.reporting import compare, report

EXAMPLE = """\
example: python -m fedrnn.report                    the last run
         python -m fedrnn.report runs/2026-*        several runs, side by side
"""


def main(arguments: list[str] | None = None) -> int:
    """Write the page and tell where it is; return 0, or 2 for a folder that holds no run."""
    parser = argparse.ArgumentParser(
        prog="python -m fedrnn.report",
        description="Write the page of a run, or one that compares runs, with charts beside it.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "runs", nargs="*", type=Path, metavar="RUN", default=[LATEST],
        help="folders of runs (default: runs/latest)",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, metavar="FILE",
        help="where several runs are compared (default: compare.html beside the first)",
    )  # fmt: skip
    asked = parser.parse_args(arguments)
    if asked.out and len(asked.runs) == 1:
        parser.error("--out is for several runs: the report of one lies in its folder")
    try:
        if len(asked.runs) > 1:
            print(compare.write(asked.runs, asked.out))
        else:
            print(report.write(asked.runs[0]))
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
