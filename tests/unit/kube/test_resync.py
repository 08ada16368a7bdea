"""When everything is listed: now and then, again after a failure, and at once for one who is about to lead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from rowlock_operator.kube.client import ApiError
from rowlock_operator.kube.metrics import Metrics
from rowlock_operator.kube.observed import Cluster
from rowlock_operator.kube.queue import WorkQueue
from rowlock_operator.kube.resources import JOBS, Resource
from rowlock_operator.kube.resync import ORDER, Resync
from tests.support import virtual_time

#: Resync's own period in these tests, in seconds: never reached.
PERIOD = 1e6


class Server:
    """An API server that may be away; notes when it was asked for everything."""

    def __init__(self) -> None:
        self.away: ApiError | None = None
        #: Loop times at which a round began.
        self.asked: list[float] = []

    async def list(
        self, resource: Resource, namespace: str | None, selector: str = ""
    ) -> tuple[list[dict[str, Any]], str]:
        if resource is JOBS:
            self.asked.append(asyncio.get_running_loop().time())
        if self.away is not None:
            raise self.away
        return [], "1"


class Heard:
    """What the lists are given to."""

    def __init__(self) -> None:
        self.rounds = 0

    def listed(self, resource: Resource, bodies: list[dict[str, Any]], version: str) -> None:
        self.rounds += resource is ORDER[-1][0]


@asynccontextmanager
async def running(server: Server, heard: Heard, seconds: float) -> AsyncIterator[Resync]:
    """A resync that has run for some time, and does so to the end of the block."""
    listing = Resync(server, Cluster(), heard, WorkQueue(), Metrics(), namespaces=(), seconds=PERIOD)  # type: ignore[arg-type]
    task = asyncio.create_task(listing.run())
    await asyncio.sleep(seconds)
    yield listing
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_who_cannot_wait_is_served_at_once_after_an_outage_however_long_it_was() -> None:
    async def scenario() -> None:
        server, heard = Server(), Heard()
        server.away = ApiError(0, "Unreachable", "no answer")
        async with running(server, heard, 1000) as listing:
            last, rounds = server.asked[-1], len(server.asked)
            server.away = None
            asked_at = asyncio.get_running_loop().time()
            # In the middle of a pause, which is of 30 s to a minute by now.
            assert asked_at > last
            await listing.anew()
            assert server.asked[rounds:] == [asked_at]
            assert heard.rounds == 1

    virtual_time.run(scenario())


def test_who_cannot_wait_does_not_make_it_hammer_a_server_that_is_away() -> None:
    async def scenario() -> None:
        server, heard = Server(), Heard()
        server.away = ApiError(0, "Unreachable", "no answer")
        async with running(server, heard, 1000) as listing:
            rounds = len(server.asked)
            waiting = asyncio.create_task(listing.anew())
            await asyncio.sleep(10)
            # The delays begin anew: 0.1 s, 0.2 s, ... 6.4 s at most, half of that at least.
            assert 5 <= len(server.asked) - rounds <= 10
            server.away = None
            await waiting
            assert heard.rounds == 1

    virtual_time.run(scenario())


def test_a_server_that_names_a_time_to_come_back_is_given_it() -> None:
    async def scenario() -> None:
        server, heard = Server(), Heard()
        server.away = ApiError(429, "TooManyRequests", "busy", retry_after=30.0)
        async with running(server, heard, 1) as listing:
            server.away = None
            await listing.anew()
            assert server.asked == [0, 30]

    virtual_time.run(scenario())


def test_one_who_asks_while_a_round_is_on_its_way_gets_the_next_one() -> None:
    async def scenario() -> None:
        server, heard = Server(), Heard()
        async with running(server, heard, 1) as listing:
            assert heard.rounds == 1
            await listing.anew()
            assert heard.rounds == 2

    virtual_time.run(scenario())
