"""What a job consists of on a real API server, and what becomes of it when the job goes."""

from __future__ import annotations

import base64
import json

import pytest

from rowlock.protocol import WorkerConfig, decode
from tests.support.operator_world import JOBS, World, job_manifest, world

__all__ = ["world"]


def test_a_job_gets_its_claim_service_secret_and_pods(world: World) -> None:
    job = world.apply(job_manifest("digits", workers=3, trainer=_trainer(63)))
    status = world.until_running("digits", generation=1)

    uid = job["metadata"]["uid"]
    pods = [world.pod("digits", worker) for worker in range(3)]
    service, secret = world.get("services", "digits"), world.get("secrets", "digits-token")
    for owned in (*pods, service, secret):
        (owner,) = owned["metadata"]["ownerReferences"]
        assert (owner["uid"], owner["controller"], owner["blockOwnerDeletion"]) == (uid, True, True)
        assert owned["metadata"]["labels"]["rowlock.dev/job"] == "digits"
    claim = world.get("persistentvolumeclaims", "digits-checkpoints")
    assert "ownerReferences" not in claim["metadata"]
    assert service["spec"]["clusterIP"] == "None"
    assert len(base64.b64decode(secret["data"]["token"])) >= 32
    assert status["workersReady"] == "3/3"
    assert status["replicas"] == 3
    environment = {one["name"]: one.get("value") for one in pods[2]["spec"]["containers"][0]["env"]}
    config = decode(environment["ROWLOCK_CONFIG"] or "", WorkerConfig)
    assert (config.worker, config.workers, config.job_uid) == (2, 3, uid)
    assert pods[2]["spec"]["hostname"] == "digits-worker-2"


def test_a_job_is_left_without_finalizers_and_annotations(world: World) -> None:
    world.apply(job_manifest("plain"))
    world.until_running("plain", generation=1)

    metadata = world.get(JOBS, "plain")["metadata"]
    assert "finalizers" not in metadata
    assert "annotations" not in metadata


def test_a_deleted_job_takes_all_with_it_but_its_claim(world: World) -> None:
    world.apply(job_manifest("short-lived"))
    world.until_running("short-lived", generation=1)

    world.delete("short-lived")

    for kind, name in (
        ("pods", "short-lived-worker-0"),
        ("pods", "short-lived-worker-1"),
        ("services", "short-lived"),
        ("secrets", "short-lived-token"),
    ):
        world.until(lambda kind=kind, name=name: not world.exists(kind, name), f"{kind}/{name} is collected")
    assert world.exists("persistentvolumeclaims", "short-lived-checkpoints")


def test_retention_delete_takes_the_claim_too(world: World) -> None:
    checkpoint = {"retention": "Delete"}
    world.apply(job_manifest("clean", checkpoint=checkpoint))
    world.until_running("clean", generation=1)

    world.delete("clean")

    gone = "persistentvolumeclaims", "clean-checkpoints"
    world.until(lambda: not world.exists(*gone), "the claim is collected")


def test_a_later_job_of_the_name_starts_afresh_on_the_same_claim(world: World) -> None:
    first = world.apply(job_manifest("again"))
    world.until_running("again", generation=1)
    claim = world.get("persistentvolumeclaims", "again-checkpoints")["metadata"]["uid"]

    world.delete("again")
    world.until(lambda: not world.exists(JOBS, "again"), "the first job is gone")
    second = world.apply(job_manifest("again"))
    status = world.until_running("again", generation=1)

    assert second["metadata"]["uid"] != first["metadata"]["uid"]
    assert world.get("persistentvolumeclaims", "again-checkpoints")["metadata"]["uid"] == claim
    owners = {world.pod("again", worker)["metadata"]["ownerReferences"][0]["uid"] for worker in range(2)}
    assert owners == {second["metadata"]["uid"]}
    assert status["failures"]["count"] == status["preemptions"]["count"] == 0


def test_a_service_that_is_somebody_elses_is_left_alone_and_named(world: World) -> None:
    port = [{"port": 80}]
    world.api.create(world.path("services"), {"metadata": {"name": "taken"}, "spec": {"ports": port}}).ok()
    world.apply(job_manifest("taken"))

    world.until(
        lambda: world.condition("taken", "Degraded").get("reason") == "CreateServiceRefused", "the clash is told"
    )
    assert "'taken'" in world.condition("taken", "Degraded")["message"]
    assert "ownerReferences" not in world.get("services", "taken")["metadata"]

    world.api.delete(world.path("services", "taken")).ok()
    world.until(lambda: world.condition("taken", "Degraded").get("status") == "False", "the job heals")


@pytest.mark.parametrize(
    "label",
    ["rowlock.dev/job", "rowlock.dev/worker", "app.kubernetes.io/managed-by"],
    ids=lambda one: one.split("/")[1],
)
def test_a_pod_that_loses_a_label_by_which_it_is_found_makes_room_for_another(world: World, label: str) -> None:
    world.apply(job_manifest("stray"))
    world.until_running("stray", generation=1)
    lost = world.pod("stray", 1)

    world.api.merge(world.path("pods", "stray-worker-1"), {"metadata": {"labels": {label: None}}}).ok()

    world.until_running("stray", generation=2)
    replacement = world.pod("stray", 1)
    assert replacement["metadata"]["uid"] != lost["metadata"]["uid"]
    assert label in replacement["metadata"]["labels"]


def test_a_service_that_lost_its_label_is_told_of_and_heals_with_it(world: World) -> None:
    world.apply(job_manifest("stray"))
    world.until_running("stray", generation=1)

    world.api.merge(world.path("services", "stray"), {"metadata": {"labels": {"rowlock.dev/job": None}}}).ok()
    world.until(
        lambda: "lost its label rowlock.dev/job" in world.condition("stray", "Degraded").get("message", ""),
        "the loss is told",
    )

    world.api.merge(world.path("services", "stray"), {"metadata": {"labels": {"rowlock.dev/job": "stray"}}}).ok()
    world.until(lambda: world.condition("stray", "Degraded").get("status") == "False", "the job heals")
    assert world.status("stray")["generation"] == 1


def test_a_users_volumes_stand_beside_the_operators(world: World) -> None:
    volumes = [{"name": name, "emptyDir": {}} for name in ("checkpoints", "token")]
    world.apply(job_manifest("crowded", template={"spec": {"volumes": volumes}}))
    world.until_running("crowded", generation=1)
    assert {"checkpoints", "token", "rowlock-checkpoints", "rowlock-token"} <= {
        volume["name"] for volume in world.pod("crowded", 0)["spec"]["volumes"]
    }


def test_pods_pass_the_restricted_pod_security_standard(world: World) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    world.api.merge(f"/api/v1/namespaces/{world.namespace}", {"metadata": {"labels": labels}}).ok()

    world.apply(job_manifest("hardened"))

    world.until_running("hardened", generation=1)


def test_two_jobs_of_one_name_in_two_namespaces_do_not_mix(world: World) -> None:
    other = world.api.create("/api/v1/namespaces", {"metadata": {"generateName": "test-other-"}}).ok()["metadata"][
        "name"
    ]
    path = f"/apis/rowlock.dev/v1alpha1/namespaces/{other}/{JOBS}"
    world.operator.stop()
    world.operator.serve_all_namespaces()
    world.operator.start()
    kubelet = world.play_kubelet(other)
    try:
        world.apply(job_manifest("twin"))
        world.api.create(path, job_manifest("twin", workers=1, trainer=_trainer(64))).ok()
        world.until_running("twin", generation=1)
        world.until(lambda: _phase(world, f"{path}/twin") == "Running", "the other twin runs")

        world.kubelet.fail(world.pod("twin", 0), code=1)
        assert world.until_running("twin", generation=2)["failures"]["count"] == 1

        untouched = world.api.get(f"{path}/twin").ok()["status"]
        assert (untouched["generation"], untouched["failures"]["count"]) == (1, 0)
        tokens = {
            world.api.get(f"/api/v1/namespaces/{one}/secrets/twin-token").ok()["data"]["token"]
            for one in (other, world.namespace)
        }
        assert len(tokens) == 2
    finally:
        world.api.delete(f"{path}/twin")
        kubelet.close()
        world.api.delete(f"/api/v1/namespaces/{other}")


def _phase(world: World, path: str) -> str:
    return str(world.api.get(path).ok().get("status", {}).get("phase"))


def _trainer(batch: int) -> dict[str, object]:
    return json.loads(json.dumps({"model": {"mlp": {}}, "data": "digits", "globalBatchSize": batch, "steps": 1000}))
