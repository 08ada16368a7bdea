"""From an incident to the next generation: count, give up or go on, back off, and settle what was provisional."""

from __future__ import annotations

from datetime import timedelta

from rowlock.api.v1alpha1 import BackoffSpec, IncidentStatus
from rowlock.protocol import ExitCode
from rowlock_operator.core.draft import Draft, to_text
from rowlock_operator.core.finish import fail
from rowlock_operator.core.incidents import Incident, is_retryable, judge

#: Seconds a provisional verdict waits for the pod's own account before the pod is deleted regardless.
SETTLE_SECONDS = 10.0


def backoff_seconds(backoff: BackoffSpec, failures_in_a_row: int) -> float:
    """Return the delay before the next try: none after the first failure, then doubling up to the cap."""
    if failures_in_a_row <= 1:
        return 0.0
    # 2**30 s is 34 years: the exponent is capped so that the product stays finite.
    return float(min(backoff.max_seconds, backoff.initial_seconds * 2 ** min(failures_in_a_row - 2, 30)))


def recover(draft: Draft, incident: Incident) -> None:
    """Count an incident and either fail the job or begin the next generation."""
    if incident.provisional and _exhausts(draft, incident) and not _waited(draft, incident):
        return
    _count(draft, incident)
    draft.tell("Warning", incident.reason, incident.message)
    if not is_retryable(incident, draft.spec.recovery.retryable_exit_codes):
        fail(draft, "NotRetryable", f"{incident.message}. Exit code {incident.exit_code} is not retried")
        return
    if _over_budget(draft):
        _give_up(draft, incident)
        return
    begin_generation(draft, lost=_lost_workers(draft, incident))
    draft.status.restarts += 1
    if incident.kind == "failure":
        _back_off(draft)


def begin_generation(draft: Draft, *, lost: set[int]) -> None:
    """Begin the next generation; the pods of the workers in `lost` give up their places."""
    status = draft.status
    status.generation += 1
    status.not_before = None
    status.resumed_from_step = None
    for member in draft.members:
        if not member.pod_uid:
            continue
        pod = draft.pod(member.index)
        if member.index in lost or pod is None or pod.terminal or pod.deleting_since is not None:
            member.phase = "Lost"
        elif member.phase == "Done":
            member.phase = "Running"


def settle(draft: Draft) -> None:
    """Move a provisional failure to where it belongs once its pod has said how it ended."""
    last = draft.status.failures.last
    if last is None or not last.provisional:
        return
    pod = draft.pod(last.worker) if last.worker < len(draft.members) else None
    member = draft.members[last.worker] if last.worker < len(draft.members) else None
    if member is None or member.phase != "Lost":
        _settle_as(draft, last, "preemption", "PodDeleted", f"worker {last.worker}: its pod was deleted", -1)
    elif pod is not None and pod.uid == member.pod_uid and pod.phase == "Failed":
        truth = judge(pod)
        _settle_as(draft, last, truth.kind, truth.reason, truth.message, truth.exit_code)
    elif pod is not None and pod.deleting_since is not None:
        _settle_as(draft, last, "preemption", "PodDeleted", f"worker {last.worker}: its pod was deleted", -1)
    elif draft.passed(last.time, SETTLE_SECONDS):
        last.provisional = False


def settling(draft: Draft, worker: int) -> bool:
    """Return whether a worker's pod is still to say how it ended; it must not be deleted before."""
    last = draft.status.failures.last
    return last is not None and last.provisional and last.worker == worker


def _settle_as(draft: Draft, last: IncidentStatus, kind: str, reason: str, message: str, code: int) -> None:
    status = draft.status
    settled = last.model_copy(update={"reason": reason, "message": message, "exit_code": code, "provisional": False})
    if kind == "failure":
        status.failures.last = settled
        return
    status.failures.count -= 1
    status.failures.last = None
    status.failures_without_progress = max(0, status.failures_without_progress - 1)
    status.not_before = None
    status.preemptions.count += 1
    status.preemptions.last = settled
    if status.preemptions.count > draft.spec.recovery.max_preemptions:
        fail(draft, "TooManyPreemptions", _budget_words(draft, "preemption", message))


def _count(draft: Draft, incident: Incident) -> None:
    budget = draft.status.failures if incident.kind == "failure" else draft.status.preemptions
    budget.count += 1
    budget.last = IncidentStatus(
        time=to_text(draft.now),
        generation=draft.status.generation,
        worker=incident.worker,
        rank=incident.rank,
        exit_code=incident.exit_code,
        reason=incident.reason,
        message=incident.message[:32768],
        traceback=incident.traceback[-32768:],
        provisional=incident.provisional,
    )


def _over_budget(draft: Draft) -> bool:
    recovery, status = draft.spec.recovery, draft.status
    return status.failures.count > recovery.max_failures or status.preemptions.count > recovery.max_preemptions


def _exhausts(draft: Draft, incident: Incident) -> bool:
    return incident.kind == "failure" and draft.status.failures.count >= draft.spec.recovery.max_failures


def _waited(draft: Draft, incident: Incident) -> bool:
    """A job is not failed on a guess: wait for the pod to end, at most until the launcher's silence says enough."""
    launcher = draft.launcher(incident.worker)
    return launcher is None or draft.passed(to_text(launcher.last_seen), SETTLE_SECONDS)


def _give_up(draft: Draft, incident: Incident) -> None:
    name = "TooManyFailures" if incident.kind == "failure" else "TooManyPreemptions"
    fail(draft, name, _budget_words(draft, incident.kind, incident.message))


def _budget_words(draft: Draft, kind: str, message: str) -> str:
    recovery, status = draft.spec.recovery, draft.status
    if kind == "failure":
        return f"{status.failures.count} failures, recovery.maxFailures is {recovery.max_failures}; the last: {message}"
    return (
        f"{status.preemptions.count} preemptions, recovery.maxPreemptions is {recovery.max_preemptions}; "
        f"the last: {message}"
    )


def _lost_workers(draft: Draft, incident: Incident) -> set[int]:
    lost = {one.worker for one in draft.crew() if one.report.leaving}
    if incident.replace_pod and incident.worker >= 0:
        lost.add(incident.worker)
    return lost


def _back_off(draft: Draft) -> None:
    status = draft.status
    step = _step_reached(draft)
    if step > status.furthest_step:
        status.furthest_step = step
        status.failures_without_progress = 1
    else:
        status.failures_without_progress += 1
    delay = backoff_seconds(draft.spec.recovery.backoff, status.failures_without_progress)
    if delay > 0:
        status.not_before = to_text(draft.now + timedelta(seconds=delay))
        draft.tell(
            "Normal",
            "BackingOff",
            f"{status.failures_without_progress} failures without progress past step {status.furthest_step}: "
            f"next try in {delay:.0f} s",
        )


def _step_reached(draft: Draft) -> int:
    """Return the furthest step known of the generation that ended."""
    steps = [draft.status.progress.step] if draft.status.progress is not None else [0]
    for launcher in draft.crew():
        report = launcher.report
        if report.progress is not None:
            steps.append(report.progress.step)
        steps.extend(end.step for end in report.exits if end.code != ExitCode.SAVED)
    return max(steps)
