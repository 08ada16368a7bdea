"""Whatever befalls a crew, the job finishes with the weights of an undisturbed run, counts it as what it was,
and says nothing untrue meanwhile."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e import faults
from tests.e2e.jobs import Job, crew_spec
from tests.e2e.witness import Witness
from tests.support.cluster.interface import cut
from tests.support.kube_api import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.reference import References
    from tests.e2e.site import Site
    from tests.support.kube_api import JsonObject

#: After the first checkpoints, and with most of the run to come.
STEP = 50
#: Steps of a run that outlives a lease, and of one that outlives a minute of silence, at some 35 steps a second.
LONG, LONGER = 1200, 3200


class Scene:
    """A job at STEP, watched by a witness."""

    def __init__(self, site: Site, namespace: str, references: References) -> None:
        self.site = site
        self.namespace = namespace
        self._references = references

    @contextmanager
    def at_step(self, step: int = STEP, **fields: Any) -> Iterator[Job]:
        """A job that has come to `step`; afterwards it must finish as if nothing had happened."""
        spec = crew_spec(**fields)
        job = Job.apply(self.site, self.namespace, spec)
        with Witness(job) as witness:
            job.until_step(step)
            yield job
            job.until_phase("Succeeded")
        witness.verdict()
        # What may change the weights is the trainer's part of the spec.
        assert job.weights() == self._references.of_spec(crew_spec(trainer=fields.get("trainer", {})))


@pytest.fixture
def scene(site: Site, namespace: str, references: References) -> Scene:
    return Scene(site, namespace, references)


def counts(job: Job) -> tuple[int, int]:
    """Failures and preemptions."""
    status = job.status
    return status["failures"]["count"], status["preemptions"]["count"]


def counted(job: Job, failures: int, preemptions: int) -> None:
    """The faults were counted so, and what was last is told in words."""
    assert counts(job) == (failures, preemptions), job.diagnosis()
    for kind, count in (("failures", failures), ("preemptions", preemptions)):
        assert bool(job.status[kind].get("last")) == bool(count), job.diagnosis()


def test_a_killed_process_is_a_failure(scene: Scene) -> None:
    with scene.at_step() as job:
        faults.kill_rank(job, 1)
    counted(job, 1, 0)
    assert job.status["failures"]["last"]["exitCode"] == 137


def test_a_killed_container_is_a_failure(scene: Scene) -> None:
    with scene.at_step() as job:
        faults.kill_container(job, 1)
    counted(job, 1, 0)


def test_a_rank_killed_for_memory_is_a_failure(scene: Scene) -> None:
    with scene.at_step() as job:
        faults.run_out_of_memory(job, 0)
    counted(job, 1, 0)


@pytest.mark.parametrize("force", [False, True], ids=["with-grace", "without-grace"])
def test_a_deleted_pod_is_a_preemption(scene: Scene, *, force: bool) -> None:
    with scene.at_step() as job:
        faults.delete_pod(job, 1, force=force)
    counted(job, 0, 1)


def test_a_drained_node_is_a_preemption_and_costs_no_step(scene: Scene) -> None:
    with scene.at_step() as job:
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
    counted(job, 0, 1)


def test_a_node_without_power_is_a_preemption(scene: Scene) -> None:
    cluster = scene.site.cluster
    leader = scene.site.await_leader()["spec"]["nodeName"]
    with scene.at_step(template={"spec": {"affinity": off_node(leader)}}) as job:
        lost = job.pod(1)
        node = lost["spec"]["nodeName"]
        cluster.power_off(node)
        try:
            faults.replaced(job, lost)
            job.until_phase("Running")
        finally:
            cluster.power_on(node)
    counted(job, 0, 1)


def test_a_deleted_operator_disturbs_nobody(scene: Scene) -> None:
    with scene.at_step() as job:
        leader = scene.site.await_leader()
        scene.site.cluster.kubectl("delete", "pod", "-n", leader["metadata"]["namespace"], leader["metadata"]["name"])
        scene.site.await_leader(other_than=leader["metadata"]["uid"])
    counted(job, 0, 0)
    assert job.status["generation"] == 1


def test_a_leader_cut_off_from_the_api_server_makes_way(scene: Scene) -> None:
    address, port = scene.site.cluster.api_address
    with scene.at_step(trainer={"steps": LONG}) as job:
        leader = scene.site.await_leader()
        with cut(scene.site.cluster, leader["status"]["podIP"], address, port):
            scene.site.await_leader(other_than=leader["metadata"]["uid"])
            faults.kill_rank(job, 1)
            job.until(lambda status: status["generation"] == 2, "the new leader forms the crew anew")
    counted(job, 1, 0)


def test_an_api_server_that_restarts_disturbs_nobody(scene: Scene) -> None:
    with scene.at_step() as job:
        scene.site.cluster.stop_apiserver()
        scene.site.cluster.start_apiserver()
    counted(job, 0, 0)
    assert job.status["generation"] == 1


def test_a_minute_without_the_coordinator_disturbs_nobody(scene: Scene) -> None:
    with scene.at_step(trainer={"steps": LONGER}) as job:
        leader = scene.site.await_leader()
        with cut(scene.site.cluster, "0.0.0.0/0", leader["status"]["podIP"], 8480):
            began = time.monotonic()
            job.until(lambda status: ready(status) == "Unknown", "status says that it does not know")
            wait_until(lambda: time.monotonic() - began > 60, 90, "a minute has passed")
            before = job.step
        job.until(lambda status: ready(status) == "True", "the crew is heard again")
        assert job.step > before + 500, "the crew trained on meanwhile"
    counted(job, 0, 0)
    assert job.status["generation"] == 1


def test_a_corrupted_checkpoint_is_set_aside_and_the_one_before_used(scene: Scene) -> None:
    with scene.at_step() as job:
        step = job.until_checkpoint(40)["lastCheckpoint"]["step"]
        name = faults.flip_byte(job)
        faults.kill_container(job, 0)
        status = job.until(
            lambda status: status.get("resumedFromStep") is not None and status["generation"] == 2, "it goes on"
        )
        assert status["resumedFromStep"] < step or status["lastCheckpoint"]["name"] != name
        assert "CheckpointRejected" in job.events()
    counted(job, 1, 0)


def ready(status: JsonObject) -> str:
    """Whether the crew is ready, as status says."""
    return next((one["status"] for one in status.get("conditions", []) if one["type"] == "Ready"), "")


def off_node(node: str) -> JsonObject:
    """Affinity of a pod that may run anywhere but on this node."""
    elsewhere = {"key": "kubernetes.io/hostname", "operator": "NotIn", "values": [node]}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [elsewhere]}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
