"""Whatever befalls a crew, the job finishes with the weights of an undisturbed run, counts it as what it was,
and says nothing untrue meanwhile."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.e2e import faults
from tests.e2e.scene import STEP, counted
from tests.e2e.site import TORCH_IMAGE
from tests.e2e.witness import Witness
from tests.support.cluster.interface import SIZED_CLASS, cut
from tests.support.kube_api import wait_until

if TYPE_CHECKING:
    from tests.e2e.scene import Scene
    from tests.support.kube_api import JsonObject


def test_a_killed_process_is_a_failure(scene: Scene) -> None:
    with scene.at_step(failures=1) as job:
        faults.kill_rank(job, 1)
    assert job.status["failures"]["last"]["exitCode"] == 137


def test_a_killed_container_is_a_failure(scene: Scene) -> None:
    with scene.at_step(failures=1) as job:
        faults.kill_container(job, 1)


def test_a_rank_killed_for_memory_is_a_failure(scene: Scene) -> None:
    with scene.at_step(failures=1) as job:
        faults.run_out_of_memory(job, 0)


@pytest.mark.parametrize("force", [False, True], ids=["with-grace", "without-grace"])
def test_a_deleted_pod_is_a_preemption(scene: Scene, *, force: bool) -> None:
    with scene.at_step(preemptions=1) as job:
        faults.delete_pod(job, 1, force=force)


def test_a_drained_node_is_a_preemption_and_costs_no_step(scene: Scene) -> None:
    with scene.at_step(preemptions=1) as job:
        node = job.pod(1)["spec"]["nodeName"]
        before = [pod for pod in job.pods() if pod["spec"]["nodeName"] == node]
        try:
            faults.drain(job, node)
            for pod in before:
                faults.replaced(job, pod)
            assert all(pod["spec"].get("nodeName") != node for pod in job.pods())
        finally:
            scene.site.cluster.kubectl("uncordon", node)
        resumed = job.until(lambda status: bool(status.get("resumedFromStep")), "the crew goes on")
        assert resumed["resumedFromStep"] >= STEP


def test_a_node_without_power_is_a_preemption(scene: Scene) -> None:
    cluster = scene.site.cluster
    leader = scene.site.await_leader()["spec"]["nodeName"]
    assert len(cluster.node_names) > 2, "two nodes beside the leader's are needed: make cluster NODES=3"
    with scene.at_step(preemptions=1, template={"spec": {"affinity": off_node(leader)}}) as job:
        lost = job.pod(1)
        node = lost["spec"]["nodeName"]
        cluster.power_off(node)
        try:
            faults.replaced(job, lost)
            job.until_phase("Running")
        finally:
            cluster.power_on(node)


def test_a_deleted_operator_disturbs_nobody(scene: Scene) -> None:
    with scene.at_step() as job:
        leader = scene.site.await_leader()
        scene.site.cluster.kubectl("delete", "pod", "-n", leader["metadata"]["namespace"], leader["metadata"]["name"])
        scene.site.await_leader(other_than=leader["metadata"]["uid"])
        job.trains_on()
        assert job.status["generation"] == 1


def test_a_leader_cut_off_from_the_api_server_makes_way(scene: Scene) -> None:
    address, port = scene.site.cluster.api_address
    with scene.at_step(failures=1) as job:
        leader = scene.site.await_leader()
        with cut(scene.site.cluster, leader["status"]["podIP"], address, port):
            scene.site.await_leader(other_than=leader["metadata"]["uid"])
            faults.kill_rank(job, 1)
            job.until(lambda status: status["generation"] == 2, "the new leader forms the crew anew")


def test_an_api_server_that_restarts_disturbs_nobody(scene: Scene) -> None:
    with scene.at_step() as job:
        scene.site.cluster.stop_apiserver()
        scene.site.cluster.start_apiserver()
        job.trains_on()
        assert job.status["generation"] == 1


def test_a_minute_without_the_coordinator_disturbs_nobody(scene: Scene) -> None:
    with scene.at_step() as job:
        leader = scene.site.await_leader()
        with cut(scene.site.cluster, "0.0.0.0/0", leader["status"]["podIP"], 8480):
            began = time.monotonic()
            job.until(lambda status: ready(status) == "Unknown", "status says that it does not know")
            saved = job.newest_checkpoint()
            wait_until(lambda: time.monotonic() - began > 60, 90, "a minute has passed")
            # Whatever status knows of it: the crew trained on meanwhile.
            assert job.newest_checkpoint() > saved
        job.until(lambda status: ready(status) == "True", "the crew is heard again")
        assert job.status["generation"] == 1


def test_a_corrupted_checkpoint_is_set_aside_and_the_one_before_used(scene: Scene) -> None:
    with scene.at_step(failures=1) as job:
        job.until_checkpoint(40)
        killed = job.pod(0)
        faults.kill_container(job, 0)
        faults.ended(job, killed)
        # While the crew is gone: nobody writes a newer one before this one is read.
        bad = faults.flip_byte(job)
        status = job.until(
            lambda status: status.get("resumedFromStep") is not None and status["generation"] == 2, "it goes on"
        )
        assert 0 < status["resumedFromStep"] < bad
        assert "CheckpointRejected" in job.events()


def ready(status: JsonObject) -> str:
    """Whether the crew is ready, as status says."""
    return next((one["status"] for one in status.get("conditions", []) if one["type"] == "Ready"), "")


def off_node(node: str) -> JsonObject:
    """Affinity of a pod that may run anywhere but on this node."""
    elsewhere = {"key": "kubernetes.io/hostname", "operator": "NotIn", "values": [node]}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [elsewhere]}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}


def test_an_image_that_cannot_be_pulled_is_told_and_heals(scene: Scene) -> None:
    """The image is one of the user's own, too: torch, and nothing of Rowlock."""
    image = f"ghcr.io/rowlock/late:{scene.namespace}"
    job = scene.apply(image=image)
    with Witness(job) as witness:
        told = job.until(lambda status: reason(status, "Degraded") == "ImagePullFailed", "the pull's failure is told")
        assert image in message(told, "Degraded")
        scene.site.cluster.publish(TORCH_IMAGE, image)
        job.until_phase("Succeeded")
    witness.verdict()
    counted(job, 0, 0)
    scene.ends_as_undisturbed(job)


def test_a_full_volume_is_told_and_heals(scene: Scene) -> None:
    storage = {"size": "32Mi", "storageClassName": SIZED_CLASS}
    with scene.at_step(checkpoint={"storage": storage}) as job:
        filler = faults.fill(job.checkpoints.parent)
        wait_until(lambda: "CheckpointFailed" in job.events(), 60, "the failed checkpoint is told")
        kept = job.status["lastCheckpoint"]
        filler.unlink()
        job.until_checkpoint(kept["step"] + 1)


def reason(status: JsonObject, kind: str) -> str:
    """Why a condition is as it is."""
    return next((str(one["reason"]) for one in status.get("conditions", []) if one["type"] == kind), "")


def message(status: JsonObject, kind: str) -> str:
    """The same in words."""
    return next((str(one["message"]) for one in status.get("conditions", []) if one["type"] == kind), "")
