"""Faults on a real API server: each is counted once, as what it was, and the crew goes on."""

from __future__ import annotations

import pytest

from rowlock.protocol import ExitCode, Notice
from tests.support.operator_world import JOBS, World, job_manifest, world

__all__ = ["world"]


def test_a_failed_pod_is_replaced_and_counted_once(world: World) -> None:
    world.apply(job_manifest("fails", workers=2))
    world.until_running("fails", generation=1)
    lost, survivor = world.pod("fails", 1), world.pod("fails", 0)

    world.kubelet.fail(lost, code=137, reason="OOMKilled")
    status = world.until_running("fails", generation=2)

    assert status["failures"]["count"] == 1
    assert status["preemptions"]["count"] == 0
    assert status["failures"]["last"]["reason"] == "OOMKilled"
    assert status["failures"]["last"]["exitCode"] == 137
    assert status["failures"]["last"]["worker"] == 1
    assert world.pod("fails", 1)["metadata"]["uid"] != lost["metadata"]["uid"]
    assert world.pod("fails", 0)["metadata"]["uid"] == survivor["metadata"]["uid"]
    world.until(lambda: "OOMKilled" in world.event_reasons("fails"), "the failure is told")


def test_a_preemption_counts_apart_from_failures(world: World) -> None:
    world.apply(job_manifest("preempted"))
    world.until_running("preempted", generation=1)

    world.kubelet.preempt(world.pod("preempted", 0))
    status = world.until_running("preempted", generation=2)

    assert status["preemptions"]["count"] == 1
    assert status["failures"]["count"] == 0


def test_a_pod_that_vanishes_counts_as_a_preemption(world: World) -> None:
    world.apply(job_manifest("vanishes"))
    world.until_running("vanishes", generation=1)

    world.kubelet.evaporate(world.pod("vanishes", 1))
    status = world.until_running("vanishes", generation=2)

    assert (status["preemptions"]["count"], status["failures"]["count"]) == (1, 0)


def test_a_failed_rank_begins_a_generation_in_the_same_pods(world: World) -> None:
    world.apply(job_manifest("rank"))
    world.until_running("rank", generation=1)
    before = [world.pod("rank", worker)["metadata"]["uid"] for worker in range(2)]

    failing = world.crew.worker(world.namespace, "rank", 1)
    world.crew.rank_fails(failing, ExitCode.FAILED, "ValueError: loss is nan", traceback="line 7, in step")
    status = world.until_running("rank", generation=2)

    assert [world.pod("rank", worker)["metadata"]["uid"] for worker in range(2)] == before
    assert status["failures"]["count"] == 1
    last = status["failures"]["last"]
    assert (last["rank"], last["worker"], last["traceback"]) == (1, 1, "line 7, in step")
    assert "loss is nan" in last["message"]


def test_a_dead_node_is_one_fault_however_many_peers_complain(world: World) -> None:
    world.apply(job_manifest("node", workers=4))
    world.until_running("node", generation=1)
    pod = world.pod("node", 2)

    lost = world.crew.worker(world.namespace, "node", 2)
    world.crew.kill(pod["metadata"]["uid"])
    world.crew.peers_lose(lost)
    world.until(lambda: world.status("node")["generation"] == 2, "the crew goes on before the pod says why")
    world.kubelet.preempt(pod)
    status = world.until_running("node", generation=2)

    world.until(lambda: world.status("node")["preemptions"]["count"] == 1, "the blame is settled")
    status = world.status("node")
    assert (status["failures"]["count"], status["restarts"], status["generation"]) == (0, 1, 2)


def test_too_many_failures_end_the_job_and_keep_its_claim(world: World) -> None:
    recovery = {"maxFailures": 1, "backoff": {"initialSeconds": 0, "maxSeconds": 0}}
    world.apply(job_manifest("doomed", recovery=recovery))
    for generation in (1, 2):
        world.until_running("doomed", generation)
        world.kubelet.fail(world.pod("doomed", 0), code=1)

    status = world.until_phase("doomed", "Failed")
    assert status["failures"]["count"] == 2
    assert world.condition("doomed", "Failed")["reason"] == "TooManyFailures"
    assert world.exists("persistentvolumeclaims", "doomed-checkpoints")


@pytest.mark.parametrize("code", [ExitCode.CONFIG, ExitCode.NOT_FOUND])
def test_a_final_exit_code_is_not_tried_again(world: World, code: ExitCode) -> None:
    world.apply(job_manifest("final"))
    world.until_running("final", generation=1)

    world.crew.rank_fails(world.crew.worker(world.namespace, "final", 0), code, "no such model")

    assert world.until_phase("final", "Failed")["failures"]["count"] == 1
    assert "no such model" in world.condition("final", "Failed")["message"]


def test_progress_checkpoint_and_notices_reach_the_user(world: World) -> None:
    world.apply(job_manifest("seen"))
    world.until_running("seen", generation=1)

    world.crew.step(world.namespace, "seen", 400)
    world.crew.checkpoint(world.namespace, "seen", 380)
    rejected = Notice("n1", "CheckpointRejected", "step-360: checksum differs, set aside")
    world.crew.notice(world.namespace, "seen", rejected)

    world.until(lambda: world.status("seen").get("progress", {}).get("step") == 400, "the step shows")
    world.until(lambda: world.status("seen").get("lastCheckpoint", {}).get("step") == 380, "the checkpoint shows")
    world.until(lambda: "CheckpointRejected" in world.event_reasons("seen"), "the notice is an Event")
    told = [event for event in world.events("seen") if event["reason"] == "CheckpointRejected"]
    assert len(told) == 1


def test_steps_alone_cost_few_writes(world: World) -> None:
    world.apply(job_manifest("busy"))
    world.until_running("busy", generation=1)
    writes = world.operator.metric("rowlock_api_requests_total", verb="patch", resource=JOBS)

    for step in range(1, 201):
        world.crew.step(world.namespace, "busy", step)
    world.until(lambda: world.status("busy").get("progress", {}).get("step") == 200, "the last step shows")

    # 200 reports, and the two or three writes that 5 seconds between them allow; 20 on a slow machine.
    assert world.operator.metric("rowlock_api_requests_total", verb="patch", resource=JOBS) - writes <= 20


def test_a_finished_job_succeeds_and_its_pods_complete(world: World) -> None:
    world.apply(job_manifest("finishes"))
    world.until_running("finishes", generation=1)
    world.crew.step(world.namespace, "finishes", 1000)

    world.crew.finish(world.namespace, "finishes")

    status = world.until_phase("finishes", "Succeeded")
    assert status["completionTime"]
    for worker in range(2):
        world.until(lambda w=worker: world.pod("finishes", w)["status"]["phase"] == "Succeeded", "pods complete")
    assert world.status("finishes")["failures"]["count"] == 0
