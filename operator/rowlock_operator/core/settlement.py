"""Settling what was provisional: a fault counted before its cause was known is moved to where it belongs.

When ranks lose a peer and a launcher hangs up, the crew goes on at once, and the fault is counted as a
failure for the time being. Seconds later the pod itself says how it ended. An eviction is then moved to the
preemptions, an exit code that must not be retried fails the job, and anything else stays a failure.

A pod that says nothing is deleted, and that tells: where its kubelet lives it goes, and the fault was the worker's own;
where it does not go in its time, the node is dead, and no program is to blame.
"""

from __future__ import annotations

from typing import Literal

from rowlock.api.v1alpha1 import IncidentStatus
from rowlock_operator.core.draft import Draft
from rowlock_operator.core.finish import fail
from rowlock_operator.core.incidents import DISRUPTION_REASONS, Incident, is_retryable, judge, node_lost
from rowlock_operator.core.membership import overdue_at
from rowlock_operator.core.model import Pod

#: Seconds an unsettled fault waits for the pod's own account: the kubelet needs one or two, a busy one more.
SETTLE_SECONDS = 10.0
#: Unsettled faults kept; with more, the oldest stays what it was counted as.
UNSETTLED_KEPT = 16


def keep_unsettled(draft: Draft, record: IncidentStatus) -> None:
    """Remember a fault counted as a failure whose cause is not known yet."""
    unsettled = draft.status.unsettled
    unsettled.append(record)
    while len(unsettled) > UNSETTLED_KEPT:
        _stays_failure(draft, unsettled[0])


def settling(draft: Draft, pod_uid: str) -> bool:
    """Return whether a pod is still to say how it ended; it must not be deleted before."""
    return any(one.pod_uid == pod_uid and not one.removing for one in draft.status.unsettled)


def settle(draft: Draft) -> None:
    """Settle what can be settled by now."""
    for record in list(draft.status.unsettled):
        pod = draft.pod(record.worker)
        deleted = Incident("preemption", "PodDeleted", f"worker {record.worker}: its pod was deleted", record.worker)
        if record.removing:
            _settle_removed(draft, record, pod)
        elif pod is None or pod.uid != record.pod_uid:
            _settle(draft, record, deleted)
        elif pod.phase == "Failed":
            _settle(draft, record, judge(pod))
        elif pod.deleting_since is not None:
            _settle(draft, record, deleted)
        elif draft.passed(record.time, SETTLE_SECONDS):
            record.removing = True  # and remove it we do, for nobody waits for its word any more


def _settle_removed(draft: Draft, record: IncidentStatus, pod: Pod | None) -> None:
    """Settle the fault of a pod that we deleted, so that its deletion and its exit code are our own doing."""
    if pod is None or pod.uid != record.pod_uid:
        _is_failure(draft, record)
    elif pod.disrupted or pod.reason in DISRUPTION_REASONS:
        _settle(draft, record, judge(pod))
    elif pod.phase in ("Succeeded", "Failed"):
        _is_failure(draft, record)
    elif (due := overdue_at(pod)) is not None:
        if draft.now >= due:
            _settle(draft, record, node_lost(record.worker))
        else:
            draft.wake_at(due)


def _is_failure(draft: Draft, record: IncidentStatus) -> None:
    _stays_failure(draft, record)
    fail_if_spent(draft, "failure", record.message)


def settle_as_is(draft: Draft, pod_uid: str | None = None) -> None:
    """Leave a pod's fault what it was counted as, because we are about to delete the pod ourselves.

    Where it is being deleted to see whether it goes, that will still tell. Without a UID: leave all of them, because
    the job has ended.
    """
    for record in list(draft.status.unsettled):
        if pod_uid is None or (record.pod_uid == pod_uid and not record.removing):
            _stays_failure(draft, record)


def _settle(draft: Draft, record: IncidentStatus, truth: Incident) -> None:
    known = record.model_copy(update={"reason": truth.reason, "message": truth.message, "exit_code": truth.exit_code})
    if truth.kind == "preemption":
        _becomes_preemption(draft, record, known)
        return
    _stays_failure(draft, record, known)
    if not is_retryable(truth, draft.spec.recovery.retryable_exit_codes):
        fail(draft, "NotRetryable", f"{truth.message}. Exit code {truth.exit_code} is not retried")
    else:
        fail_if_spent(draft, "failure", truth.message)


def fail_if_spent(draft: Draft, kind: Literal["failure", "preemption"], message: str) -> bool:
    """Fail the job if a budget is spent; return whether it has failed.

    Not on a guess: while faults are unsettled, each of which may still turn out to be a preemption, failures wait for
    their end, and the crew goes on meanwhile.
    """
    recovery, status = draft.spec.recovery, draft.status
    if kind == "failure":
        spent = status.failures.count > recovery.max_failures and not status.unsettled
    else:
        spent = status.preemptions.count > recovery.max_preemptions
    if spent:
        name = "TooManyFailures" if kind == "failure" else "TooManyPreemptions"
        fail(draft, name, budget_words(draft, kind, message))
    return spent


def _stays_failure(draft: Draft, record: IncidentStatus, known: IncidentStatus | None = None) -> None:
    status = draft.status
    status.unsettled.remove(record)
    last = status.failures.last
    if last is None or last.time <= record.time:
        status.failures.last = known or record


def _becomes_preemption(draft: Draft, record: IncidentStatus, known: IncidentStatus) -> None:
    status = draft.status
    status.unsettled.remove(record)
    status.failures.count -= 1
    status.failures_without_progress = max(0, status.failures_without_progress - 1)
    if record.generation == status.generation - 1:
        status.not_before = None  # the backoff was for the failure that was none
    status.preemptions.count += 1
    last = status.preemptions.last
    if last is None or last.time <= known.time:
        status.preemptions.last = known
    if not fail_if_spent(draft, "preemption", known.message):
        # It was the last that was open, and other failures waited for it.
        fail_if_spent(draft, "failure", status.failures.last.message if status.failures.last else known.message)


def budget_words(draft: Draft, kind: str, message: str) -> str:
    """Return in words that a budget is spent."""
    recovery, status = draft.spec.recovery, draft.status
    if kind == "failure":
        return f"{status.failures.count} failures, recovery.maxFailures is {recovery.max_failures}; the last: {message}"
    return (
        f"{status.preemptions.count} preemptions, recovery.maxPreemptions is {recovery.max_preemptions}; "
        f"the last: {message}"
    )
