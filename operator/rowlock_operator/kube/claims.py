"""The claim a job uses, whosever it is.

A claim this operator made carries its label and is watched. One that the user named, or that was there
before under the job's own name, is asked for by name and remembered for a short while.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rowlock_operator.core.model import Claim, Job
from rowlock_operator.kube.client import ApiError, Client
from rowlock_operator.kube.observed import Cluster
from rowlock_operator.kube.pods import claim_of
from rowlock_operator.kube.resources import CLAIMS
from rowlock_operator.resources.names import claim_name

Json = dict[str, Any]
Key = tuple[str, str]

#: How soon a claim that is not there or not bound is asked for again, in seconds: what a person who just
#: created it is willing to wait.
ASK_SECONDS = 5.0
#: The same for one that is bound, which seldom changes.
ASK_BOUND_SECONDS = 60.0


class Claims:
    """Finds each job's claim."""

    def __init__(self, client: Client, cluster: Cluster, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._cluster = cluster
        self._clock = clock
        self._asked: dict[Key, tuple[float, Json | None]] = {}
        self._foreign: set[Key] = set()

    async def of(self, job: Job) -> tuple[Claim | None, float | None]:
        """Return the job's claim, and after how many seconds to ask again, None when it is watched."""
        name = claim_name(job)
        watched = self._cluster.claims.get(job.namespace, name)
        if watched is not None:
            return claim_of(watched, job.uid), None
        if job.spec.checkpoint.storage.claim_name is None and (job.namespace, name) not in self._foreign:
            return None, None
        body = await self._ask(job.namespace, name)
        claim = None if body is None else claim_of(body, job.uid)
        if job.deleting or job.status.phase in ("Succeeded", "Failed", "Suspended"):
            return claim, None  # nothing waits for it
        return claim, ASK_BOUND_SECONDS if claim is not None and claim.phase == "Bound" else ASK_SECONDS

    def exists_unlabelled(self, job: Job) -> None:
        """Note that the server knows a claim of the job's name that the watch does not show."""
        self._foreign.add((job.namespace, claim_name(job)))

    def forget(self, namespace: str, job: str) -> None:
        """Drop what was asked for a job that is gone."""
        self._foreign.discard((namespace, f"{job}-checkpoints"))

    async def _ask(self, namespace: str, name: str) -> Json | None:
        key, now = (namespace, name), self._clock()
        for stale in [known for known, (when, _) in self._asked.items() if now - when > 2 * ASK_BOUND_SECONDS]:
            del self._asked[stale]
        if key in self._asked:
            when, body = self._asked[key]
            bound = body is not None and (body.get("status") or {}).get("phase") == "Bound"
            if now - when < (ASK_BOUND_SECONDS if bound else ASK_SECONDS):
                return body
        try:
            body = await self._client.get(CLAIMS, namespace, name)
        except ApiError as error:
            if error.status != 404:
                raise
            body = None
            self._foreign.discard(key)
        self._asked[key] = (now, body)
        return body
