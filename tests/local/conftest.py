"""Signals are what these tests send; whoever started pytest may have them ignored, as nohup and `&` do."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True, scope="session")
def signals_that_are_heard() -> Iterator[None]:
    """Processes that are started inherit what is ignored here."""
    ignored = [one for one in (signal.SIGHUP, signal.SIGINT) if signal.getsignal(one) is signal.SIG_IGN]
    for one in ignored:
        signal.signal(one, signal.SIG_DFL if one is signal.SIGHUP else signal.default_int_handler)
    yield
    for one in ignored:
        signal.signal(one, signal.SIG_IGN)
