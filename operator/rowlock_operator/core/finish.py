"""The end of a job: how it ends, and what is cleaned away after."""

from __future__ import annotations

from typing import Literal

from rowlock_operator.core.draft import Draft, to_text
from rowlock_operator.core.membership import remove
from rowlock_operator.core.model import DeleteJob

#: Seconds a launcher gets to leave by itself after the end, before its pod is deleted. Its pod then stays
#: as a completed one, and its logs with it.
LEAVE_SECONDS = 60.0


def succeed(draft: Draft) -> None:
    """End the job well."""
    steps = f" after step {draft.status.progress.step}" if draft.status.progress is not None else ""
    _end(draft, "Succeeded", "TrainingComplete", f"training finished{steps}")


def fail(draft: Draft, reason: str, message: str) -> None:
    """End the job badly; the claim and every checkpoint on it stay."""
    _end(draft, "Failed", reason, message)


def _end(draft: Draft, phase: Literal["Succeeded", "Failed"], reason: str, message: str) -> None:
    if draft.finished:
        return
    draft.status.phase = phase
    draft.status.completion_time = to_text(draft.now)
    draft.status.not_before = None
    draft.set_condition("Succeeded", "True" if phase == "Succeeded" else "False", reason, message)
    draft.set_condition("Failed", "True" if phase == "Failed" else "False", reason, message)
    draft.tell("Normal" if phase == "Succeeded" else "Warning", reason, message)


def tidy_up(draft: Draft) -> None:
    """Let launchers leave, delete pods that will not end by themselves, and the job when its time is up."""
    ended = draft.status.completion_time or to_text(draft.now)
    for pod in draft.observed.pods:
        if pod.terminal and not pod.lingering:
            continue
        # A pod that runs leaves by itself, and stays with its logs; one that never started has none to keep.
        # Containers beside the trainer get the same time, then they hold the node no longer.
        leaves_alone = pod.deleting_since is None and not missed_deadline(draft) and (pod.phase != "Pending")
        if not leaves_alone or draft.passed(ended, LEAVE_SECONDS):
            remove(draft, pod)
    ttl = draft.spec.ttl_seconds_after_finished
    if ttl is not None and draft.passed(ended, ttl):
        draft.act(DeleteJob())


def missed_deadline(draft: Draft) -> bool:
    """Return whether the job failed by its deadline: its crew is healthy, and saves before it goes."""
    failed = draft.condition("Failed")
    return failed is not None and failed.status == "True" and failed.reason == "DeadlineExceeded"


def deadline_passed(draft: Draft) -> bool:
    """Return whether activeDeadlineSeconds is over; otherwise wake when it will be."""
    limit, start = draft.spec.active_deadline_seconds, draft.status.start_time
    if limit is None or start is None:
        return False
    return draft.passed(start, limit)
