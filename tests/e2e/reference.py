"""What a run on one machine ends with: every run on the cluster must end with the same weights, however disturbed.

The one machine is a pod that does what a person does on a laptop, `rowlock run manifest.yaml`, in the very image
that the workers have: the text example learns the source text of Python's own library, which is another in another
Python.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from rowlock_trainer.checkpoint import list_checkpoints, weights_digest
from tests.e2e.site import TRAINER_IMAGE
from tests.support.kube_api import wait_until
from tests.support.restricted import CONTAINER_SECURITY, POD_SECURITY

if TYPE_CHECKING:
    from tests.e2e.site import Site
    from tests.support.kube_api import JsonObject

#: A run of a few hundred small steps takes seconds; importing torch on a busy machine takes most of it.
DEADLINE = 300.0
_RUN = ["rowlock", "run", "/manifest/job.yaml", "--state-dir", "/state"]


class References:
    """Final weights by manifest, each computed once in a session, in a namespace of its own."""

    def __init__(self, site: Site, namespace: str) -> None:
        self._site = site
        self._namespace = namespace
        self._known: dict[str, str] = {}

    def of_spec(self, spec: dict[str, Any]) -> str:
        """Return the SHA-256 of the final weights of a job of this spec."""
        text = yaml.safe_dump(
            {
                "apiVersion": "rowlock.dev/v1alpha1",
                "kind": "DistributedTrainingJob",
                "metadata": {"name": "crew"},
                "spec": spec,
            },
            sort_keys=True,
        )
        if text not in self._known:
            self._known[text] = self._run(f"reference-{len(self._known)}", text)
        return self._known[text]

    def _run(self, name: str, manifest: str) -> str:
        objects = _objects(name, manifest)
        self._site.cluster.kubectl("apply", "-n", self._namespace, "-f", "-", stdin=yaml.safe_dump_all(objects))
        path = f"/api/v1/namespaces/{self._namespace}/pods/{name}"

        def ended() -> bool:
            return self._site.api.get(path).ok()["status"].get("phase") in ("Succeeded", "Failed")

        wait_until(ended, DEADLINE, f"the run on one machine has ended ({name})", interval_seconds=0.5)
        logs = self._site.cluster.kubectl("logs", "-n", self._namespace, name, "--tail=30")
        assert self._site.api.get(path).ok()["status"]["phase"] == "Succeeded", logs
        checkpoints = self._site.cluster.volume(self._namespace, name) / "default" / "crew" / "checkpoints"
        newest = max(list_checkpoints(checkpoints), key=lambda note: note.step)
        return weights_digest(checkpoints, newest.name)


def _objects(name: str, manifest: str) -> list[JsonObject]:
    meta = {"name": name}
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}}}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"job.yaml": manifest}},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": claim},
        {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": _pod_spec(name)},
    ]


def _pod_spec(name: str) -> JsonObject:
    container = {
        "name": "run",
        "image": TRAINER_IMAGE,
        "command": _RUN,
        "volumeMounts": [
            {"name": "manifest", "mountPath": "/manifest"},
            {"name": "state", "mountPath": "/state"},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 (in the container)
        ],
        "securityContext": CONTAINER_SECURITY,
    }
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": POD_SECURITY,
        "containers": [container],
        "volumes": [
            {"name": "manifest", "configMap": {"name": name}},
            {"name": "state", "persistentVolumeClaim": {"claimName": name}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }
