"""From an incident to the next generation: count, give up or go on, back off."""

from __future__ import annotations

from datetime import timedelta

from rowlock.api.v1alpha1 import BackoffSpec, IncidentStatus
from rowlock.protocol import ExitCode
from rowlock_operator.core.draft import Draft, to_text
from rowlock_operator.core.finish import fail
from rowlock_operator.core.incidents import Incident, is_retryable, overdue_workers
from rowlock_operator.core.settlement import fail_if_spent, keep_unsettled


def backoff_seconds(backoff: BackoffSpec, failures_in_a_row: int) -> float:
    """Return the delay before the next try: none after the first failure, then doubling up to the cap."""
    if failures_in_a_row <= 1:
        return 0.0
    # 2**30 s is 34 years: the exponent is capped so that the product stays finite.
    return float(min(backoff.max_seconds, backoff.initial_seconds * 2 ** min(failures_in_a_row - 2, 30)))


def recover(draft: Draft, incident: Incident) -> None:
    """Count an incident and either fail the job or begin the next generation."""
    final = not incident.provisional and not is_retryable(incident, draft.spec.recovery.retryable_exit_codes)
    _count(draft, incident)
    draft.tell("Warning", incident.reason, incident.message)
    if final:
        fail(draft, "NotRetryable", f"{incident.message}. Exit code {incident.exit_code} is not retried")
        return
    if fail_if_spent(draft, incident.kind, incident.message):
        return
    begin_generation(draft, lost=_lost_workers(draft, incident))
    draft.status.restarts += 1
    if incident.kind == "failure":
        _back_off(draft)


def begin_generation(draft: Draft, *, lost: set[int]) -> None:
    """Begin the next generation; the pods of the workers in `lost` give up their places.

    So do pods that have ended or are going, and those of workers that were done: such a launcher may be on
    its way out already. A crew of which no pod stays gets the launcher of this operator's release; else a new pod's
    launcher comes from where the others' came.
    """
    draft.status.generation += 1
    draft.status.resumed_from_step = None
    for member in draft.members:
        pod = draft.pod(member.index)
        gone = pod is None or pod.terminal or pod.deleting_since is not None
        if member.pod_uid and (member.index in lost or gone or member.phase == "Done"):
            member.phase = "Lost"
    if all(member.phase == "Lost" or not member.pod_uid for member in draft.members):
        draft.status.launcher_image = draft.observed.launcher_image


def write_off(draft: Draft) -> None:
    """Give up workers that were lost before they joined this generation: they were lost with the one before.

    A node or a rack that loses power takes many pods with it, and the news of each comes by itself: its end, or that
    it is not heard any more. The first begins the next generation; the others were part of the same fault and are not
    counted again.
    """
    silent = {one.worker for one in overdue_workers(draft)}
    for member in draft.members:
        if member.phase in ("Lost", "Done") or member.joined >= draft.status.generation:
            continue
        pod = draft.pod(member.index)
        ended = pod is not None and pod.uid == member.pod_uid and pod.terminal
        if ended or member.index in silent:
            member.phase = "Lost"
            how = "its pod ended" if ended else "it fell silent"
            draft.tell("Normal", "PodEndedToo", f"worker {member.index}: {how} with the generation before")


def _count(draft: Draft, incident: Incident) -> None:
    known = 0 <= incident.worker < len(draft.members)
    record = IncidentStatus(
        time=to_text(draft.now),
        generation=draft.status.generation,
        worker=incident.worker,
        rank=incident.rank,
        exit_code=incident.exit_code,
        reason=incident.reason,
        message=incident.message[:32768],
        traceback=incident.traceback[-32768:],
        pod_uid=draft.members[incident.worker].pod_uid if known else "",
    )
    budget = draft.status.failures if incident.kind == "failure" else draft.status.preemptions
    budget.count += 1
    if incident.provisional:
        keep_unsettled(draft, record)
    else:
        budget.last = record


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
    status.not_before = None
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
