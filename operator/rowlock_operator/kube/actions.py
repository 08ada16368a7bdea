"""Carrying a decision out: objects created and deleted, each in a way that may be repeated.

The map learns of a deletion from the server's answer, and the watch, which comes after it, has nothing new to tell.
So an answer that changed the map asks for the next look itself: nobody else would, and a pod that never goes would
never be found overdue.

"Already there" and "already gone" count as done. What the server will not have is a refusal: it goes back
to decide(), which tells the user. Everything else (no answer, overload, server errors) is raised and
tried again later.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from rowlock_operator.core.membership import FORCE_AFTER_SECONDS
from rowlock_operator.core.model import (
    Action,
    ActionName,
    CreateClaim,
    CreateNetworkPolicy,
    CreatePod,
    CreateSecret,
    CreateService,
    DeleteJob,
    DeletePod,
    Job,
    Refusal,
)
from rowlock_operator.kube.claims import Claims
from rowlock_operator.kube.client import ApiError, Client
from rowlock_operator.kube.isolation import Isolation
from rowlock_operator.kube.observed import Cluster, Collection
from rowlock_operator.kube.pods import owner_uid, parse_time
from rowlock_operator.kube.resources import CLAIMS, JOBS, NETWORK_POLICIES, PODS, SECRETS, SERVICES, Resource
from rowlock_operator.kube.tokens import Tokens
from rowlock_operator.resources.claim import build_claim
from rowlock_operator.resources.launcher import PodSettings
from rowlock_operator.resources.names import (
    FOUND_BY,
    LABEL_WORKER,
    job_labels,
    pod_name,
    policy_name,
    secret_name,
    service_name,
)
from rowlock_operator.resources.pod import build_pod
from rowlock_operator.resources.secret import token_in
from rowlock_operator.resources.service import build_service

Json = dict[str, Any]

#: Pods of one job created or deleted at a time: enough for 1,024 in seconds, few beside the API server's
#: default of 600 requests in flight.
AT_ONCE = 16
#: How soon to look again at an object that is still in the way, in seconds: the garbage collector needs
#: about as long to remove what an earlier job of the same name left.
IN_THE_WAY_SECONDS = 1.0

log = logging.getLogger("rowlock.actions")


@dataclass
class Outcome:
    """What became of a decision's actions."""

    refusals: list[Refusal] = field(default_factory=list)
    #: Seconds after which to try again because something is in the way; None when nothing is.
    again_after: float | None = None


def action_name(action: Action) -> ActionName:
    """Return an action's name as refusals give it."""
    names: dict[type[Action], ActionName] = {
        CreateClaim: "CreateClaim",
        CreateService: "CreateService",
        CreateSecret: "CreateSecret",
        CreateNetworkPolicy: "CreateNetworkPolicy",
        CreatePod: "CreatePod",
        DeletePod: "DeletePod",
        DeleteJob: "DeleteJob",
    }
    return names[type(action)]


class Actions:
    """Carries out actions on the API server, and notes in the map what it answered."""

    def __init__(
        self,
        client: Client,
        cluster: Cluster,
        tokens: Tokens,
        claims: Claims,
        isolation: Isolation,
        pods: PodSettings,
    ) -> None:
        self._client = client
        self._cluster = cluster
        self._tokens = tokens
        self._claims = claims
        self._isolation = isolation
        self._pods = pods
        self._gate = asyncio.Semaphore(AT_ONCE)

    async def carry_out(self, job: Job, actions: tuple[Action, ...]) -> Outcome:
        """Carry out `actions`: what pods need first, one by one, then the pods side by side.

        Raises:
            ApiError: The server could not be asked, or was too busy. Where that happened before the pods, the
                actions after it were not tried; of the pods all were. Either way the whole is to be repeated.
        """
        outcome = Outcome()
        for action in actions:
            if not isinstance(action, CreatePod | DeletePod):
                await self._attempt(job, action, outcome)
        pods = [action for action in actions if isinstance(action, CreatePod | DeletePod)]
        results = await asyncio.gather(
            *(self._attempt(job, action, outcome) for action in pods), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return outcome

    async def _attempt(self, job: Job, action: Action, outcome: Outcome) -> None:
        try:
            async with self._gate:
                await self._one(job, action, outcome)
        except ApiError as error:
            if not error.refusal:
                raise
            outcome.refusals.append(Refusal(action_name(action), error.reason or "Refused", error.message))

    async def _one(self, job: Job, action: Action, outcome: Outcome) -> None:
        match action:
            case CreateClaim():
                await self._create_claim(job)
            case CreateService():
                name = service_name(job.name)
                await self._create(job, action, SERVICES, self._cluster.services, name, build_service(job), outcome)
            case CreateSecret():
                await self._create_secret(job, outcome)
            case CreateNetworkPolicy():
                await self._create_policy(job, outcome)
            case CreatePod(worker):
                body = build_pod(job, worker, self._pods)
                name = pod_name(job.name, worker)
                await self._create(job, action, PODS, self._cluster.pods, name, body, outcome)
            case DeletePod():
                await self._delete_pod(job, action, outcome)
            case DeleteJob():
                await self._delete_job(job)

    async def _create(
        self,
        job: Job,
        action: Action,
        resource: Resource,
        collection: Collection,
        name: str,
        body: Json,
        outcome: Outcome,
    ) -> None:
        try:
            collection.put(await self._client.create(resource, job.namespace, body))
        except ApiError as error:
            if not _exists_already(error):
                raise
            await self._in_the_way(job, action, resource, collection, name, outcome)

    async def _create_claim(self, job: Job) -> None:
        try:
            self._cluster.claims.put(await self._client.create(CLAIMS, job.namespace, build_claim(job)))
        except ApiError as error:
            if not _exists_already(error):
                raise
            self._claims.exists_unlabelled(job)

    async def _create_secret(self, job: Job, outcome: Outcome) -> None:
        try:
            await self._tokens.create(job)
        except ApiError as error:
            if not _exists_already(error):
                raise
            name = secret_name(job.name)
            await self._in_the_way(job, CreateSecret(), SECRETS, None, name, outcome)

    async def _create_policy(self, job: Job, outcome: Outcome) -> None:
        # It is not watched: nobody but this answer brings on the next look, in which pods are created.
        try:
            await self._isolation.create(job)
            outcome.again_after = 0.0
        except ApiError as error:
            if not _exists_already(error):
                raise
            name = policy_name(job.name)
            await self._in_the_way(job, CreateNetworkPolicy(), NETWORK_POLICIES, None, name, outcome)
            if outcome.again_after is None:
                outcome.again_after = IN_THE_WAY_SECONDS

    async def _in_the_way(
        self,
        job: Job,
        action: Action,
        resource: Resource,
        collection: Collection | None,
        name: str,
        outcome: Outcome,
    ) -> None:
        """Judge an object that has the name: ours, an earlier job's on its way out, or a stranger's."""
        try:
            body = await self._client.get(resource, job.namespace, name)
        except ApiError as error:
            if error.status != 404:
                raise
            outcome.again_after = 0.0  # gone in between: the name is free now
            return
        owner = owner_uid(body)
        if owner == job.uid and not body["metadata"].get("deletionTimestamp"):
            if collection is not None:
                await self._own_in_the_way(job, action, collection, body, outcome)
            elif resource is SECRETS and token_in(body) is None:
                words = f"secrets {name!r} in namespace {job.namespace!r} is this job's and holds no token"
                outcome.refusals.append(
                    Refusal(action_name(action), "NoToken", f"{words}: delete it to have it made anew")
                )
        elif _will_not_go(body):
            outcome.refusals.append(Refusal(action_name(action), "NameTaken", _stuck_words(resource, body)))
        elif owner is not None or body["metadata"].get("deletionTimestamp"):
            outcome.again_after = IN_THE_WAY_SECONDS
        else:
            outcome.refusals.append(
                Refusal(
                    action_name(action),
                    "NameTaken",
                    f"{resource.plural} {name!r} in namespace {job.namespace!r} exists and is not this job's: "
                    "delete it, or give the job another name",
                )
            )

    async def _own_in_the_way(
        self, job: Job, action: Action, collection: Collection, body: Json, outcome: Outcome
    ) -> None:
        """Judge an object of this job's that the map does not hold: news to come, or one that lost its labels.

        A pod without its labels is seen by nobody and was counted as gone, yet it keeps the name that its
        successor needs: it has to go. A service may not be deleted by this operator, so there a person has to.
        """
        name, wanted = body["metadata"]["name"], job_labels(job.name)
        if isinstance(action, CreatePod):
            wanted |= {LABEL_WORKER: str(action.worker)}
        labels = body["metadata"].get("labels") or {}
        lost = [label for label in FOUND_BY if label in wanted and labels.get(label) != wanted[label]]
        if not lost:
            # Older than what is known: it is about to go.
            outcome.again_after = 0.0 if collection.put(body) else IN_THE_WAY_SECONDS
        elif isinstance(action, CreatePod):
            log.warning("%s/%s: pod %s lost its label %s and is replaced", job.namespace, job.name, name, lost[0])
            await self._delete_pod(job, DeletePod(action.worker, body["metadata"]["uid"]), outcome)
            outcome.again_after = IN_THE_WAY_SECONDS
        else:
            words = f"{name!r} in namespace {job.namespace!r} is this job's but lost its label {lost[0]}"
            way_out = f"set it to {wanted[lost[0]]!r} again, or delete the object to have it made anew"
            outcome.refusals.append(Refusal(action_name(action), "LabelLost", f"{words}: {way_out}"))

    async def _delete_pod(self, job: Job, action: DeletePod, outcome: Outcome) -> None:
        name = pod_name(job.name, action.worker)

        def held() -> Json | None:
            body = self._cluster.pods.get(job.namespace, name)
            return body if body is not None and body["metadata"]["uid"] == action.uid else None

        try:
            answer = await self._client.delete(
                PODS, job.namespace, name, uid=action.uid, grace_seconds=action.grace_seconds
            )
        except ApiError as error:
            if error.status not in (404, 409):
                raise
            # Gone, or another pod of that name by now: either way this one is no more. But a conflict may be
            # an admission webhook's, too, and then the pod lives: only the server's own word buries one.
            if error.status == 409 and await self._lives(PODS, job.namespace, name, action.uid):
                raise
            if (pod := held()) is not None and self._cluster.pods.remove_for_good(pod):
                outcome.again_after = 0.0
            return
        # Where the watch was faster the pod is gone already, and the answer is old news.
        told = answer.get("kind") == "Pod" and held() is not None and self._cluster.pods.put(answer)
        # Of one that was forced the answer is the last state, and the watch tells that it is gone.
        if told and action.grace_seconds != 0:
            outcome.again_after = 0.0

    async def _lives(self, resource: Resource, namespace: str, name: str, uid: str) -> bool:
        """Return whether the object of this name and UID exists, by the server's word."""
        try:
            body = await self._client.get(resource, namespace, name)
        except ApiError as error:
            if error.status != 404:
                raise
            return False
        return bool(body["metadata"]["uid"] == uid)

    async def _delete_job(self, job: Job) -> None:
        try:
            await self._client.delete(JOBS, job.namespace, job.name, uid=job.uid)
        except ApiError as error:
            if error.status not in (404, 409):
                raise
            if error.status == 409 and await self._lives(JOBS, job.namespace, job.name, job.uid):
                raise  # an admission webhook's conflict


def _will_not_go(body: Json) -> bool:
    """Whether an object should have been gone for long: its deletionTimestamp is when its grace ends."""
    due = body["metadata"].get("deletionTimestamp")
    return due is not None and datetime.now(UTC) > parse_time(due) + timedelta(seconds=FORCE_AFTER_SECONDS)


def _stuck_words(resource: Resource, body: Json) -> str:
    """Say of an earlier job's object that it does not go, and the way out."""
    meta = body["metadata"]
    namespace, name = meta["namespace"], meta["name"]
    words = (
        f"{resource.plural} {name!r} in namespace {namespace!r} is an earlier job's, was to be gone by "
        f"{meta['deletionTimestamp']} and does not go"
    )
    if resource is PODS:
        force = f"`kubectl delete pod -n {namespace} {name} --force --grace-period=0`"
        return f"{words}: its node is most likely dead. Once nothing of it runs any more, {force}"
    return f"{words}: see its finalizers, {', '.join(meta.get('finalizers') or ['none'])}"


def _exists_already(error: ApiError) -> bool:
    """409 is also said of a quota that several requests met at once; that one is worth another try."""
    return error.status == 409 and error.reason == "AlreadyExists"
