"""A started coordinator and launchers' sides of real connections to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from websockets.asyncio.client import ClientConnection, connect

from rowlock.protocol import PROTOCOL_VERSION, Hello, Order, Report, decode, encode
from rowlock_operator.coordinator import Coordinator
from rowlock_operator.core.model import Launcher

JOB = ("default", "digits")
TOKEN = "right-token"  # noqa: S105 (of a job that lives for one test)
DEADLINE = 20.0


class Clock:
    """Time of day that moves when told to."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class Place:
    """A coordinator on loopback, what it asked and what it told."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.tokens: dict[tuple[str, str], str] = {JOB: TOKEN}
        self.lookups: list[tuple[str, str]] = []
        self.changes = 0
        self._changed = asyncio.Event()
        self.coordinator = Coordinator(token_of=self._token_of, on_change=self._on_change, clock=self.clock)
        self.port = 0

    async def _token_of(self, namespace: str, name: str) -> str | None:
        self.lookups.append((namespace, name))
        return self.tokens.get((namespace, name))

    def _on_change(self, namespace: str, name: str) -> None:
        assert (namespace, name) in self.tokens
        self.changes += 1
        self._changed.set()

    @property
    def launchers(self) -> tuple[Launcher, ...]:
        return self.coordinator.launchers(*JOB)

    def url(self, worker: object = 0, job: tuple[str, str] = JOB) -> str:
        return f"ws://127.0.0.1:{self.port}/v1alpha1/jobs/{job[0]}/{job[1]}/workers/{worker}"

    def dial(self, worker: object = 0, token: str = TOKEN, job: tuple[str, str] = JOB, **options: object) -> connect:
        headers = {"Authorization": f"Bearer {token}"}
        return connect(self.url(worker, job), additional_headers=headers, proxy=None, **options)

    async def until(self, holds: Callable[[], object]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not holds():
                self._changed.clear()
                await self._changed.wait()

    def advance_and_expire(self, seconds: float) -> None:
        """Let time pass as it does while the coordinator listens: a second a look."""
        whole, rest = divmod(seconds, 1)
        for step in [1.0] * int(whole) + [rest]:
            self.clock.advance(step)
            self.coordinator.expire()


@asynccontextmanager
async def coordinator_at_work():
    place = Place()
    place.port = await place.coordinator.start("127.0.0.1", 0)
    try:
        yield place
    finally:
        await place.coordinator.stop()


async def greet(line: ClientConnection, worker: int = 0, pod_uid: str = "uid-a", report: Report | None = None) -> None:
    await line.send(encode(Hello(PROTOCOL_VERSION, worker, pod_uid, "10.0.0.1")))
    await line.send(encode(report or Report()))


async def next_order(line: ClientConnection) -> Order:
    async with asyncio.timeout(DEADLINE):
        return decode(await line.recv(), Order)


def order(generation: int = 1, phase: str = "run", store: str = "") -> Order:
    return Order(generation, phase, 2, 1, store)
