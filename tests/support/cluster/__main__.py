"""`python -m tests.support.cluster up|down`: the cluster of this machine, for tests and by hand."""

from __future__ import annotations

import argparse
import sys

from rowlock import __version__
from tests.support.cluster.native import NativeCluster, down
from tests.support.go_programs import BinariesError, say

#: The first decides when the seed is made anew; what changes with every commit comes by layers on top of it.
SEED_IMAGES = tuple(f"ghcr.io/rowlock/{name}:{__version__}" for name in ("torch", "trainer", "operator"))


def main() -> int:
    """Obey the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start a cluster, in place of one that runs")
    up.add_argument("--nodes", type=int, default=3)
    commands.add_parser("down", help="remove it and all it left")
    given = parser.parse_args()
    if given.command == "down":
        down()
        return 0
    cluster = NativeCluster.up(given.nodes, seed_images=SEED_IMAGES)
    say(f"export KUBECONFIG={cluster.layout.kubeconfig}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (BinariesError, RuntimeError, TimeoutError, ValueError) as error:
        sys.exit(f"cluster: {error}")
