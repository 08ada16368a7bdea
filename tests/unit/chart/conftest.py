"""Fixtures of the tests of the chart: Helm, built before the first of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support import charts
from tests.support.prebuild import build_before_tests

if TYPE_CHECKING:
    from pathlib import Path


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build Helm first."""
    build_before_tests(session, "helm_path", charts.helm_path)


@pytest.fixture(scope="session", autouse=True)
def helm_path() -> Path:
    """Helm."""
    return charts.helm_path()
