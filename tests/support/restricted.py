"""What the Pod Security level `restricted` asks of pods that the tests and benchmarks write themselves."""

from __future__ import annotations

from typing import Any

#: The user of Rowlock's images.
USER = 65532
POD_SECURITY: dict[str, Any] = {
    "runAsNonRoot": True,
    "runAsUser": USER,
    "runAsGroup": USER,
    "fsGroup": USER,
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER_SECURITY: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}


def run_once(container: dict[str, Any], volumes: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the spec of a pod that runs a container to its end, with a /tmp that can be written to."""
    tmp = {"name": "tmp", "mountPath": "/tmp"}  # noqa: S108 (in the container, an emptyDir)
    mounts = [*container["volumeMounts"], tmp]
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": POD_SECURITY,
        "containers": [container | {"volumeMounts": mounts, "securityContext": CONTAINER_SECURITY}],
        "volumes": [*volumes, {"name": "tmp", "emptyDir": {}}],
    }
