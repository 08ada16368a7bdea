"""One look at one job: observe, decide, write status, publish the order, act, tell.

The order of these steps is the whole of crash safety. Nothing is published or done before the status that
counts it is written, and the write is refused if the job changed meanwhile. Whatever kills the operator,
the next look starts from status and finds either nothing done or everything counted.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from rowlock_operator.coordinator import Coordinator
from rowlock_operator.core.decide import decide
from rowlock_operator.core.model import Action, Decision, Event, Job, Observed
from rowlock_operator.kube.actions import Actions
from rowlock_operator.kube.claims import Claims
from rowlock_operator.kube.client import ApiError, Client
from rowlock_operator.kube.events import EventRecorder
from rowlock_operator.kube.isolation import Isolation
from rowlock_operator.kube.jobs import JobReader, UnreadableJobError
from rowlock_operator.kube.metrics import Metrics
from rowlock_operator.kube.observed import Cluster
from rowlock_operator.kube.pods import owner_uid, pod_of
from rowlock_operator.kube.queue import WorkQueue
from rowlock_operator.kube.refused import Refused
from rowlock_operator.kube.resources import JOBS, PODS
from rowlock_operator.kube.status import patch_body, status_patch
from rowlock_operator.kube.tokens import Tokens
from rowlock_operator.resources.launcher import PodSettings
from rowlock_operator.resources.names import SELECTOR, service_name

Json = dict[str, Any]
Key = tuple[str, str]

#: Least time between two status writes that only move progress numbers, in seconds: a person's patience
#: with `kubectl get -w`, and 40 writes a second for 200 jobs.
MINOR_SECONDS = 5.0

log = logging.getLogger("rowlock.reconcile")


@dataclass(frozen=True)
class _Subject:
    """A job too strange to read, for an event about it."""

    namespace: str
    name: str
    uid: str


class Reconciler:
    """Looks at jobs, one at a time for each."""

    def __init__(
        self,
        *,
        client: Client,
        cluster: Cluster,
        coordinator: Coordinator,
        tokens: Tokens,
        queue: WorkQueue[Key],
        metrics: Metrics,
        isolation: Isolation,
        pods: PodSettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._cluster = cluster
        self._coordinator = coordinator
        self._tokens = tokens
        self._queue = queue
        self._metrics = metrics
        self._clock = clock
        self._claims = Claims(client, cluster, clock)
        self._isolation = isolation
        self._launcher_image = pods.launcher_image
        self._actions = Actions(client, cluster, tokens, self._claims, isolation, pods)
        self._events = EventRecorder(client, clock)
        self._refused = Refused(clock)
        self._reader = JobReader()
        #: Jobs whose held version was found to be old: they are read anew before the next decision.
        self._doubtful: set[Key] = set()
        self._written_at: dict[Key, float] = {}
        self._recovering_since: dict[Key, float] = {}
        self._uids: dict[Key, str] = {}

    async def handle(self, key: Key) -> None:
        """Look at one job and see to the next look. Never raises."""
        started = self._clock()
        result = "ok"
        try:
            again_after = await self._look(key)
            self._queue.succeeded(key)
            if again_after is not None:
                self._queue.add_after(key, again_after)
        except ApiError as error:
            result = "conflict" if error.status == 409 else "error"
            if error.status in (404, 409):
                self._doubtful.add(key)
            seconds = self._queue.retry(key, error.retry_after)
            log.log(
                logging.DEBUG if result == "conflict" else logging.WARNING,
                "%s/%s: %s; again in %.1f s", *key, error, seconds,
            )  # fmt: skip
        except Exception:  # one job's defect must not take the others' operator down
            result = "defect"
            seconds = self._queue.retry(key)
            log.exception("%s/%s: a defect of the operator, please report it; again in %.1f s", *key, seconds)
        self._metrics.reconciles.labels(result).inc()
        self._metrics.reconcile_seconds.observe(self._clock() - started)

    def minor_write_in(self, key: Key) -> float:
        """Return the seconds until progress numbers of a job may be written again."""
        return max(0.0, self._written_at.get(key, -MINOR_SECONDS) + MINOR_SECONDS - self._clock())

    def doubt(self, key: Key) -> None:
        """Ask the API server for a job and its pods before the next decision on it."""
        self._doubtful.add(key)

    async def _look(self, key: Key) -> float | None:
        if key in self._doubtful:
            await self._ask_anew(key)
        body = self._cluster.jobs.get(*key)
        if body is None or self._uids.get(key, body["metadata"]["uid"]) != body["metadata"]["uid"]:
            self._forget(key)
        if body is None:
            return None
        self._uids[key] = body["metadata"]["uid"]
        try:
            job = self._reader.read(body)
        except UnreadableJobError as error:
            await self._tell_unreadable(body, str(error))
            return None
        observed, ask_in = await self._observe(job)
        decision = decide(job, observed, datetime.now(UTC))
        waits = [ask_in, decision.requeue_after, await self._write(key, body, job, decision)]
        if decision.order is not None:
            self._coordinator.publish(*key, decision.order)
        try:
            waits.append(await self._act(key, replace(job, status=decision.status), decision.actions))
        finally:
            # The next decision will not say them again: what they tell is written in status by now.
            await self._events.tell(job, decision.events)
        return min((wait for wait in waits if wait is not None), default=None)

    async def _ask_anew(self, key: Key) -> None:
        """Read the job and its pods from the server itself, in an order that cannot blame a pod too new.

        The job first: every pod its status names was seen by then, so the list holds it or it is gone.
        """
        namespace, name = key
        held = self._cluster.jobs.get(*key)
        try:
            self._cluster.jobs.put(await self._client.get(JOBS, namespace, name))
        except ApiError as error:
            if error.status != 404:
                raise
            if held is not None:
                self._cluster.jobs.remove_for_good(held)
        # By the same labels as the watch: of a pod that only this list shows, nobody would tell the end.
        pods, version = await self._client.list(PODS, namespace, f"{SELECTOR}={name}")
        self._cluster.pods.replace(pods, version, within=key)
        self._doubtful.discard(key)

    async def _observe(self, job: Job) -> tuple[Observed, float | None]:
        """Return what is to be known of a job, and after how many seconds to ask again for what is not watched."""
        key = (job.namespace, job.name)
        bodies = self._cluster.pods.of_job(*key)
        pods = (pod_of(body) for body in bodies if owner_uid(body) == job.uid)
        service = self._cluster.services.get(job.namespace, service_name(job.name))
        claim, ask_claim_in = await self._claims.of(job)
        isolated, ask_policy_in = await self._isolation.of(job)
        observed = Observed(
            pods=tuple(pod for pod in pods if pod is not None),
            claim=claim,
            service=service is not None
            and owner_uid(service) == job.uid
            and not service["metadata"].get("deletionTimestamp"),
            secret=await self._tokens.of(job.namespace, job.name, job.uid) is not None,
            isolated=isolated,
            launcher_image=self._launcher_image,
            launchers=self._coordinator.launchers(*key),
            listening_since=self._coordinator.listening_since,
            refusals=self._refused.of(key),
        )
        return observed, min((wait for wait in (ask_claim_in, ask_policy_in) if wait is not None), default=None)

    async def _write(self, key: Key, body: Json, job: Job, decision: Decision) -> float | None:
        """Write status if it differs; return after how many seconds a minor change gets its turn."""
        patch = status_patch(body.get("status") or {}, decision.status)
        if not patch:
            return None
        if decision.minor and (wait := self.minor_write_in(key)) > 0:
            return wait
        written = await self._client.patch(JOBS, job.namespace, job.name, patch_body(body, patch), "status")
        self._written_at[key] = self._clock()
        self._cluster.jobs.put(written)
        self._metrics.status_written(job.status, decision.status)
        self._note_phase(key, job, decision)
        # What was decided may itself be a reason to look again: an alarm that is only set by what status says now.
        # The watch brings nobody back here, because the map knows the answer already.
        return None if decision.minor else 0.0

    def _note_phase(self, key: Key, job: Job, decision: Decision) -> None:
        before, after = job.status, decision.status
        if before.phase != after.phase or before.generation != after.generation:
            log.info("%s/%s: %s, generation %d", *key, after.phase, after.generation)
        if after.phase == "Recovering":
            self._recovering_since.setdefault(key, self._clock())
        elif (since := self._recovering_since.pop(key, None)) is not None and after.phase == "Running":
            self._metrics.recovery_seconds.observe(self._clock() - since)

    async def _act(self, key: Key, job: Job, wanted: tuple[Action, ...]) -> float | None:
        tried = self._refused.due(key, job.generation, wanted)
        outcome = await self._actions.carry_out(job, tried)
        if self._refused.note(key, job.generation, wanted, tried, outcome.refusals):
            return 0.0  # the user should read of it now, not when it is tried again
        waits = [outcome.again_after, self._refused.again_after(key)]
        return min((wait for wait in waits if wait is not None), default=None)

    async def _tell_unreadable(self, body: Json, words: str) -> None:
        meta = body["metadata"]
        log.error("%s/%s: %s", meta["namespace"], meta["name"], words)
        subject = _Subject(meta["namespace"], meta["name"], meta["uid"])
        await self._events.tell(subject, (Event("Warning", "SpecUnreadable", words),))

    def _forget(self, key: Key) -> None:
        """Drop all memory of a job that is gone; its objects are the garbage collector's."""
        uid = self._uids.pop(key, None)
        if uid is not None:
            self._reader.forget(uid)
            self._events.forget(uid)
            log.info("%s/%s: gone", *key)
        self._coordinator.forget(*key)
        self._tokens.forget(*key)
        self._claims.forget(*key)
        self._isolation.forget(*key)
        self._refused.forget(key)
        self._written_at.pop(key, None)
        self._recovering_since.pop(key, None)
