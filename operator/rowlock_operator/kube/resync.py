"""The slow round that makes the watch a mere speed-up: list everything, compare sets.

A watch that starts anew shows what exists and not what vanished meanwhile, so deletions are found here. The
first round also comes before any decision: deciding on half a list would count pods as lost that are there.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Any

from rowlock_operator.kube.backoff import delay_after
from rowlock_operator.kube.client import ApiError, Client
from rowlock_operator.kube.feed import Feed
from rowlock_operator.kube.metrics import Metrics
from rowlock_operator.kube.observed import Cluster
from rowlock_operator.kube.queue import WorkQueue
from rowlock_operator.kube.resources import CLAIMS, JOBS, PODS, SERVICES, Resource
from rowlock_operator.kube.versions import older
from rowlock_operator.resources.names import SELECTOR

Json = dict[str, Any]
Key = tuple[str, str]

#: Jobs before pods: every pod that a listed status names was there when the pods are listed, or is gone.
ORDER: tuple[tuple[Resource, str], ...] = ((JOBS, ""), (PODS, SELECTOR), (SERVICES, SELECTOR), (CLAIMS, SELECTOR))
#: A watch that breaks seldom breaks alone: wait this long, in seconds, and list once for all of them.
TOGETHER_SECONDS = 1.0

log = logging.getLogger("rowlock.resync")


class Resync:
    """Lists everything, now and then."""

    def __init__(
        self,
        client: Client,
        cluster: Cluster,
        feed: Feed,
        queue: WorkQueue[Key],
        metrics: Metrics,
        *,
        namespaces: tuple[str, ...],
        seconds: float,
    ) -> None:
        self._client = client
        self._cluster = cluster
        self._feed = feed
        self._queue = queue
        self._metrics = metrics
        self._namespaces: tuple[str | None, ...] = namespaces or (None,)
        self._seconds = seconds
        self._wanted = asyncio.Event()
        self._urgent = asyncio.Event()
        self._begun = 0
        self._done = 0
        self._ended = asyncio.Condition()
        #: Set once everything was listed for the first time.
        self.synced = asyncio.Event()

    def soon(self) -> None:
        """Ask for a round now instead of when the time has come."""
        self._wanted.set()

    async def anew(self) -> None:
        """Wait until everything was listed once more, in a round that begins after this call.

        It begins at once, also where the rounds before failed and the next was to wait.
        """
        needed = self._begun + 1
        self._urgent.set()
        self._wanted.set()
        async with self._ended:
            await self._ended.wait_for(lambda: self._done >= needed)

    async def run(self) -> None:
        """List for ever."""
        failures = 0
        while True:
            try:
                await self._round()
            except ApiError as error:
                failures += 1
                wait = max(error.retry_after, delay_after(failures))
                patient = error.retry_after
                self._metrics.resyncs.labels("error").inc()
                log.warning("cannot list: %s; again in %.1f s", _explained(error), wait)
            else:
                failures = 0
                self._metrics.resyncs.labels("ok").inc()
                self.synced.set()
                async with self._ended:
                    self._done = self._begun
                    self._ended.notify_all()
                # Jittered, so that restarted operators of several clusters do not meet.
                wait = self._seconds * random.uniform(0.9, 1.1)  # noqa: S311 (no secret)
            if failures == 0:
                await self._pause(wait)
            elif await self._back_off(wait, at_least=patient):
                failures = 0

    async def _back_off(self, seconds: float, *, at_least: float) -> bool:
        """Wait after a failure; return whether someone could not wait for the end of it."""
        await asyncio.sleep(at_least)  # the server's own wish
        try:
            async with asyncio.timeout(seconds - at_least):
                await self._urgent.wait()
        except TimeoutError:
            return False
        self._wanted.clear()
        self._urgent.clear()
        return True

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wanted.wait()
            async with asyncio.timeout(TOGETHER_SECONDS):
                await self._urgent.wait()
        except TimeoutError:
            log.debug("time for a full list")
        self._wanted.clear()
        self._urgent.clear()

    async def _round(self) -> None:
        self._begun += 1
        for resource, selector in ORDER:
            bodies, version = await self._list(resource, selector)
            self._feed.listed(resource, bodies, version)
        # Every job gets a look now and then, whatever events were lost; spread, so that it is no storm.
        for key in self._cluster.jobs:
            self._queue.add_after(key, random.uniform(0.0, min(10.0, self._seconds / 10)))  # noqa: S311

    async def _list(self, resource: Resource, selector: str) -> tuple[list[Json], str]:
        bodies: list[Json] = []
        oldest = ""
        for namespace in self._namespaces:
            items, version = await self._client.list(resource, namespace, selector)
            bodies += items
            oldest = version if not oldest or older(version, oldest) else oldest
        return bodies, oldest


def _explained(error: ApiError) -> str:
    if error.status == 404:
        return f"{error}. Is the CustomResourceDefinition installed? See crds/ of this release"
    if error.status == 403:
        return f"{error}. Does the operator's service account have its ClusterRole?"
    return str(error)
