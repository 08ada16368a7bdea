"""What a job's objects are called, and how they are found again.

Names are made from the job's alone, so that creating an object twice is answered with 409 and does no
harm: that is what lets the operator forget everything between two rounds. Labels say whose an object is
to people and to list calls; the owner reference's UID says it to the operator, because a name may be
used again by a later job.
"""

from __future__ import annotations

from typing import Any

from rowlock.api.v1alpha1 import API_VERSION, KIND
from rowlock_operator.core.model import Job

LABEL_JOB = "rowlock.dev/job"
LABEL_WORKER = "rowlock.dev/worker"
#: `rowlock_operator.core.shape.spec_hash` of the spec that a pod was made from.
ANNOTATION_SPEC_HASH = "rowlock.dev/spec-hash"
#: Every object carries it, so that one selector finds all that this operator made.
MANAGED_BY = "rowlock-operator"
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
SELECTOR = f"{LABEL_MANAGED_BY}={MANAGED_BY},{LABEL_JOB}"
#: Labels without which an object is not found, or not known for what it is.
FOUND_BY = (LABEL_MANAGED_BY, LABEL_JOB, LABEL_WORKER)


def service_name(job: str) -> str:
    """Return the name of the headless service that names the workers."""
    return job


def claim_name(job: Job) -> str:
    """Return the name of the claim that holds the checkpoints: the user's, else the job's own."""
    return job.spec.checkpoint.storage.claim_name or f"{job.name}-checkpoints"


def secret_name(job: str) -> str:
    """Return the name of the Secret that holds the job's token."""
    return f"{job}-token"


def policy_name(job: str) -> str:
    """Return the name of the NetworkPolicy that isolates the job."""
    return job


def pod_name(job: str, worker: int) -> str:
    """Return the name of one worker's pod. It fits a host name: 50 characters of job, 12 of worker."""
    return f"{job}-worker-{worker}"


def job_labels(job: str) -> dict[str, str]:
    """Return the labels every object of a job carries."""
    return {
        LABEL_JOB: job,
        "app.kubernetes.io/name": job,
        LABEL_MANAGED_BY: MANAGED_BY,
        "app.kubernetes.io/part-of": "rowlock",
    }


def owner_reference(job: Job) -> dict[str, Any]:
    """Return the reference by which the garbage collector removes an object with its job."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": job.name,
        "uid": job.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def metadata(job: Job, name: str, *, owned: bool = True) -> dict[str, Any]:
    """Return the metadata of an object of `job`; not `owned` objects outlive it."""
    built: dict[str, Any] = {"name": name, "namespace": job.namespace, "labels": job_labels(job.name)}
    if owned:
        built["ownerReferences"] = [owner_reference(job)]
    return built
