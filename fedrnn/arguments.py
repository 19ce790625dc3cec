"""What `python -m fedrnn.run` is asked."""

from __future__ import annotations

import argparse
from pathlib import Path

from fedrnn.checkout import LATEST
from fedrnn.config import CELLS, DEFAULT_ROUNDS, STRATEGIES, RunConfig

DESCRIPTION = "Train across the nodes, each node's data staying on that node"
EXAMPLE = "example: python -m fedrnn.run --local 3 --rounds 60; more: docs/learning.md"
ENGINES = ("ssh", "simulation", "superlink")
BESIDE_RESUME = ("resume", "inventory", "min_nodes", "quiet", "json")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Return what was asked on the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m fedrnn.run", usage="%(prog)s [--local N | --inventory PATH] [option ...]",
        epilog=EXAMPLE, add_help=False,
    )  # fmt: skip
    options = parser.add_argument_group(DESCRIPTION)
    options.add_argument("--help", "-h", action="help", help=argparse.SUPPRESS)  # it is being read
    where = options.add_mutually_exclusive_group()
    where.add_argument(
        "--inventory", type=Path, metavar="PATH", help="the nodes (default: inventory/lab)"
    )
    where.add_argument(
        "--local", type=int, metavar="N", help="N nodes as processes here, without SSH or podman"
    )
    options.add_argument(
        "--engine", choices=ENGINES, default=ENGINES[0], metavar="NAME",
        help="{}, {} or {}: docs/scaling.md".format(*ENGINES),
    )  # fmt: skip
    options.add_argument(
        "--without-governance", action="store_true",
        help="with superlink, where no owner is asked",
    )  # fmt: skip
    options.add_argument("--nodes", default="", metavar="A,B", help="train on these nodes only")
    options.add_argument(
        "--min-nodes", type=int, metavar="N", help="go on with N of them (default: wait for all)"
    )
    options.add_argument(
        "--rounds", type=int, metavar="N",
        help="default: {gradient}, or {fedavg} with another strategy".format(**DEFAULT_ROUNDS),
    )  # fmt: skip
    options.add_argument(
        "--strategy", choices=STRATEGIES, default="gradient", metavar="NAME",
        help=f"{STRATEGIES[0]} (default), {', '.join(STRATEGIES[1:])}",
    )  # fmt: skip
    options.add_argument(
        "--set", action="append", default=[], metavar="NAME=NUMBER",
        help="a setting of the strategy, such as lr=0.02",
    )  # fmt: skip
    options.add_argument(
        "--model", choices=CELLS, default="bigru", metavar="CELL",
        help=f"the cell: {', '.join(CELLS)} (%(default)s)",
    )  # fmt: skip
    options.add_argument(
        "--hidden", type=int, metavar="N", default=RunConfig.hidden,
        help="size of the cell's state (%(default)s)",
    )  # fmt: skip
    options.add_argument(
        "--embedding", type=int, metavar="N", default=RunConfig.embedding,
        help="size of a letter (%(default)s)",
    )  # fmt: skip
    options.add_argument(
        "--seed", type=int, metavar="N", default=0, help="same seed, same data: same model"
    )
    options.add_argument(
        "--split", metavar="HOW", help="with --local: language (default), iid, dirichlet:A[:K]"
    )
    options.add_argument(
        "--compare", action="store_true", help="train central models and FedAvg on the same rows"
    )
    options.add_argument(
        "--resume", type=Path, nargs="?", const=LATEST, metavar="RUN",
        help="go on with a run that was broken off (runs/latest)",
    )  # fmt: skip
    shown = options.add_mutually_exclusive_group()
    shown.add_argument(
        "--quiet", action="store_true", help="only what must be known, and the folder"
    )
    shown.add_argument("--json", action="store_true", help="one JSON object a line")
    asked = parser.parse_args(arguments)
    if asked.resume:
        nothing = argparse.Namespace(**dict.fromkeys(vars(asked)))
        given = [name for name, value in vars(parser.parse_args(arguments, nothing)).items()
                 if value is not None and name not in BESIDE_RESUME]  # fmt: skip
        if given:
            words = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            parser.error(f"--resume goes on with the settings of that run: leave out {words}")
    if asked.split and asked.local is None:
        parser.error(
            "--split belongs to --local; over SSH the nodes train on what they hold: set "
            "dataset_split in the inventory and run `ansible-playbook -i INVENTORY site.yml "
            "--tags dataset`"
        )
    if asked.split == "own":
        parser.error("--split own has no meaning: --local trains on the embedded names")
    if asked.nodes and asked.local is not None:
        parser.error("--nodes chooses from an inventory; --local N has N nodes of its own")
    if asked.engine == "simulation" and asked.local is None:
        parser.error("--engine simulation has no nodes of an inventory: say how many by --local N")
    if asked.engine == "superlink" and asked.local is not None:
        parser.error("--engine superlink trains on the SuperNodes of an inventory, not on --local")
    if asked.engine == "superlink" and asked.compare:
        parser.error(
            "--compare trains its rivals, too, for ten minutes there, and knows the rows of no "
            "SuperNode: compare by --local N, or --engine simulation --local N"
        )
    if (asked.engine == "superlink") != asked.without_governance and not asked.resume:
        parser.error(
            "no owner is asked where --engine superlink trains, and no PySyft job shows what ran: "
            "--without-governance says that you know, and belongs to that engine alone"
        )
    if asked.local is not None and asked.local < 1:
        parser.error(f"--local is {asked.local}: it must be at least 1")
    return asked
