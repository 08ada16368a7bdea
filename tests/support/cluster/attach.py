"""The cluster of this machine: nodes of kind where a Docker daemon answers, else native ones."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

from images.build import ImageError, find_tool
from tests.support.cluster import kind, native
from tests.support.cluster.kind import KindCluster
from tests.support.cluster.layout import Layout
from tests.support.cluster.native import NativeCluster
from tests.support.cluster.programs import provide

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.cluster.interface import Cluster

Sort = Literal["kind", "native"]
#: Asks for a sort of cluster, in place of the one that the machine would get.
VARIABLE = "ROWLOCK_CLUSTER"


def sort_of_machine() -> Sort:
    """Return which sort of cluster this machine gets; images are built by the same tool that it is fed from.

    Raises:
        ValueError: `VARIABLE` is set to something else.
    """
    return _asked_for() or ("kind" if _docker_answers() else "native")


def _asked_for() -> Sort | None:
    match os.environ.get(VARIABLE, ""):
        case "kind":
            return "kind"
        case "native":
            return "native"
        case "":
            return None
        case other:
            raise ValueError(f"{VARIABLE} is {other!r}, must be kind or native")


def attach() -> Cluster | None:
    """Return the cluster that runs on this machine, of the sort that is asked for if one is; None when none does."""
    asked = _asked_for()
    cluster = KindCluster.attach() if asked != "native" and _docker_answers() else None
    return cluster or (NativeCluster.attach() if asked != "kind" else None)


def prepare(sort: Sort) -> None:
    """Get all programs that images and cluster are made with, so that nothing is missing half-way.

    Raises:
        BinariesError: one is missing and cannot be had.
    """
    if sort == "kind":
        kind.kind_program()
        kind.kubectl_program()
    else:
        provide(Layout.default().programs)


def up(sort: Sort, count: int, seed_images: Sequence[str]) -> Cluster:
    """Start a cluster in place of one that runs; what is raised is its sort's own."""
    made: type[KindCluster | NativeCluster] = KindCluster if sort == "kind" else NativeCluster
    return made.up(count, seed_images)


def down(sort: Sort) -> None:
    """Remove a cluster and all it left, however little or much of it there is."""
    (kind if sort == "kind" else native).down()


def _docker_answers() -> bool:
    try:
        return find_tool() == "docker"
    except ImageError:
        return False
