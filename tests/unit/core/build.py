"""Builders of what decide() looks at, so that a test names only what it is about."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from rowlock.api.v1alpha1 import JobSpec, JobStatus
from rowlock.protocol import CheckpointNote, Notice, Progress, RankExit, Report
from rowlock_operator.core.decide import decide
from rowlock_operator.core.model import Claim, Decision, Job, Launcher, Observed, Pod

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def spec(workers: int = 2, **fields: Any) -> JobSpec:
    if "command" not in fields:
        fields.setdefault("trainer", {"model": {"mlp": {}}, "data": "digits", "steps": 100, "globalBatchSize": 64})
    return JobSpec.model_validate({"workers": workers, **fields})


def job(job_spec: JobSpec | None = None, status: JobStatus | None = None, **fields: Any) -> Job:
    defaults: dict[str, Any] = {"namespace": "ns", "name": "crew", "uid": "job-uid", "generation": 1}
    return Job(**{**defaults, **fields}, spec=job_spec or spec(), status=status or JobStatus())


def pod(worker: int, uid: str | None = None, phase: Any = "Running", **fields: Any) -> Pod:
    return Pod(worker, uid or f"pod-{worker}", phase, **fields)


def launcher(
    worker: int, phase: Any = "running", generation: int = 1, *, connected: bool = True, **fields: Any
) -> Launcher:
    uid = fields.pop("uid", f"pod-{worker}")
    last_seen = fields.pop("last_seen", NOW)
    stepped_at = fields.pop("stepped_at", None)
    since = fields.pop("connected_since", None)
    if worker == 0:
        fields.setdefault("store", "crew-worker-0:4000")
    report = Report(generation=generation, phase=phase, **fields)
    return Launcher(worker, uid, connected, last_seen, report, stepped_at=stepped_at, connected_since=since)


def end(rank: int, code: int, reason: str = "", step: int = 40, time: float = 0.0, traceback: str = "") -> RankExit:
    return RankExit(rank, code, step, reason, time or NOW.timestamp(), traceback)


def progress(step: int = 40, **fields: Any) -> Progress:
    values: dict[str, Any] = {
        "total_steps": 100,
        "epoch": 1.5,
        "loss": 0.25,
        "samples_per_second": 900.0,
        "seconds_left": 12.0,
        "time": NOW.timestamp(),
    }
    return Progress(step=step, **{**values, **fields})


def note(step: int = 40) -> CheckpointNote:
    return CheckpointNote(step, 1, 1024, NOW.timestamp(), f"step-{step:08d}-gen-0001")


def notice(identity: str = "1", kind: Any = "CheckpointRejected", message: str = "bad") -> Notice:
    return Notice(identity, kind, message)


def world(*pods: Pod, launchers: tuple[Launcher, ...] = (), **fields: Any) -> Observed:
    values: dict[str, Any] = {"claim": Claim("crew-checkpoints", "Bound"), "service": True, "secret": True}
    return Observed(pods=pods, launchers=launchers, **{**values, **fields})


def training_job(job_spec: JobSpec | None = None) -> Job:
    """A job of which both workers train in generation 1."""
    begun = job(job_spec)
    workers = begun.spec.workers
    pods = tuple(pod(index) for index in range(workers))
    launchers = tuple(launcher(index) for index in range(workers))
    for _ in range(2):
        begun = after(begun, decide(begun, world(*pods, launchers=launchers), NOW))
    assert begun.status.phase == "Running"
    return begun


def after(before: Job, decision: Decision) -> Job:
    """The job as it is once the decision's status was written."""
    return replace(before, status=decision.status)


def counts(decision: Decision) -> tuple[int, int]:
    """How many failures and preemptions are counted."""
    return decision.status.failures.count, decision.status.preemptions.count


def phase_of(decision: Decision) -> str:
    """What the crew is ordered."""
    assert decision.order is not None
    return decision.order.phase


def places(decision: Decision) -> tuple[str, ...]:
    """The pods that the order names, by worker."""
    assert decision.order is not None
    return decision.order.members


def condition(decision: Decision, kind: str) -> tuple[str, str]:
    found = next(one for one in decision.status.conditions if one.type == kind)
    return found.status, found.reason


def reasons(decision: Decision) -> list[str]:
    return [event.reason for event in decision.events]
