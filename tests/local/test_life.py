"""What a new run makes of what a run that was cut off left behind."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from rowlock.api.v1alpha1 import BudgetStatus, IncidentStatus, JobSpec, JobStatus
from rowlock.local.life import take_up
from rowlock_operator.core.draft import to_text
from rowlock_operator.core.model import Job

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def fault(reason: str, seconds: float) -> IncidentStatus:
    moment = to_text(NOW + timedelta(seconds=seconds))
    return IncidentStatus(time=moment, generation=1, worker=0, reason=reason, message=reason, pod_uid="pod-0")


def test_a_fault_not_settled_when_the_run_was_cut_off_stays_what_it_was_counted_as() -> None:
    spec = JobSpec.model_validate({"workers": 1, "command": ["train"], "recovery": {"maxPreemptions": 0}})
    left = JobStatus(
        phase="Recovering",
        generation=2,
        failures=BudgetStatus(count=2, last=fault("Older", 0)),
        unsettled=[fault("WorkerLost", 5)],
    )
    job, words = take_up(Job("ns", "crew", "uid", 1, spec, left), NOW + timedelta(hours=1))
    assert job.status.phase == "Suspended"
    assert (job.status.failures.count, job.status.preemptions.count) == (2, 0)
    assert job.status.failures.last is not None
    assert job.status.failures.last.reason == "WorkerLost"
    assert job.status.unsettled == []
    assert "cut off" in words
