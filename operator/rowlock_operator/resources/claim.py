"""The claim of the volume that checkpoints live on.

With retention Retain it has no owner: it stays when the job goes, and a later job of the same name finds
its checkpoints there. With Delete the garbage collector takes it with the job.
"""

from __future__ import annotations

from typing import Any

from rowlock_operator.core.model import Job
from rowlock_operator.resources.names import claim_name, metadata


def build_claim(job: Job) -> dict[str, Any]:
    """Return the PersistentVolumeClaim of `job`."""
    checkpoint = job.spec.checkpoint
    spec: dict[str, Any] = {
        "accessModes": [checkpoint.storage.access_mode],
        "resources": {"requests": {"storage": str(checkpoint.storage.size)}},
    }
    if checkpoint.storage.storage_class_name is not None:
        spec["storageClassName"] = checkpoint.storage.storage_class_name
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata(job, claim_name(job), owned=checkpoint.retention == "Delete"),
        "spec": spec,
    }
