"""What a run on one machine ends with: every run on the cluster must end with the same weights, however disturbed.

The one machine is a pod that does what a person does on a laptop, `rowlock run manifest.yaml`, in the very image
that the workers have: the text example learns the source text of Python's own library, which is another in another
Python.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from rowlock_trainer.checkpoint import list_checkpoints, weights_digest
from tests.e2e.jobs import crew_spec, newest
from tests.e2e.scene import ROUND
from tests.e2e.site import TRAINER_IMAGE
from tests.support.kube_api import wait_until
from tests.support.restricted import run_once

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.site import Site
    from tests.support.kube_api import JsonObject

#: A run of some thousand small steps takes a minute or two; a busy machine gets ten times that.
DEADLINE = 900.0
_RUN = ["rowlock", "run", "/manifest/job.yaml", "--state-dir", "/state"]


class Reference:
    """What an undisturbed run of the tests' crew has at each step that a test may end at.

    Its rate is constant and its data endless, so that what it has after a step does not depend on how many follow. One
    run serves all tests that end no later than it; a later end makes a longer one.
    """

    def __init__(self, machine: OneMachine) -> None:
        self._machine = machine
        self._checkpoints: Path | None = None
        self._steps = 0

    def weights_at(self, step: int) -> str:
        """Return the SHA-256 of all weights after a step, which is a multiple of `ROUND`."""
        if self._checkpoints is None or step > self._steps:
            self._steps = max(step, 2 * self._steps)
            checkpoint = {"everySteps": ROUND, "keep": 1000, "storage": {"size": "1Gi"}}
            self._checkpoints = self._machine.run(crew_spec(self._steps, checkpoint=checkpoint))
        (found,) = (note for note in list_checkpoints(self._checkpoints) if note.step == step)
        return weights_digest(self._checkpoints, found.name)


class OneMachine:
    """Runs manifests on one machine, in a namespace of its own."""

    def __init__(self, site: Site, namespace: str) -> None:
        self._site = site
        self._namespace = namespace
        self._runs = 0

    def final_weights(self, spec: dict[str, Any]) -> str:
        """Return the SHA-256 of the final weights of a job of this spec."""
        checkpoints = self.run(spec)
        return weights_digest(checkpoints, newest(checkpoints).name)

    def run(self, spec: dict[str, Any]) -> Path:
        """Run a job of this spec to its end; return where its checkpoints are."""
        text = yaml.safe_dump(
            {
                "apiVersion": "rowlock.dev/v1alpha1",
                "kind": "DistributedTrainingJob",
                "metadata": {"name": "crew"},
                "spec": spec,
            },
            sort_keys=True,
        )
        self._runs += 1
        return self._run(f"reference-{self._runs}", text)

    def _run(self, name: str, manifest: str) -> Path:
        objects = _objects(name, manifest)
        self._site.cluster.kubectl("apply", "-n", self._namespace, "-f", "-", stdin=yaml.safe_dump_all(objects))
        path = f"/api/v1/namespaces/{self._namespace}/pods/{name}"

        def ended() -> bool:
            return self._site.api.get(path).ok()["status"].get("phase") in ("Succeeded", "Failed")

        wait_until(ended, DEADLINE, f"the run on one machine has ended ({name})", interval_seconds=0.5)
        logs = self._site.cluster.kubectl("logs", "-n", self._namespace, name, "--tail=30")
        assert self._site.api.get(path).ok()["status"]["phase"] == "Succeeded", logs
        return self._site.cluster.volume(self._namespace, name) / "default" / "crew" / "checkpoints"


def _objects(name: str, manifest: str) -> list[JsonObject]:
    meta = {"name": name}
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"job.yaml": manifest}},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": claim},
        {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": _pod_spec(name)},
    ]


def _pod_spec(name: str) -> JsonObject:
    container: dict[str, Any] = {
        "name": "run",
        "image": TRAINER_IMAGE,
        "command": _RUN,
        "volumeMounts": [
            {"name": "manifest", "mountPath": "/manifest"},
            {"name": "state", "mountPath": "/state"},
        ],
    }
    volumes = [
        {"name": "manifest", "configMap": {"name": name}},
        {"name": "state", "persistentVolumeClaim": {"claimName": name}},
    ]
    return run_once(container, volumes)
