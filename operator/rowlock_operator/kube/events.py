"""Events: what a person should see in `kubectl describe`, said once and never in a flood.

Repeats of one event raise its count instead of making a new object, each job has an allowance, and an
event that cannot be written is dropped: the status says the same in its own way.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from rowlock.api.v1alpha1 import API_VERSION, KIND
from rowlock_operator.core.model import Event
from rowlock_operator.kube.client import ApiError, Client
from rowlock_operator.kube.resources import EVENTS

Json = dict[str, Any]

COMPONENT = "rowlock-operator"
#: Events a job may tell at once, and how fast it earns more: client-go's spam filter has 25 and one in
#: 300 s; a job that recovers every few seconds deserves to be heard of a little more often.
BURST = 25.0
SECONDS_PER_EVENT = 30.0
#: Events remembered for counting repeats: as many as client-go's aggregator keeps.
REMEMBERED = 4096
#: Longest note the API server takes, in characters (core/v1 Event validation).
MESSAGE_CHARS = 1024

log = logging.getLogger("rowlock.events")


class Subject(Protocol):
    """Whom an event is about: a job, readable or not."""

    @property
    def namespace(self) -> str:
        """Its namespace."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def uid(self) -> str:
        """Its UID."""


@dataclass
class _Allowance:
    left: float
    at: float


class EventRecorder:
    """Writes Events about jobs."""

    def __init__(self, client: Client, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._counts: OrderedDict[str, int] = OrderedDict()
        self._allowances: dict[str, _Allowance] = {}

    async def tell(self, job: Subject, events: tuple[Event, ...]) -> None:
        """Write `events`, but for those that were told before or exceed the job's allowance."""
        for event in events:
            name = _name(job, event)
            if event.key and name in self._counts:
                continue
            if not self._allowed(job.uid):
                log.warning("%s/%s: event %s left out: too many", job.namespace, job.name, event.reason)
                continue
            await self._write(job, event, name)

    def forget(self, job_uid: str) -> None:
        """Drop the allowance of a job that is gone."""
        self._allowances.pop(job_uid, None)

    async def _write(self, job: Subject, event: Event, name: str) -> None:
        count = self._counts.get(name, 0) + 1
        try:
            if count == 1:
                await self._create(job, event, name)
            else:
                await self._repeat(job, event, name, count)
        except ApiError as error:
            log.warning("%s/%s: event %s not written: %s", job.namespace, job.name, event.reason, error)
        self._remember(name, count)

    async def _create(self, job: Subject, event: Event, name: str) -> None:
        try:
            await self._client.create(EVENTS, job.namespace, _body(job, event, name))
        except ApiError as error:
            # Told before this operator started. A keyed event is told once; of others the time is renewed.
            if error.reason != "AlreadyExists":
                raise
            if not event.key:
                await self._client.patch(EVENTS, job.namespace, name, {"lastTimestamp": _now()})

    async def _repeat(self, job: Subject, event: Event, name: str, count: int) -> None:
        try:
            await self._client.patch(EVENTS, job.namespace, name, {"count": count, "lastTimestamp": _now()})
        except ApiError as error:
            if error.status != 404:
                raise
            # Events live for an hour by default: this one has run out.
            await self._client.create(EVENTS, job.namespace, _body(job, event, name) | {"count": count})

    def _remember(self, name: str, count: int) -> None:
        self._counts[name] = count
        self._counts.move_to_end(name)
        while len(self._counts) > REMEMBERED:
            self._counts.popitem(last=False)

    def _allowed(self, job_uid: str) -> bool:
        now = self._clock()
        allowance = self._allowances.setdefault(job_uid, _Allowance(BURST, now))
        allowance.left = min(BURST, allowance.left + (now - allowance.at) / SECONDS_PER_EVENT)
        allowance.at = now
        if allowance.left < 1:
            return False
        allowance.left -= 1
        return True


def _name(job: Subject, event: Event) -> str:
    """One name for one happening, so that a repeat, or a restarted operator, meets the same object."""
    told = "\0".join((job.uid, event.type, event.reason, event.key or event.message))
    return f"{job.name}.{hashlib.sha256(told.encode()).hexdigest()[:16]}"


def _body(job: Subject, event: Event, name: str) -> Json:
    now = _now()
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": job.namespace},
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "namespace": job.namespace,
            "name": job.name,
            "uid": job.uid,
        },
        "type": event.type,
        "reason": event.reason,
        "message": event.message[:MESSAGE_CHARS],
        "count": 1,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "reportingInstance": COMPONENT,
        "action": event.reason,
    }


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
