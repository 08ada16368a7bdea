"""Fixtures of the tests that ask a real API server: one control plane a session, a namespace a test."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from tests.support.binaries import find_or_build
from tests.support.charts import helm_path
from tests.support.control_plane import CRD_PATH, ControlPlane
from tests.support.prebuild import build_before_tests

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.kube_api import KubeApi


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build the programs first."""
    build_before_tests(session, "control_plane", find_or_build)
    build_before_tests(session, "helm_path", helm_path)


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """A control plane that serves the CRD."""
    with ControlPlane.start([CRD_PATH]) as plane:
        yield plane


@pytest.fixture(scope="session")
def api(control_plane: ControlPlane) -> KubeApi:
    """A plain client with the admin's rights."""
    return control_plane.client()


@pytest.fixture
def namespace(api: KubeApi) -> Iterator[str]:
    """Name of a namespace of the test's own."""
    name = f"test-{secrets.token_hex(4)}"
    api.create("/api/v1/namespaces", {"metadata": {"name": name}}).ok()
    yield name
    api.delete(f"/api/v1/namespaces/{name}")
