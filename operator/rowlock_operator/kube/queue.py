"""The work queue: which jobs want a look, each at most once, and never two workers at one job.

The semantics of client-go's workqueue in a page of asyncio: adding a key that waits already does nothing;
adding a key that is being worked on marks it for another round; a delayed add is brought forward by an
earlier one. Failures of a key are counted here, because they decide how long it waits.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from rowlock_operator.kube.backoff import delay_after

K = TypeVar("K", bound=Hashable)


class WorkQueue(Generic[K]):
    """Keys that want a look."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._waiting: dict[K, None] = {}
        self._working: set[K] = set()
        self._again: set[K] = set()
        #: When each delayed key is due; the heap may hold stale entries, this dict says which count.
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._tickets = 0
        self._failures: dict[K, int] = {}
        self._changed = asyncio.Event()
        #: When a key was last handed out, on this queue's clock: tells whether the queue moves.
        self.last_taken = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def working(self) -> int:
        """Keys that are being worked on."""
        return len(self._working)

    @property
    def delayed(self) -> int:
        """Keys that wait for their time."""
        return len(self._due)

    def add(self, key: K) -> None:
        """Ask for a look at `key` now."""
        self._due.pop(key, None)
        if key in self._working:
            self._again.add(key)
        else:
            self._waiting.setdefault(key, None)
        self._changed.set()

    def add_after(self, key: K, seconds: float) -> None:
        """Ask for a look at `key` in `seconds`, unless an earlier one is asked for already."""
        if seconds <= 0:
            self.add(key)
            return
        if key in self._waiting or key in self._again:
            return
        due = self._clock() + seconds
        if self._due.get(key, due + 1) <= due:
            return
        self._due[key] = due
        self._tickets += 1
        heapq.heappush(self._heap, (due, self._tickets, key))
        self._changed.set()

    def retry(self, key: K, at_least: float = 0.0) -> float:
        """Count a failure of `key` and ask for another look after its backoff; return that, in seconds."""
        self._failures[key] = self._failures.get(key, 0) + 1
        seconds = max(at_least, delay_after(self._failures[key]))
        # A wish that came in while the key was being worked on must not jump the backoff: it is
        # what makes a failing API server's life easier.
        self._again.discard(key)
        self.add_after(key, seconds)
        return seconds

    def succeeded(self, key: K) -> None:
        """Forget the failures of `key`."""
        self._failures.pop(key, None)

    @asynccontextmanager
    async def take(self) -> AsyncIterator[K]:
        """Wait for a key and hold it: until the block ends, nobody else gets it."""
        key = await self._next()
        try:
            yield key
        finally:
            self._working.discard(key)
            if key in self._again:
                self._again.discard(key)
                self.add(key)

    async def work(self, handle: Callable[[K], Awaitable[None]]) -> None:
        """Hand keys to `handle` one after the other, for ever. `handle` must not raise."""
        while True:
            async with self.take() as key:
                await handle(key)

    async def _next(self) -> K:
        while True:
            wait = self._promote()
            if self._waiting:
                key = next(iter(self._waiting))
                del self._waiting[key]
                self._working.add(key)
                self.last_taken = self._clock()
                return key
            # Nothing is awaited between the look and the clear, so no wish is lost in between.
            self._changed.clear()
            try:
                async with asyncio.timeout(wait):
                    await self._changed.wait()
            except TimeoutError:
                # The time of a delayed key has come: the next round finds it.
                continue

    def _promote(self) -> float | None:
        """Move keys whose time has come to the waiting ones; return the seconds until the next is due."""
        now = self._clock()
        while self._heap:
            due, _, key = self._heap[0]
            if self._due.get(key) != due:
                heapq.heappop(self._heap)
            elif due <= now:
                heapq.heappop(self._heap)
                self.add(key)
            else:
                return due - now
        return None
