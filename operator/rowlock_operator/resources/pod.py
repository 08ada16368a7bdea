"""The pod of one worker: the user's template with the launcher in it.

What the operator must own (restart policy, host name, the launcher's command and its ROWLOCK_ variables)
wins over the template; everything else is a default that the template wins over. The defaults pass the
`restricted` Pod Security Standard, so that a job runs in a hardened namespace as it is. Volumes of ours have
names that a template may not use, so that neither takes the other's place unseen.
"""

from __future__ import annotations

from typing import Any

from rowlock import protocol
from rowlock.api.v1alpha1 import CHECKPOINTS_PATH, RESERVED_PREFIX, TOKEN_DIRECTORY, TRAINER_CONTAINER
from rowlock_operator.core.model import Job
from rowlock_operator.core.shape import spec_hash
from rowlock_operator.resources import launcher
from rowlock_operator.resources.launcher import PodSettings
from rowlock_operator.resources.names import (
    ANNOTATION_SPEC_HASH,
    LABEL_WORKER,
    claim_name,
    metadata,
    pod_name,
    secret_name,
    service_name,
)
from rowlock_operator.resources.secret import TOKEN_KEY
from rowlock_operator.resources.worker_config import worker_config

CHECKPOINTS_VOLUME = f"{RESERVED_PREFIX}checkpoints"
TOKEN_VOLUME = f"{RESERVED_PREFIX}token"
TMP_VOLUME = f"{RESERVED_PREFIX}tmp"
SHM_VOLUME = f"{RESERVED_PREFIX}shm"
#: The uid of "nonroot" in the distroless images, which slim base images leave unused.
NONROOT = 65532
#: Readable by the owner and, through fsGroup, by the worker: nobody else in the pod.
TOKEN_FILE_MODE = 0o440

_POD_SECURITY: dict[str, Any] = {
    "runAsNonRoot": True,
    "runAsUser": NONROOT,
    "runAsGroup": NONROOT,
    "fsGroup": NONROOT,
    # A volume full of checkpoints would else be walked and chowned at every restart.
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}
_CONTAINER_SECURITY: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}


def checkpoint_directory(job: str) -> str:
    """Return where a job's checkpoints are on its volume, as a worker sees it.

    A directory per job, because several jobs may share one claim.
    """
    return f"{CHECKPOINTS_PATH}/{job}"


def build_pod(job: Job, worker: int, settings: PodSettings) -> dict[str, Any]:
    """Return the Pod of one worker.

    Args:
        job: The job, with the status that was decided on.
        worker: Index of the worker, from 0.
        settings: What is the same for the pods of all jobs.
    """
    template = job.spec.template
    meta = metadata(job, pod_name(job.name, worker))
    meta["labels"] = template.metadata.labels | meta["labels"] | {LABEL_WORKER: str(worker)}
    meta["annotations"] = template.metadata.annotations | {ANNOTATION_SPEC_HASH: spec_hash(job.spec)}
    # Defaults are left out so that the pod reads as a person wrote it; they are the API server's own too.
    spec = template.spec.model_dump(by_alias=True, exclude_defaults=True)
    if spec.get("hostNetwork"):
        # Else a pod in the node's network would ask the node's resolver, which knows no services.
        spec["dnsPolicy"] = "ClusterFirstWithHostNet"
    containers = _containers(job, worker, spec.get("containers", []), settings)
    copied = launcher.is_copied(containers[0]["image"], settings)
    if copied:
        # Before the user's own, which may run as long as the pod does.
        image = job.status.launcher_image or settings.launcher_image
        first = launcher.copying_container(image, settings, dict(_CONTAINER_SECURITY))
        spec["initContainers"] = [first, *spec.get("initContainers", [])]
    spec |= {
        "restartPolicy": "Never",
        "hostname": pod_name(job.name, worker),
        "subdomain": service_name(job.name),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": _merged(_POD_SECURITY, template.spec.security_context),
        "containers": containers,
        "volumes": [*_volumes(job), *([launcher.volume()] if copied else []), *spec.get("volumes", [])],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def _containers(job: Job, worker: int, containers: list[Any], settings: PodSettings) -> list[dict[str, Any]]:
    """The trainer container first, so that `kubectl logs` shows it; the others beside it as they are."""
    own = next((item for item in containers if item["name"] == TRAINER_CONTAINER), {"name": TRAINER_CONTAINER})
    others = [item for item in containers if item["name"] != TRAINER_CONTAINER]
    return [_trainer(job, worker, own, settings), *others]


def _trainer(job: Job, worker: int, container: dict[str, Any], settings: PodSettings) -> dict[str, Any]:
    image = launcher.image_to_pull(container.get("image") or job.spec.image, settings)
    copied = launcher.is_copied(image, settings)
    return (
        {"terminationMessagePolicy": "FallbackToLogsOnError"}
        | container
        | {
            "image": image,
            "command": list(launcher.COPIED if copied else launcher.INSTALLED),
            "env": _environment(job, worker, container.get("env", []), settings.coordinator_url),
            "volumeMounts": [
                *([launcher.mount()] if copied else []),
                *_mounts(container.get("volumeMounts", [])),
            ],
            "securityContext": _merged(_CONTAINER_SECURITY, container.get("securityContext")),
        }
    )


def _environment(job: Job, worker: int, given: list[dict[str, Any]], coordinator_url: str) -> list[dict[str, Any]]:
    config = worker_config(
        job.spec,
        namespace=job.namespace,
        name=job.name,
        uid=job.uid,
        worker=worker,
        checkpoint_directory=checkpoint_directory(job.name),
    )
    own: list[dict[str, Any]] = [
        {"name": protocol.ENV_CONFIG, "value": _literal(protocol.encode(config))},
        {"name": protocol.ENV_COORDINATOR, "value": coordinator_url},
        {"name": protocol.ENV_TOKEN_FILE, "value": f"{TOKEN_DIRECTORY}/{TOKEN_KEY}"},
        {"name": protocol.ENV_POD_UID, "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
        # Not the DNS name: name servers answer with a replaced pod's old address for as long as they cache it, 30 s as
        # a rule, and the crew would wait for that.
        {"name": protocol.ENV_ADDRESS, "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
    ]
    taken = {variable["name"] for variable in own}
    users = [variable for variable in given if variable["name"] not in taken]
    # The root file system is read-only: caches that libraries keep under HOME go to /tmp.
    home = [] if any(variable["name"] == "HOME" for variable in users) else [{"name": "HOME", "value": "/tmp"}]  # noqa: S108
    return [*own, *home, *users]


def _literal(value: str) -> str:
    """Escape what the kubelet would expand: $(NAME) in a value refers to another variable."""
    return value.replace("$", "$$")


def _mounts(given: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The operator's mounts; scratch space gives way where the user mounts something else."""
    own: list[dict[str, Any]] = [
        {"name": CHECKPOINTS_VOLUME, "mountPath": CHECKPOINTS_PATH},
        {"name": TOKEN_VOLUME, "mountPath": TOKEN_DIRECTORY, "readOnly": True},
    ]
    scratch: list[dict[str, Any]] = [
        {"name": TMP_VOLUME, "mountPath": "/tmp"},  # noqa: S108 (in the container, an emptyDir of its own)
        # Data loader workers and NCCL pass tensors through it; the runtime's default is 64 MiB.
        {"name": SHM_VOLUME, "mountPath": "/dev/shm"},  # noqa: S108
    ]
    taken = {mount["mountPath"].rstrip("/") for mount in given}
    return [*own, *(mount for mount in scratch if mount["mountPath"] not in taken), *given]


def _volumes(job: Job) -> list[dict[str, Any]]:
    return [
        {"name": CHECKPOINTS_VOLUME, "persistentVolumeClaim": {"claimName": claim_name(job)}},
        {
            "name": TOKEN_VOLUME,
            "secret": {
                "secretName": secret_name(job.name),
                "defaultMode": TOKEN_FILE_MODE,
                "items": [{"key": TOKEN_KEY, "path": TOKEN_KEY}],
            },
        },
        {"name": TMP_VOLUME, "emptyDir": {}},
        {"name": SHM_VOLUME, "emptyDir": {"medium": "Memory"}},
    ]


def _merged(defaults: dict[str, Any], overrides: dict[str, Any] | None) -> dict[str, Any]:
    """Merge as JSON merge patch (RFC 7386) does, one level deep: null takes a default away."""
    merged = defaults | (overrides or {})
    return {key: value for key, value in merged.items() if value is not None}
