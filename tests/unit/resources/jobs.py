"""Jobs as the builders get them."""

from __future__ import annotations

from typing import Any

from rowlock.api.v1alpha1 import JobSpec, JobStatus
from rowlock_operator.core.model import Job

TRAINER = {"model": {"mlp": {}}, "data": "digits", "globalBatchSize": 64, "steps": 100}


def job(name: str = "digits", **spec: Any) -> Job:
    """A job of two workers; `spec` in a manifest's words."""
    whole = {"workers": 2, "trainer": TRAINER, **spec}
    if "command" in spec:
        del whole["trainer"]
    return Job("lab", name, "uid-1", 1, JobSpec.model_validate(whole), JobStatus())
