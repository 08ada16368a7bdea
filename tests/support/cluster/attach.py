"""The cluster that the tests are to run on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.cluster.native import NativeCluster

if TYPE_CHECKING:
    from tests.support.cluster.interface import Cluster


def attach() -> Cluster | None:
    """Return the cluster that runs on this machine, None when none does."""
    return NativeCluster.attach()
