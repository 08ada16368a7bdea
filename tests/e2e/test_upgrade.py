"""The operator is upgraded, removed and installed again while a job trains, and the job notices nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.kube_api import wait_until

if TYPE_CHECKING:
    from tests.e2e.scene import Scene

#: While no operator is installed nobody writes status; the next one waits until the lease of the last is over.
AWAY_SECONDS = 120.0


def test_an_upgrade_of_the_operator_disturbs_no_training(scene: Scene) -> None:
    with scene.at_step() as job:
        before = uids(scene)
        scene.site.install("logLevel=debug")
        wait_until(lambda: not before & uids(scene), 120, "the operators were replaced")
        scene.site.await_leader()
        job.trains_on()
        assert job.status["generation"] == 1
    scene.site.install()


def test_an_operator_installed_again_takes_the_job_over(scene: Scene) -> None:
    with scene.at_step(patience=AWAY_SECONDS) as job:
        try:
            scene.site.uninstall()
            assert job.body() is not None, "the definition and the job stay"
            assert all(pod["status"]["phase"] == "Running" for pod in job.pods())
            step = job.step
        finally:
            scene.site.install()
        job.until_step(step + 100)
        assert job.status["generation"] == 1


def uids(scene: Scene) -> set[str]:
    """UIDs of the operator's pods."""
    return {pod["metadata"]["uid"] for pod in scene.site.operators()}
