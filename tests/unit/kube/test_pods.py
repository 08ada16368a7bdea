"""Pods and claims as a kubelet writes them, in the core's words."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from rowlock_operator.core.model import Pod
from rowlock_operator.kube.pods import claim_of, owner_uid, pod_of


def body(status: dict[str, Any] | None = None, **meta: Any) -> dict[str, Any]:
    owner = {"kind": "DistributedTrainingJob", "controller": True, "uid": "job-1"}
    metadata = {
        "name": "digits-worker-3",
        "namespace": "lab",
        "uid": "pod-1",
        "labels": {"rowlock.dev/worker": "3", "rowlock.dev/job": "digits"},
        "ownerReferences": [owner],
    }
    return {"metadata": metadata | meta, "spec": {"terminationGracePeriodSeconds": 20}, "status": status or {}}


def read(status: dict[str, Any] | None = None, **meta: Any) -> Pod:
    pod = pod_of(body(status, **meta))
    assert pod is not None
    return pod


def container(name: str = "trainer", **state: Any) -> dict[str, Any]:
    return {"name": name, "state": state}


def test_a_pod_just_created_is_pending_and_nothing_else() -> None:
    assert read() == Pod(worker=3, uid="pod-1", phase="Pending", grace_seconds=20)


@pytest.mark.parametrize("labels", [{}, {"rowlock.dev/worker": "x"}, {"rowlock.dev/worker": "-1"}, None])
def test_a_pod_without_a_place_is_no_worker(labels: dict[str, str] | None) -> None:
    assert pod_of(body(labels=labels)) is None


def test_a_running_ready_pod() -> None:
    pod = read({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]})
    assert (pod.phase, pod.ready, pod.terminal) == ("Running", True, False)


@pytest.mark.parametrize(
    ("status", "phase", "code", "reason"),
    [
        (
            {"phase": "Failed", "containerStatuses": [container(terminated={"exitCode": 137, "reason": "OOMKilled"})]},
            "Failed", 137, "OOMKilled",
        ),
        ({"phase": "Failed", "reason": "Evicted", "message": "low on memory"}, "Failed", None, "Evicted"),
        (
            {"phase": "Failed", "containerStatuses": [container(terminated={"exitCode": 0, "signal": 9})]},
            "Failed", 137, "",
        ),
        (
            {"phase": "Succeeded", "containerStatuses": [container(terminated={"exitCode": 0, "reason": "Completed"})]},
            "Succeeded", 0, "Completed",
        ),
        (
            {"phase": "Failed", "initContainerStatuses": [container("fetch", terminated={"exitCode": 2})]},
            "Failed", None, "Error",
        ),
        ({"phase": "Strange"}, "Unknown", None, ""),
    ],
)  # fmt: skip
def test_how_a_pod_ended(status: dict[str, Any], phase: str, code: int | None, reason: str) -> None:
    pod = read(status)
    assert (pod.phase, pod.exit_code, pod.reason) == (phase, code, reason)


@pytest.mark.parametrize(("code", "phase"), [(0, "Succeeded"), (1, "Failed")])
def test_a_sidecar_that_runs_on_does_not_hide_the_trainers_end(code: int, phase: str) -> None:
    statuses = [container(terminated={"exitCode": code}), container("logger", running={})]
    pod = read({"phase": "Running", "containerStatuses": statuses})
    assert (pod.phase, pod.lingering) == (phase, True)


@pytest.mark.parametrize(
    "status",
    [
        {"phase": "Running", "containerStatuses": [container(running={}), container("logger", running={})]},
        {"phase": "Running", "containerStatuses": [container(running={}), container("logger", terminated={})]},
        {
            "phase": "Failed",
            "containerStatuses": [container(terminated={"exitCode": 1}), container("logger", terminated={})],
        },
        # The kubelet ends what init containers left running (restartPolicy Always) by itself.
        {
            "phase": "Running",
            "initContainerStatuses": [container("proxy", running={})],
            "containerStatuses": [container(terminated={"exitCode": 1})],
        },
    ],
)
def test_a_pod_lingers_only_while_the_trainer_alone_has_ended(status: dict[str, Any]) -> None:
    assert not read(status).lingering


def test_a_pod_runs_since_its_trainer_does() -> None:
    logger = container("logger", running={"startedAt": "2026-03-01T09:00:00Z"})
    started = {"running": {"startedAt": "2026-03-01T10:00:00Z"}}
    pod = read({"phase": "Running", "containerStatuses": [logger, container(**started)]})
    assert pod.running_since == datetime(2026, 3, 1, 10, 0, 0, tzinfo=UTC)
    waits = read({"phase": "Running", "containerStatuses": [logger, container(waiting={"reason": "PodInitializing"})]})
    assert waits.running_since is None


@pytest.mark.parametrize(("annotations", "expected"), [(None, ""), ({}, ""), ({"rowlock.dev/spec-hash": "ab"}, "ab")])
def test_a_pod_tells_of_which_spec_it_is(annotations: dict[str, str] | None, expected: str) -> None:
    assert read(annotations=annotations).spec_hash == expected


def test_a_disruption_is_seen_only_while_it_holds() -> None:
    for held in ("True", "False"):
        pod = read({"phase": "Failed", "conditions": [{"type": "DisruptionTarget", "status": held}]})
        assert pod.disrupted is (held == "True")


def test_deletion_was_asked_for_a_grace_period_before_its_timestamp() -> None:
    pod = read(deletionTimestamp="2026-03-01T10:00:30Z", deletionGracePeriodSeconds=30)
    assert pod.deleting_since == datetime(2026, 3, 1, 10, 0, 0, tzinfo=UTC)
    assert pod.grace_seconds == 30


@pytest.mark.parametrize(
    ("waiting", "expected"),
    [
        ({"reason": "ContainerCreating"}, ""),
        ({"reason": "PodInitializing"}, ""),
        ({}, ""),
        ({"reason": "ImagePullBackOff", "message": "no such image"}, "ImagePullBackOff"),
        ({"reason": "CreateContainerConfigError"}, "CreateContainerConfigError"),
    ],
)
def test_only_extraordinary_waits_are_told(waiting: dict[str, str], expected: str) -> None:
    pod = read({"phase": "Pending", "containerStatuses": [container(waiting=waiting)]})
    assert pod.waiting_reason == expected
    assert ("no such image" in pod.waiting_message) is (expected == "ImagePullBackOff")


def test_the_schedulers_words_are_passed_on() -> None:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
    assert read({"conditions": [condition]}).unschedulable == "0/3 nodes"


def test_an_error_of_the_schedulers_own_is_nothing_to_mend() -> None:
    words = 'running PreBind plugin "VolumeBinding": the object has been modified'
    condition = {"type": "PodScheduled", "status": "False", "reason": "SchedulerError", "message": words}
    assert read({"conditions": [condition]}).unschedulable == ""


@pytest.mark.parametrize(
    ("owner", "deleting", "expected"),
    [(None, None, False), ("job-1", None, False), ("job-0", None, True), (None, "2026-03-01T10:00:00Z", True)],
)
def test_a_claim_of_an_earlier_job_is_as_good_as_deleted(
    owner: str | None, deleting: str | None, expected: bool
) -> None:
    meta: dict[str, Any] = {"name": "c", "namespace": "lab", "deletionTimestamp": deleting}
    if owner:
        meta["ownerReferences"] = [{"kind": "DistributedTrainingJob", "controller": True, "uid": owner}]
    claim = claim_of({"metadata": meta, "status": {"phase": "Bound"}}, "job-1")
    assert claim.deleting is expected


def test_an_owner_of_another_kind_is_no_job() -> None:
    references = [{"kind": "ReplicaSet", "controller": True, "uid": "rs"}]
    assert owner_uid(body(ownerReferences=references)) is None
