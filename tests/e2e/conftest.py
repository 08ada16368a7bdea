"""One cluster and one installation for all tests; a namespace of its own for each."""

from __future__ import annotations

import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.e2e.reference import OneMachine, Reference
from tests.e2e.scene import Scene, measure_pace
from tests.e2e.site import OPERATOR_IMAGE, TORCH_IMAGE, TRAINER_IMAGE, Site
from tests.support.cluster.attach import attach

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.cluster.interface import Cluster


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    found = attach()
    if found is None:
        pytest.fail("no cluster runs on this machine: start one with `make cluster`", pytrace=False)
    return found


@pytest.fixture(scope="session")
def site(cluster: Cluster) -> Site:
    cluster.load([OPERATOR_IMAGE, TRAINER_IMAGE, TORCH_IMAGE])
    site = Site(cluster)
    site.install()
    site.await_leader()
    return site


@pytest.fixture(scope="session")
def one_machine(site: Site) -> Iterator[OneMachine]:
    with _namespace(site) as name:
        yield OneMachine(site, name)


@pytest.fixture(scope="session")
def reference(one_machine: OneMachine) -> Reference:
    return Reference(one_machine)


@pytest.fixture
def namespace(site: Site) -> Iterator[str]:
    """A namespace that enforces the restricted Pod Security level; everything in it goes with the test."""
    with _namespace(site) as name:
        yield name


@pytest.fixture(scope="session")
def pace(site: Site) -> Iterator[float]:
    with _namespace(site) as name:
        yield measure_pace(site, name)


@pytest.fixture
def scene(site: Site, namespace: str, reference: Reference, pace: float) -> Scene:
    return Scene(site, namespace, reference, pace)


@contextmanager
def _namespace(site: Site) -> Iterator[str]:
    name = f"e2e-{secrets.token_hex(4)}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    site.api.create("/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}}).ok()
    try:
        yield name
    finally:
        site.api.delete(f"/api/v1/namespaces/{name}").ok()
