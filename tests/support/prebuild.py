"""Building what is missing before the first test: no test's timeout should count it, and it must be seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.go_programs import BinariesError

if TYPE_CHECKING:
    from collections.abc import Callable


def build_before_tests(session: pytest.Session, fixture: str, build: Callable[[], object]) -> None:
    """Call `build` if a collected test uses `fixture`; ends the session, in words, when it cannot.

    Args:
        session: A session whose tests have been collected, as `pytest_collection_finish` gets it.
        fixture: Name of the fixture that needs what is built.
        build: Finds or builds it; raises `BinariesError`.
    """
    wanted = any(fixture in getattr(item, "fixturenames", ()) for item in session.items)
    if not wanted or session.config.option.collectonly:
        return
    capture = session.config.pluginmanager.getplugin("capturemanager")
    assert capture is not None
    with capture.global_and_fixture_disabled():
        try:
            build()
        except BinariesError as error:
            pytest.exit(str(error), returncode=3)
