"""What a person asks of a job, and what the cluster may refuse it, on a real API server."""

from __future__ import annotations

import asyncio

import pytest
import websockets

from tests.support.operator_world import JOBS, World, job_manifest, world

__all__ = ["world"]


def test_suspend_saves_and_stops_and_resume_goes_on(world: World) -> None:
    world.apply(job_manifest("pausing"))
    world.until_running("pausing", generation=1)
    launchers = world.crew.of(world.namespace, "pausing")

    world.change("pausing", suspend=True)
    world.until_phase("pausing", "Suspended")

    assert all("save" in [order.phase for order in launcher.orders] for launcher in launchers)
    world.until(lambda: not world.exists("pods", "pausing-worker-0"), "the pods are gone")
    assert world.exists("persistentvolumeclaims", "pausing-checkpoints")

    world.change("pausing", suspend=False)
    status = world.until_running("pausing", generation=2)
    assert status["failures"]["count"] == status["preemptions"]["count"] == 0
    assert {"Suspended", "Resumed"} <= world.event_reasons("pausing")


def test_scaling_changes_the_crew_without_blame(world: World) -> None:
    world.apply(job_manifest("scales", workers=2))
    world.until_running("scales", generation=1)

    world.api.merge(f"{world.path(JOBS, 'scales')}/scale", {"spec": {"replicas": 4}}).ok()
    assert world.until_running("scales", generation=2)["workersReady"] == "4/4"

    world.change("scales", workers=1)
    status = world.until_running("scales", generation=3)
    assert status["workersReady"] == "1/1"
    assert status["failures"]["count"] == status["preemptions"]["count"] == 0
    world.until(lambda: not world.exists("pods", "scales-worker-3"), "surplus pods are gone")


def test_a_deadline_ends_the_job(world: World) -> None:
    world.apply(job_manifest("late", activeDeadlineSeconds=1))

    world.until_phase("late", "Failed")

    assert world.condition("late", "Failed")["reason"] == "DeadlineExceeded"
    world.until(lambda: not world.exists("pods", "late-worker-0"), "its pods are gone")


def test_a_finished_job_goes_when_its_time_is_up(world: World) -> None:
    world.apply(job_manifest("brief", ttlSecondsAfterFinished=1))
    world.until_running("brief", generation=1)

    world.crew.finish(world.namespace, "brief")

    world.until(lambda: not world.exists(JOBS, "brief"), "the job is gone")
    assert world.exists("persistentvolumeclaims", "brief-checkpoints")


def test_a_missing_claim_is_named_and_waited_for(world: World) -> None:
    world.apply(job_manifest("waits", checkpoint={"storage": {"claimName": "shared"}}))

    world.until(lambda: world.condition("waits", "StorageReady").get("reason") == "ClaimNotFound", "the gap is told")
    assert "'shared'" in world.condition("waits", "StorageReady")["message"]
    assert not world.exists("pods", "waits-worker-0")

    claim = {
        "metadata": {"name": "shared"},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    world.api.create(world.path("persistentvolumeclaims"), claim).ok()
    world.until_running("waits", generation=1)


def test_a_quota_is_told_and_the_job_starts_when_it_is_lifted(world: World) -> None:
    quota = {"metadata": {"name": "tight"}, "spec": {"hard": {"pods": "1"}}}
    world.api.create(world.path("resourcequotas"), quota).ok()
    world.until(lambda: "hard" in world.get("resourcequotas", "tight").get("status", {}), "the quota is in force")
    world.apply(job_manifest("cramped"))

    world.until(
        lambda: world.condition("cramped", "Degraded").get("reason") == "CreatePodRefused", "the refusal is told"
    )
    assert "exceeded quota: tight" in world.condition("cramped", "Degraded")["message"]
    world.until(lambda: "CreatePodRefused" in world.event_reasons("cramped"), "the refusal is an Event")

    world.api.delete(world.path("resourcequotas", "tight")).ok()
    status = world.until_running("cramped", generation=1)
    assert status["failures"]["count"] == 0
    assert world.condition("cramped", "Degraded")["status"] == "False"


def test_a_template_the_api_server_rejects_is_told_with_its_field(world: World) -> None:
    template = {"spec": {"containers": [{"name": "trainer", "volumeMounts": [{"name": "no-such", "mountPath": "/x"}]}]}}
    world.apply(job_manifest("invalid", template=template))

    world.until(
        lambda: world.condition("invalid", "Degraded").get("reason") == "CreatePodRefused", "the refusal is told"
    )
    assert "volumeMounts" in world.condition("invalid", "Degraded")["message"]


def test_an_image_that_cannot_be_pulled_is_told_and_heals(world: World) -> None:
    world.kubelet.registry_down = True
    world.apply(job_manifest("pulls"))

    world.until(
        lambda: world.condition("pulls", "Degraded").get("reason") == "ImagePullFailed", "the bad image is told"
    )
    assert "nowhere/none:1" in world.condition("pulls", "Degraded")["message"]

    world.kubelet.heal_registry()
    world.until_running("pulls", generation=1)
    assert world.condition("pulls", "Degraded")["status"] == "False"


@pytest.mark.parametrize("target", ["victim", "no-such-job"])
def test_a_token_of_one_job_opens_no_other(world: World, target: str) -> None:
    world.apply(job_manifest("victim"))
    world.apply(job_manifest("thief"))
    world.until_running("victim", generation=1)
    world.until_running("thief", generation=1)
    token = world.crew.worker(world.namespace, "thief", 0).token

    assert _answer(world, "thief", token) == 101
    assert _answer(world, target, token) == 401
    assert _answer(world, target, "") == 401


def test_a_user_who_edits_while_the_operator_writes_loses_nothing(world: World) -> None:
    world.apply(job_manifest("edited"))
    for round_ in range(10):
        world.api.merge(world.path(JOBS, "edited"), {"metadata": {"annotations": {"round": str(round_)}}}).ok()

    status = world.until_running("edited", generation=1)

    assert world.get(JOBS, "edited")["metadata"]["annotations"]["round"] == "9"
    assert status["failures"]["count"] == 0


def _answer(world: World, job: str, token: str) -> int:
    """The status with which the coordinator answers a launcher's first word."""

    async def ask() -> int:
        url = world.operator.coordinator_url.replace("http", "ws", 1)
        address = f"{url}/v1alpha1/jobs/{world.namespace}/{job}/workers/7"
        try:
            async with websockets.connect(address, additional_headers={"Authorization": f"Bearer {token}"}, proxy=None):
                return 101
        except websockets.InvalidStatus as error:
            return error.response.status_code

    return asyncio.run(ask())
