"""What carrying a decision out changes in the map, and who looks at it next.

The watch tells the same afterwards and is then old news, so it brings on no look.
"""

from __future__ import annotations

import asyncio
from typing import Any

from rowlock_operator.core.model import Action, CreatePod, DeletePod
from rowlock_operator.kube.actions import IN_THE_WAY_SECONDS, Actions, Outcome
from rowlock_operator.kube.claims import Claims
from rowlock_operator.kube.client import ApiError
from rowlock_operator.kube.isolation import Isolation
from rowlock_operator.kube.observed import Cluster
from rowlock_operator.kube.resources import PODS, Resource
from rowlock_operator.kube.tokens import Tokens
from rowlock_operator.resources.launcher import PodSettings
from rowlock_operator.resources.names import LABEL_JOB, LABEL_MANAGED_BY, LABEL_WORKER, MANAGED_BY
from tests.unit.resources.jobs import job

Json = dict[str, Any]
JOB = job()


def pod(version: str, **meta: Any) -> Json:
    named = {"namespace": "lab", "name": "digits-worker-0", "uid": "pod-0", "labels": {LABEL_JOB: "digits"}}
    return {"kind": "Pod", "metadata": {**named, "resourceVersion": version, **meta}}


class Server:
    """An API server that answers a deletion with an object, or with an error, and has `there` under any name."""

    def __init__(self, answer: Json | ApiError, there: Json | None = None) -> None:
        self._answer = answer
        self._there = there or pod("9", uid="another")

    async def create(self, resource: Resource, namespace: str, body: Json) -> Json:
        raise ApiError(409, "AlreadyExists", f"{resource.plural} {body['metadata']['name']!r} already exists")

    async def delete(
        self, resource: Resource, namespace: str, name: str, *, uid: str, grace_seconds: int | None = None
    ) -> Json:
        assert (resource, namespace, name, uid) == (PODS, "lab", "digits-worker-0", "pod-0")
        if isinstance(self._answer, ApiError):
            raise self._answer
        return self._answer

    async def get(self, resource: Resource, namespace: str, name: str) -> Json:
        return self._there


def delete(answer: Json | ApiError, grace_seconds: int | None = None) -> tuple[Outcome, Json | None]:
    """Delete the pod of version 5; return the outcome, and what the map holds afterwards."""
    cluster = Cluster()
    cluster.pods.put(pod("5"))
    return carry_out(Server(answer), cluster, DeletePod(0, "pod-0", grace_seconds))


def carry_out(server: Any, cluster: Cluster, action: Action) -> tuple[Outcome, Json | None]:
    """Carry an action out; return the outcome, and what the map holds of worker 0's pod afterwards."""
    isolation = Isolation(server, wanted=False, every=1.0)
    actions = Actions(server, cluster, Tokens(server), Claims(server, cluster), isolation, PodSettings("http://op"))
    outcome = asyncio.run(actions.carry_out(JOB, (action,)))
    return outcome, cluster.pods.get("lab", "digits-worker-0")


def owned(version: str, owner: str, **meta: Any) -> Json:
    reference = {"apiVersion": "rowlock.dev/v1alpha1", "kind": "DistributedTrainingJob", "name": "digits", "uid": owner}
    return pod(version, ownerReferences=[reference | {"controller": True}], **meta)


def test_a_pod_that_begins_to_go_is_looked_at_again_because_it_may_never_be_gone() -> None:
    going = pod("6", deletionTimestamp="2026-01-01T00:00:30Z", deletionGracePeriodSeconds=30)
    outcome, held = delete(going)
    assert held == going
    assert outcome.again_after == 0.0


def test_a_pod_that_was_gone_already_is_looked_at_again_because_its_place_is_free() -> None:
    outcome, held = delete(ApiError(404, "NotFound", "no such pod"))
    assert held is None
    assert outcome.again_after == 0.0


def test_so_is_one_whose_name_another_pod_has_by_now() -> None:
    outcome, held = delete(ApiError(409, "Conflict", "another UID"))
    assert held is None
    assert outcome.again_after == 0.0


def test_news_that_the_watch_brought_first_is_not_looked_at_twice() -> None:
    outcome, _ = delete(pod("5"))
    assert outcome.again_after is None


def test_a_pod_that_was_forced_away_is_left_to_the_watch() -> None:
    outcome, _ = delete(pod("6", deletionTimestamp="2026-01-01T00:00:00Z", deletionGracePeriodSeconds=0), 0)
    assert outcome.again_after is None


def test_a_pod_of_ours_that_only_the_server_knew_is_looked_at_again_because_it_may_have_failed() -> None:
    labels = {LABEL_JOB: "digits", LABEL_WORKER: "0", LABEL_MANAGED_BY: MANAGED_BY}
    ours = owned("7", JOB.uid, labels=labels)
    outcome, held = carry_out(Server({}, there=ours), Cluster(), CreatePod(0))
    assert held == ours
    assert outcome.again_after == 0.0


def test_an_earlier_jobs_pod_that_is_going_is_waited_for() -> None:
    going = owned("7", "uid-0", deletionTimestamp="2999-01-01T00:00:00Z")
    outcome, _ = carry_out(Server({}, there=going), Cluster(), CreatePod(0))
    assert outcome.refusals == []
    assert outcome.again_after == IN_THE_WAY_SECONDS


def test_an_earlier_jobs_pod_that_will_not_go_is_told_with_the_way_out() -> None:
    stuck = owned("7", "uid-0", deletionTimestamp="2020-01-01T00:00:00Z")
    outcome, _ = carry_out(Server({}, there=stuck), Cluster(), CreatePod(0))
    (refusal,) = outcome.refusals
    assert refusal.reason == "NameTaken"
    assert "kubectl delete pod -n lab digits-worker-0 --force --grace-period=0" in refusal.message
