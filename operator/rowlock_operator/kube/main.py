"""The operator's process: its parts, put together, started in order and stopped in the reverse one.

First everything is listed, and only then does it decide or let launchers in: a decision on half a list would
count pods as lost that are there, and a launcher whose job is not known yet would be turned away.

Where several operators run, all of them list and watch, and the one that holds the lease (`election`) goes on from
there; the others stand by. One that stands by has no coordinator and no worker, so there is nothing in it that could
write. When it is elected it lists everything once more before it decides, although it watched all along: its watch of
pods may be behind its watch of jobs, and then a pod that its predecessor made would be missing from the one and named
by the other, which is what a lost pod looks like. The resource version in the status write would not notice, for the
job itself is fresh.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from collections import Counter
from collections.abc import Coroutine, Sequence
from typing import Any, get_args

from kubernetes.aio.config import ConfigException

from rowlock.api.v1alpha1 import Phase
from rowlock_operator.coordinator import Coordinator
from rowlock_operator.kube.client import ApiError, Client
from rowlock_operator.kube.credentials import load_configuration
from rowlock_operator.kube.feed import Feed
from rowlock_operator.kube.isolation import Isolation
from rowlock_operator.kube.leadership import Leadership, leadership
from rowlock_operator.kube.logs import set_up_logs
from rowlock_operator.kube.metrics import Metrics
from rowlock_operator.kube.observed import Cluster
from rowlock_operator.kube.probes import Probes
from rowlock_operator.kube.queue import WorkQueue
from rowlock_operator.kube.reconciler import Reconciler
from rowlock_operator.kube.resources import Resource
from rowlock_operator.kube.resync import Resync
from rowlock_operator.kube.settings import Settings, parse_settings
from rowlock_operator.kube.tokens import Tokens
from rowlock_operator.kube.watch import Watch
from rowlock_operator.resources.launcher import PodSettings

Key = tuple[str, str]

#: A queue with work in it from which nothing was taken for this long, in seconds, is stuck: twice the time
#: one request may take.
STUCK_SECONDS = 60.0
#: How long a launcher's first word waits for the first list, in seconds: less than the 5 s after which a
#: WebSocket client gives up its opening handshake.
LISTED_WITHIN_SECONDS = 3.0

log = logging.getLogger("rowlock.operator")


class Operator:
    """All parts of a running operator."""

    def __init__(
        self, settings: Settings, client: Client, metrics: Metrics, among_others: Leadership | None = None
    ) -> None:
        self._settings = settings
        self._leadership = among_others
        self._client = client
        self._metrics = metrics
        self._cluster = Cluster()
        self._queue: WorkQueue[Key] = WorkQueue()
        self._tokens = Tokens(client)
        self._coordinator = Coordinator(token_of=self._token_of, on_change=self._launchers_changed)
        self._feed: Feed | None = None
        self._resync: Resync | None = None
        self._watch: Watch | None = None
        self._watching = False
        #: Set once this operator leads and knows all there is: launchers are let in, and jobs are looked at.
        self._deciding = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        #: Set when a part ended, which none may.
        self._failed = asyncio.Event()
        self._probes = Probes(alive=self._alive, ready=self._ready, metrics=self._scrape, role=self._role)

    async def run(self, stopping: asyncio.Event) -> None:
        """Run until `stopping` is set. Raises what ended a part that must not end."""
        settings = self._settings
        probes_port = await self._probes.start(settings.probes_host, settings.probes_port)
        log.info("health and metrics on port %d", probes_port)
        try:
            await self._start()
            await self._until(stopping)
        finally:
            await self._stop()

    async def _start(self) -> None:
        settings = self._settings
        port = settings.coordinator_port if self._leadership else await self._start_coordinator()
        reconciler = Reconciler(
            client=self._client,
            cluster=self._cluster,
            coordinator=self._coordinator,
            tokens=self._tokens,
            queue=self._queue,
            metrics=self._metrics,
            isolation=Isolation(self._client, wanted=settings.isolate_jobs, every=settings.resync_seconds),
            pods=PodSettings(
                settings.coordinator_url.replace("{port}", str(port)),
                settings.launcher_image,
                settings.trainer_image,
                settings.launcher_image_pull_policy,
            ),
        )
        self._feed = Feed(self._cluster, self._queue, reconciler, self._coordinator, self._metrics)
        self._resync = Resync(
            self._client,
            self._cluster,
            self._feed,
            self._queue,
            self._metrics,
            namespaces=settings.namespaces,
            seconds=settings.resync_seconds,
        )
        self._watch = Watch(self._heard, namespaces=settings.namespaces, kubeconfig=settings.kubeconfig)
        log.info("listing")
        self._spawn(self._resync.run(), "resync")
        self._spawn(self._begin(reconciler), "begin")

    async def _start_coordinator(self) -> int:
        settings = self._settings
        port = await self._coordinator.start(settings.coordinator_host, settings.coordinator_port)
        log.info("coordinator on port %d", port)
        return port

    async def _begin(self, reconciler: Reconciler) -> None:
        """Decide, once all is known; watching starts here too, for the same reason."""
        assert self._resync is not None  # noqa: S101 (for the type checker: _start made it)
        assert self._watch is not None  # noqa: S101
        await self._resync.synced.wait()
        self._watch.start()
        self._watching = True
        if self._leadership is not None:
            await self._lead(self._leadership, self._resync)
        # Until now every launcher was turned away, for its job was not known.
        self._coordinator.listen_anew()
        log.info("%d jobs listed; deciding with %d workers", len(self._cluster.jobs), self._settings.workers)
        self._queue.last_taken = asyncio.get_running_loop().time()
        self._deciding.set()
        self._metrics.leader.set(1)
        async with asyncio.TaskGroup() as group:
            for _ in range(self._settings.workers):
                group.create_task(self._queue.work(reconciler.handle))

    async def _lead(self, among_others: Leadership, resync: Resync) -> None:
        """Stand by until elected, then do what a leader does before it decides."""
        log.info("%d jobs listed; standing by", len(self._cluster.jobs))
        self._spawn(among_others.election.run(), "election")
        await among_others.election.won.wait()
        await self._start_coordinator()
        # Where it fails it tries again and says so; a leader that launchers cannot find yet can still decide.
        self._spawn(among_others.endpoint.run(), "endpoint")
        await resync.anew()

    async def _until(self, stopping: asyncio.Event) -> None:
        stop = asyncio.create_task(stopping.wait())
        failed = asyncio.create_task(self._failed.wait())
        await asyncio.wait([stop, failed], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        failed.cancel()
        if stopping.is_set():
            log.info("stopping; training goes on without the operator")
            return
        for task in self._tasks:
            if task.done():
                task.result()

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._coordinator.stop()
        if self._leadership is not None:
            # Nothing is written or ordered any more, so the next one may begin; it need not wait for the rest.
            await self._leadership.election.release()
        if self._watch is not None:
            await self._watch.stop()
        await self._probes.stop()

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(lambda _: self._failed.set())
        self._tasks.append(task)

    def _heard(self, resource: Resource, kind: str | None, body: dict[str, Any]) -> None:
        if self._feed is None or self._resync is None:
            return
        if kind is None:
            # A first list shows what exists, not what vanished before it.
            self._resync.soon()
        self._feed.event(resource, kind, body)

    def _launchers_changed(self, namespace: str, name: str) -> None:
        if self._feed is not None:
            self._feed.launchers_changed(namespace, name)

    async def _token_of(self, namespace: str, name: str) -> str | None:
        """The token of a job this operator serves. Of others it does not even ask."""
        if not await self._known():
            return None
        job = self._cluster.jobs.get(namespace, name)
        if job is None:
            return None
        try:
            return await self._tokens.of(namespace, name, job["metadata"]["uid"])
        except ApiError as error:
            log.warning("%s/%s: cannot look up the job's Secret: %s", namespace, name, error)
            return None

    async def _known(self) -> bool:
        """Wait a moment for the first list: a launcher that comes early is not a stranger for it."""
        try:
            async with asyncio.timeout(LISTED_WITHIN_SECONDS):
                await self._deciding.wait()
        except TimeoutError:
            return False
        return True

    def _alive(self) -> str | None:
        idle = asyncio.get_running_loop().time() - self._queue.last_taken
        if len(self._queue) and idle > STUCK_SECONDS and self._deciding.is_set():
            return f"{len(self._queue)} jobs wait for a look and none had one for {idle:.0f} s"
        if self._watching and self._watch is not None and not self._watch.alive:
            return "nobody watches the API server"
        return None

    def _ready(self) -> str | None:
        # One that stands by is ready, for it can lead at once; one that was just elected is no less so.
        ready = self._watching if self._leadership else self._deciding.is_set()
        return None if ready else "not everything has been listed yet"

    def _role(self) -> str:
        if self._leadership is None:
            return ""
        return "leading" if self._deciding.is_set() else "standby"

    def _scrape(self) -> bytes:
        metrics = self._metrics
        phases: Counter[str] = Counter(dict.fromkeys(get_args(Phase), 0))
        launchers = 0
        for key in self._cluster.jobs:
            body = self._cluster.jobs.get(*key) or {}
            phases[(body.get("status") or {}).get("phase", "Pending")] += 1
            launchers += sum(launcher.connected for launcher in self._coordinator.launchers(*key))
        for phase, count in phases.items():
            metrics.jobs.labels(phase).set(count)
        metrics.launchers.set(launchers)
        metrics.queue_depth.set(len(self._queue))
        metrics.queue_delayed.set(self._queue.delayed)
        return metrics.text()


async def serve(settings: Settings) -> None:
    """Run an operator until SIGTERM or SIGINT. Raises ConfigException when no API server is configured."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    metrics = Metrics()
    async with (
        Client(await load_configuration(settings.kubeconfig), metrics) as client,
        leadership(settings, metrics) as among_others,
    ):
        await Operator(settings, client, metrics, among_others).run(stopping)


def main(arguments: Sequence[str] | None = None) -> None:
    """Console entry point."""
    settings = parse_settings(sys.argv[1:] if arguments is None else arguments)
    set_up_logs(settings.log_level, settings.log_format)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(serve(settings))
    except ConfigException as error:
        sys.exit(f"rowlock-operator: {error} In a pod it uses the service account; elsewhere give --kubeconfig")
    except OSError as error:
        sys.exit(f"rowlock-operator: {error}")
