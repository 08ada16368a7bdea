"""Every manifest in examples/ runs on the cluster as it is, and ends as it does on a laptop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from tests.e2e.jobs import Job
from tests.e2e.site import ROOT, Site
from tests.e2e.witness import Witness
from tests.support.kube_api import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.reference import OneMachine

EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


@pytest.mark.parametrize("manifest", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_succeeds_with_the_weights_of_a_local_run(
    manifest: Path, site: Site, namespace: str, one_machine: OneMachine
) -> None:
    document = yaml.safe_load(manifest.read_text())
    site.cluster.kubectl("apply", "-n", namespace, "-f", str(manifest))
    job = Job(site, namespace, document["metadata"]["name"])
    with Witness(job) as witness:
        status = job.until_phase("Succeeded")
    witness.verdict()
    assert status["restarts"] == 0
    wait_until(lambda: {pod["status"]["phase"] for pod in job.pods()} == {"Succeeded"}, 60, "the pods have ended well")
    if "command" in document["spec"]:
        assert (job.checkpoints / "average.txt").read_text() == "0.5\n"
        logs = "".join(site.cluster.kubectl("logs", "-n", namespace, pod["metadata"]["name"]) for pod in job.pods())
        assert {f"rank {rank} of 2: the average rank is 0.5" in logs for rank in (0, 1)} == {True}
    else:
        assert status["progress"]["step"] == document["spec"]["trainer"]["steps"]
        assert job.weights() == one_machine.final_weights(document["spec"])
    line = site.cluster.kubectl("get", "dtj", "-n", namespace, job.name)
    assert "Succeeded" in line
