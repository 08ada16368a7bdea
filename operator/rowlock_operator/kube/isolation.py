"""Whether each job's NetworkPolicy is there: asked by name, and now and then again.

It is not watched. A policy of ours that changes by itself is rare, a watch of all policies of a cluster costs the right
to read everybody's, and one small request a job in each `every` seconds finds one that was deleted. So one that is
deleted comes back within that time. Only whether it is there is looked at, not what it says: who may write policies
in a namespace may open its jobs anyway, with a policy of their own, for what policies let in adds up.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from rowlock_operator.core.model import Job
from rowlock_operator.kube.client import ApiError, Client
from rowlock_operator.kube.pods import owner_uid
from rowlock_operator.kube.resources import NETWORK_POLICIES
from rowlock_operator.resources.names import policy_name
from rowlock_operator.resources.network_policy import build_network_policy

Key = tuple[str, str]


@dataclass(frozen=True)
class _Seen:
    job_uid: str
    #: Monotonic seconds.
    at: float


class Isolation:
    """The NetworkPolicies of the jobs this operator serves.

    Args:
        client: The API server.
        wanted: Whether jobs are to have one at all.
        every: Seconds for which one that was seen is taken to be there.
        clock: Monotonic seconds.
    """

    def __init__(
        self, client: Client, *, wanted: bool, every: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._wanted = wanted
        self._every = every
        self._clock = clock
        self._seen: dict[Key, _Seen] = {}

    async def of(self, job: Job) -> tuple[bool, float | None]:
        """Return whether a job is isolated as wanted, and after how many seconds to ask again."""
        if not self._wanted or job.deleting or job.status.phase in ("Succeeded", "Failed"):
            return True, None
        key, now = (job.namespace, job.name), self._clock()
        seen = self._seen.get(key)
        if seen is not None and seen.job_uid == job.uid and (left := seen.at + self._every - now) > 0:
            return True, left
        self._seen.pop(key, None)
        if not await self._ask(job):
            return False, None
        self._seen[key] = _Seen(job.uid, now)
        return True, self._every

    async def create(self, job: Job) -> None:
        """Create the policy of `job`. Raises `ApiError`, with status 409 when one of that name exists."""
        await self._client.create(NETWORK_POLICIES, job.namespace, build_network_policy(job))
        self._seen[job.namespace, job.name] = _Seen(job.uid, self._clock())

    def forget(self, namespace: str, name: str) -> None:
        """Drop what is known of a job that is gone."""
        self._seen.pop((namespace, name), None)

    async def _ask(self, job: Job) -> bool:
        try:
            policy = await self._client.get(NETWORK_POLICIES, job.namespace, policy_name(job.name))
        except ApiError as error:
            # Who may not look may not create either, and that refusal is told to the user.
            if error.status not in (403, 404):
                raise
            return False
        return owner_uid(policy) == job.uid and not policy["metadata"].get("deletionTimestamp")
