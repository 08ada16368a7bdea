from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.trainer.engine.crew import WarmParent


@pytest.fixture(scope="session")
def parent() -> Iterator[WarmParent]:
    warm = WarmParent()
    yield warm
    warm.close()
