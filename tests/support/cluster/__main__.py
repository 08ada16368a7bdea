"""`python -m tests.support.cluster up|down|load|...`: the cluster of this machine, for tests and by hand.

What a script may want to read is on stdout, alone: the kubeconfig's path, the sort of cluster.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from rowlock import __version__
from tests.support.cluster.attach import attach, down, prepare, sort_of_machine, up
from tests.support.go_programs import BinariesError, say

if TYPE_CHECKING:
    from tests.support.cluster.attach import Sort
    from tests.support.cluster.interface import Cluster

#: The first decides when the seed is made anew; what changes with every commit comes by layers on top of it.
SEED_IMAGES = tuple(f"ghcr.io/rowlock/{name}:{__version__}" for name in ("torch", "trainer", "operator"))
#: Every operator of the chart, whatever the release is called.
OPERATORS = "app.kubernetes.io/name=rowlock"


def main() -> int:
    """Obey the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    made = [
        commands.add_parser("prepare", help="get the programs it takes, and say which sort of cluster it will be"),
        commands.add_parser("up", help="start a cluster, in place of one that runs"),
        commands.add_parser("down", help="remove it and all it left"),
    ]
    commands.add_parser("load", help="bring the images to the nodes of the one that runs, and restart the operator")
    commands.add_parser("kubeconfig", help="say where the kubeconfig of the one that runs is")
    made[1].add_argument("--nodes", type=int, default=3, help="nodes for pods (%(default)s)")
    for command in made:
        sorts = command.add_mutually_exclusive_group()
        for sort in ("kind", "native"):
            sorts.add_argument(f"--{sort}", dest="sort", action="store_const", const=sort)
    given = parser.parse_args()
    if given.command in ("load", "kubeconfig"):
        cluster = _running()
        load(cluster) if given.command == "load" else sys.stdout.write(f"{cluster.kubeconfig}\n")
    else:
        _make(given, given.sort or sort_of_machine())
    return 0


def _make(given: argparse.Namespace, sort: Sort) -> None:
    if given.command == "prepare":
        prepare(sort)
        sys.stdout.write(f"{sort}\n")
    elif given.command == "down":
        down(sort)
    else:
        cluster = up(sort, given.nodes, SEED_IMAGES)
        say(f"export KUBECONFIG={cluster.kubeconfig}")


def load(cluster: Cluster) -> None:
    """Bring the images' changed layers to every node, and have operators that are installed run the new one."""
    cluster.load(SEED_IMAGES)
    words = (
        "--selector",
        OPERATORS,
        "--all-namespaces",
        "--output=jsonpath={range .items[*]}{.metadata.namespace} {end}",
    )
    for namespace in sorted(set(cluster.kubectl("get", "deployments", *words).split())):
        cluster.kubectl("rollout", "restart", "deployment", "--selector", OPERATORS, "--namespace", namespace)
        say(f"the operator in namespace {namespace} is restarted")


def _running() -> Cluster:
    cluster = attach()
    if cluster is None:
        raise RuntimeError("no cluster runs on this machine: start one with `make cluster`")
    return cluster


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (BinariesError, RuntimeError, TimeoutError, ValueError) as error:
        sys.exit(f"cluster: {error}")
