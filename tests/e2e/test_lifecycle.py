"""What a person does to a job: resize, suspend, resume, delete, and create it again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.jobs import Job, crew_spec
from tests.e2e.scene import STEP, counted, patch
from tests.e2e.witness import Witness
from tests.support.kube_api import wait_until

if TYPE_CHECKING:
    from tests.e2e.scene import Scene


def test_a_suspended_job_gives_its_pods_up_and_goes_on_where_it_was(scene: Scene) -> None:
    with scene.at_step() as job:
        patch(job, {"suspend": True})
        suspended = job.until_phase("Suspended")
        assert job.pods() == []
        saved = suspended["lastCheckpoint"]["step"]
        assert saved >= STEP
        patch(job, {"suspend": False})
        resumed = job.until(lambda status: status["phase"] == "Running", "it goes on")
        assert resumed["resumedFromStep"] == saved


def test_a_job_is_resized_by_kubectl_scale(scene: Scene) -> None:
    job = scene.apply(endless=True)
    with Witness(job) as witness:
        job.until_step(STEP)
        scene.site.cluster.kubectl("scale", "-n", job.namespace, "dtj/crew", "--replicas=1")
        job.until(lambda status: status["workersReady"] == "1/1" and status["phase"] == "Running", "one worker trains")
        wait_until(lambda: len(job.pods()) == 1, 60, "the other pod is gone")
        scene.site.cluster.kubectl("scale", "-n", job.namespace, "dtj/crew", "--replicas=2")
        job.until(lambda status: status["workersReady"] == "2/2" and status["phase"] == "Running", "two workers train")
        scene.end(job)
        job.until_phase("Succeeded")
    witness.verdict()
    counted(job, 0, 0)


@pytest.mark.parametrize("cascade", ["background", "foreground"])
def test_a_deleted_job_leaves_its_claim_and_a_new_one_of_its_name_goes_on_from_there(
    scene: Scene, cascade: str
) -> None:
    job = scene.apply(endless=True)
    saved = job.until_checkpoint(20)["lastCheckpoint"]["step"]
    scene.site.cluster.kubectl("delete", "-n", job.namespace, "dtj", "crew", f"--cascade={cascade}", "--timeout=120s")
    wait_until(lambda: left_of(job) == ["persistentvolumeclaims/crew-checkpoints"], 120, "all but the claim is gone")
    with scene.at_step() as again:
        assert again.until(lambda status: "resumedFromStep" in status, "it goes on")["resumedFromStep"] >= saved


def test_a_new_job_that_does_not_fit_the_kept_checkpoints_is_refused_and_nothing_is_lost(scene: Scene) -> None:
    job = scene.apply()
    job.until_phase("Succeeded")
    weights = job.weights()
    scene.site.cluster.kubectl("delete", "-n", job.namespace, "dtj", "crew", "--timeout=120s")
    wait_until(lambda: left_of(job) == ["persistentvolumeclaims/crew-checkpoints"], 120, "all but the claim is gone")
    other = Job.apply(scene.site, scene.namespace, crew_spec(scene.steps(), trainer={"model": {"gpt": {"width": 128}}}))
    with Witness(other) as witness:
        wait_until(lambda: other.status.get("phase") == "Failed", 120, "the job that does not fit has failed")
    witness.verdict()
    last = other.status["failures"]["last"]
    assert last["exitCode"] == 78
    assert "checkpoint" in last["message"], last
    assert job.weights() == weights


def left_of(job: Job) -> list[str]:
    """Objects that carry the job's label, as resource/name."""
    kinds = ("pods", "services", "secrets", "persistentvolumeclaims")
    found = []
    for kind in kinds:
        items = job.api.list(f"/api/v1/namespaces/{job.namespace}/{kind}", labelSelector=f"rowlock.dev/job={job.name}")
        found += [f"{kind}/{item['metadata']['name']}" for item in items]
    return found
