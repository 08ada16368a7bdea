"""Fixtures of the tests that ask a real API server: one control plane a session, a namespace a test."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from tests.support.binaries import BinariesError, find_or_build
from tests.support.control_plane import CRD_PATH, ControlPlane

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.kube_api import KubeApi


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build what is missing before the first test: no test's timeout should count it, and it must be seen."""
    wanted = any("control_plane" in getattr(item, "fixturenames", ()) for item in session.items)
    if not wanted or session.config.option.collectonly:
        return
    capture = session.config.pluginmanager.getplugin("capturemanager")
    assert capture is not None
    with capture.global_and_fixture_disabled():
        try:
            find_or_build()
        except BinariesError as error:
            pytest.exit(str(error), returncode=3)


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
