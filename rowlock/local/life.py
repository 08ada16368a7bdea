"""What a new run makes of the status that the last one left: go on, go on after a failure, or nothing to do.

A laptop's runner is also its kubelet: when it ends, its pods end with it, however it ended. What the last run
wrote of its pods is therefore never news of a fault, and is brought to rest the way ctrl-C does it.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from rowlock.api.v1alpha1 import JobStatus
from rowlock_operator.core.decide import decide
from rowlock_operator.core.model import Job, Observed


def failure(status: JobStatus) -> str:
    """Return in words why a job failed."""
    found = next((one for one in status.conditions if one.type == "Failed" and one.status == "True"), None)
    return found.message if found is not None else "no reason known"


def take_up(job: Job, now: datetime) -> tuple[Job, str]:
    """Return the job as a new run begins with it, and what to tell a person, "" for nothing.

    Args:
        job: As the last run left it.
        now: The present, with time zone.
    """
    status = job.status
    if status.phase == "Failed":
        return replace(job, status=_new_life(status)), _after_failure(status)
    if status.generation == 0 or status.phase in ("Suspended", "Succeeded"):
        return job, ""
    job = replace(job, status=_settled(status))
    at_rest = decide(replace(job, spec=job.spec.model_copy(update={"suspend": True})), Observed(), now).status
    return replace(job, status=at_rest), "the last run was cut off; going on"


def _settled(status: JobStatus) -> JobStatus:
    """Return a status in which every fault stays what it was counted as: no pod is left to say otherwise."""
    settled = status.model_copy(deep=True)
    if settled.unsettled:
        newest = [*settled.unsettled, *([settled.failures.last] if settled.failures.last is not None else [])]
        settled.failures.last = max(newest, key=lambda one: one.time)
        settled.unsettled = []
    return settled


def _new_life(status: JobStatus) -> JobStatus:
    """Return a status with budgets and clocks anew.

    The generation goes on counting, because it is what fences off whatever an earlier one left behind; where
    the training stands is a fact of the volume, and stays.
    """
    return JobStatus(generation=status.generation, last_checkpoint=status.last_checkpoint, progress=status.progress)


def _after_failure(status: JobStatus) -> str:
    if status.last_checkpoint is None:
        return f"going on after it failed: {failure(status)}"
    return f"going on from its last checkpoint (step {status.last_checkpoint.step}) after it failed: {failure(status)}"
