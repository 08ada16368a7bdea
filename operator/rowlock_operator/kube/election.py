"""Which of several operators leads: the one that holds the Lease.

The rules are client-go's. A Lease names its holder, who renews it every 2 s. A candidate takes it over when it has
seen no renewal for 15 s; a holder stops 10 s after its last one. No clock of another host is read: a candidate counts
from when it saw the Lease change, a holder from before it sent the renewal, each on its own clock, and only the rate
of the two matters (1.5 : 1 is tolerated). Both write with the resource version that they judged, so of two candidates
one gets a conflict, and a renewal that comes late is refused.

What is guaranteed: at no moment do two believe to lead. The successor's judgement is 15 s after it saw the last
renewal, which was no earlier than the holder sent it, and 10 s after that the holder's process has ended
(`deadline`). The 5 s between are for messages that are still on their way. One that takes longer does no harm either:
a status write carries the version it was decided on, a deletion the UID, a creation a name that is taken by then, and
a launcher hears one coordinator at a time and obeys no older generation. That is also what protects where the promise
about time breaks: a machine that was suspended as a whole, a Lease that somebody deleted.

The Python client brings an election of its own. It takes the time of day for its durations, gives up where a request
fails without an answer, logs a traceback for every conflict and cannot give a lease back, so this is written here.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from rowlock_operator.kube.client import ApiError
from rowlock_operator.kube.resources import LEASES, Resource

Json = dict[str, Any]

#: Looks at the lease are spread by this share of the retry period, as in client-go, so that candidates do not meet.
JITTER = 0.2

log = logging.getLogger("rowlock.leader")


def local_clock() -> float:
    """Return seconds on this host's clock, which nobody sets and which counts through a suspended machine."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True)
class Terms:
    """The three durations, in seconds; the same for all candidates."""

    #: How long a candidate has to see no renewal before it takes over.
    lease: float = 15.0

    @property
    def renew(self) -> float:
        """How long a holder leads after its last renewal."""
        return self.lease * 2 / 3

    @property
    def retry(self) -> float:
        """How often a candidate looks, and a holder renews."""
        return self.lease * 2 / 15


@dataclass(frozen=True)
class Record:
    """What a Lease says: its holder (empty: nobody's), the duration the holder named, and its resource version."""

    holder: str
    seconds: float
    version: str


class Candidate:
    """What one candidate knows and may do. Pure: times come in, on the candidate's own clock, in seconds."""

    def __init__(self, identity: str, terms: Terms) -> None:
        self.identity = identity
        self._terms = terms
        self._record: Record | None = None
        self._seen_at = 0.0
        #: Until when it leads; None before it ever did.
        self.leading_until: float | None = None

    def observe(self, record: Record | None, now: float) -> None:
        """Take in what the server answered; `now` is after the answer. None: there is no Lease."""
        if record is None or self._record is None or record.version != self._record.version:
            self._seen_at = now
        self._record = record

    def may_claim(self, now: float) -> bool:
        """Return whether to try to hold the observed Lease from now on."""
        record = self._record
        if record is None or record.holder in ("", self.identity):
            return True
        # The holder lives by its own terms: the longer of the two is safe where they differ.
        return now - self._seen_at >= max(record.seconds, self._terms.lease)

    def holds(self, record: Record, sent_at: float) -> None:
        """Take in that the server accepted the claim that was sent at `sent_at`."""
        self.observe(record, sent_at)
        self.leading_until = sent_at + self._terms.renew

    def leads(self, now: float) -> bool:
        """Return whether this candidate is the leader."""
        return self.leading_until is not None and now < self.leading_until

    @property
    def deposed(self) -> bool:
        """Whether it led and the Lease names somebody else."""
        return self.leading_until is not None and self._record is not None and self._record.holder != self.identity


class Objects(Protocol):
    """Where the Lease is kept; `client.Client`."""

    async def get(self, resource: Resource, namespace: str, name: str) -> Json:
        """Return an object. Raises ApiError, with status 404 when there is none."""

    async def create(self, resource: Resource, namespace: str, body: Json) -> Json:
        """Create an object. Raises ApiError, with status 409 when there is one."""

    async def replace(self, resource: Resource, namespace: str, name: str, body: Json) -> Json:
        """Replace an object. Raises ApiError, with status 409 when it is of another version than `body`."""


class Limit(Protocol):
    """Ends this process when its time to lead is over; `deadline.Deadline`."""

    def set(self, seconds: float) -> None:
        """Let the time end in `seconds` from now."""

    def clear(self) -> None:
        """Let it not end any more."""

    def end(self, why: str) -> None:
        """End it now."""


class Election:
    """Stands for election with a Lease at the API server.

    Args:
        client: A connection of its own: renewals must not queue behind anything.
        namespace: Namespace of the Lease.
        name: Name of the Lease.
        identity: This candidate's name, of which there is no second one.
        limit: Told until when this process may lead.
        terms: The durations.
        clock: Seconds on this host.
    """

    def __init__(
        self,
        client: Objects,
        *,
        namespace: str,
        name: str,
        identity: str,
        limit: Limit,
        terms: Terms,
        clock: Callable[[], float] = local_clock,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._name = name
        self._limit = limit
        self._terms = terms
        self._clock = clock
        self._candidate = Candidate(identity, terms)
        self._lease: Json | None = None
        self._told = ""
        self._claimed = False
        #: Set once this candidate leads. It then does so until the process ends.
        self.won = asyncio.Event()

    async def run(self) -> None:
        """Stand for election, and once elected stay it, for ever."""
        while True:
            began = self._clock()
            try:
                await self._round()
            except ApiError as error:
                if error.status != 409:  # another candidate was faster
                    log.warning("lease %s/%s: %s", self._namespace, self._name, error)
            # From round to round: a request that hung has taken its time already, and the next one needs what is left.
            wait = self._terms.retry * random.uniform(1, 1 + JITTER) - (self._clock() - began)  # noqa: S311 (no secret)
            await asyncio.sleep(max(wait, self._terms.retry * JITTER))

    async def release(self) -> None:
        """Give the Lease back, if it is this candidate's, so that the next one leads at once.

        To be called when `run` is cancelled and nothing is done any more that only a leader may do.
        """
        if not self._claimed:
            return
        try:
            await self._observe()
            if self._lease is not None and _record(self._lease).holder == self._candidate.identity:
                # One second is the least a Lease may say, and client-go's word for a lease that is given back.
                await self._write(self._lease, "", 1)
                log.info("lease %s/%s given back", self._namespace, self._name)
        except ApiError as error:
            log.warning("lease %s/%s not given back, it runs out by itself: %s", self._namespace, self._name, error)
        self._limit.clear()

    async def _round(self) -> None:
        if not self._candidate.leads(self._clock()) or not await self._renewed():
            await self._observe()
            if self._candidate.deposed:
                self._limit.end(f"{_record(self._lease or {}).holder or 'nobody'} holds the lease")
            if self._candidate.may_claim(self._clock()):
                await self._claim()

    async def _renewed(self) -> bool:
        """Renew the Lease as it was last seen; return False when it is not like that any more."""
        try:
            await self._claim()
        except ApiError as error:
            if error.status not in (404, 409):
                raise
            return False
        return True

    async def _observe(self) -> None:
        try:
            self._lease = await self._client.get(LEASES, self._namespace, self._name)
        except ApiError as error:
            if error.status != 404:
                raise
            self._lease = None
        record = None if self._lease is None else _record(self._lease)
        self._candidate.observe(record, self._clock())
        if record is not None and record.holder not in (self._told, self._candidate.identity):
            log.info("the leader is %s", record.holder or "nobody")
            self._told = record.holder

    async def _claim(self) -> None:
        sent_at = self._clock()
        self._claimed = True  # from now on, whatever becomes of the answer
        self._lease = await self._write(self._lease, self._candidate.identity, int(self._terms.lease))
        self._candidate.holds(_record(self._lease), sent_at)
        self._limit.set(sent_at + self._terms.renew - self._clock())
        if not self.won.is_set():
            log.info("%s leads now", self._candidate.identity)
            self.won.set()

    async def _write(self, lease: Json | None, holder: str, seconds: int) -> Json:
        spec = (lease or {}).get("spec") or {}
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")  # for people: nobody counts by it
        changes: Json = {"holderIdentity": holder, "leaseDurationSeconds": seconds, "renewTime": now}
        if holder != spec.get("holderIdentity"):
            changes["acquireTime"] = now
            changes["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + bool(lease and holder)
        if lease is None:
            body = {"metadata": {"name": self._name, "namespace": self._namespace}, "spec": changes}
            return await self._client.create(LEASES, self._namespace, body)
        return await self._client.replace(LEASES, self._namespace, self._name, lease | {"spec": spec | changes})


def _record(lease: Json) -> Record:
    spec = lease.get("spec") or {}
    return Record(
        holder=str(spec.get("holderIdentity") or ""),
        seconds=float(spec.get("leaseDurationSeconds") or 0),
        version=str((lease.get("metadata") or {}).get("resourceVersion") or ""),
    )
