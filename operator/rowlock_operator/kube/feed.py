"""From what is heard to which job wants a look: the one place where the queue is filled.

Three voices: watch events, full lists, and the coordinator's launchers. A running crew reports its progress
many times a second; that alone is no reason to look at once, because nothing but numbers would be written.
"""

from __future__ import annotations

from typing import Any

from rowlock_operator.coordinator import Coordinator
from rowlock_operator.core.model import Launcher
from rowlock_operator.kube.metrics import Metrics
from rowlock_operator.kube.observed import Cluster, Collection, key_of
from rowlock_operator.kube.queue import WorkQueue
from rowlock_operator.kube.reconciler import Reconciler
from rowlock_operator.kube.resources import CLAIMS, JOBS, PODS, SERVICES, Resource

Json = dict[str, Any]
Key = tuple[str, str]


class Feed:
    """Takes in what is heard and queues the jobs it concerns."""

    def __init__(
        self,
        cluster: Cluster,
        queue: WorkQueue[Key],
        reconciler: Reconciler,
        coordinator: Coordinator,
        metrics: Metrics,
    ) -> None:
        self.collections: dict[Resource, Collection] = {
            JOBS: cluster.jobs,
            PODS: cluster.pods,
            SERVICES: cluster.services,
            CLAIMS: cluster.claims,
        }
        self._cluster = cluster
        self._queue = queue
        self._reconciler = reconciler
        self._coordinator = coordinator
        self._metrics = metrics
        self._said: dict[Key, tuple[Any, ...]] = {}

    def event(self, resource: Resource, kind: str | None, body: Json) -> None:
        """Take in a watch event; `kind` is None for an object of a watch's first list."""
        self._metrics.watch_events.labels(resource.plural, kind or "LISTED").inc()
        collection = self.collections[resource]
        held = collection.get(*key_of(body))
        told = collection.remove(body) if kind == "DELETED" else collection.put(body)
        # Both where a label was moved: the one has lost it, the other has it now.
        jobs = {collection.job_of(body), collection.job_of(held) if held is not None else None}
        for job in jobs if told else ():
            if job is not None:
                self._queue.add(job)
        self._forget_gone(resource)

    def listed(self, resource: Resource, bodies: list[Json], version: str) -> None:
        """Take in a full list."""
        for job in self.collections[resource].replace(bodies, version):
            self._queue.add(job)
        self._forget_gone(resource)

    def launchers_changed(self, namespace: str, name: str) -> None:
        """Take in that a job's launchers have something new to say."""
        key = (namespace, name)
        launchers = self._coordinator.launchers(namespace, name)
        said, before = tuple(_weighty(one) for one in launchers), self._said.get(key)
        if key not in self._cluster.jobs:
            return
        self._said[key] = said
        if said == before:
            self._queue.add_after(key, self._reconciler.minor_write_in(key))
            return
        if before is not None and _gone(said) - _gone(before):
            # A launcher hung up, and its pod's end may be what the watch missed: ask.
            self._reconciler.doubt(key)
        self._queue.add(key)

    def _forget_gone(self, resource: Resource) -> None:
        if resource is JOBS and len(self._said) > len(self._cluster.jobs):
            self._said = {key: said for key, said in self._said.items() if key in self._cluster.jobs}


def _weighty(launcher: Launcher) -> tuple[Any, ...]:
    """All that a decision turns on; progress and checkpoint notes only move numbers."""
    report = launcher.report
    return (
        launcher.worker,
        launcher.pod_uid,
        launcher.connected,
        report.generation,
        report.phase,
        report.store,
        report.exits,
        report.resumed_from,
        report.notices,
        report.leaving,
    )


def _gone(said: tuple[Any, ...]) -> frozenset[tuple[int, str]]:
    return frozenset((worker, uid) for worker, uid, connected, *_ in said if not connected)
