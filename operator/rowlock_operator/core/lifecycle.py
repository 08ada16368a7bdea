"""Starting, suspending, resuming, resizing and changing: what becomes of a crew because a person asked.

None of it counts as a failure or a preemption. A crew at work is asked to save first, so that nothing is
lost; one that cannot answer is given the pods' own grace period and no more. A save that has begun is
finished even if the wish is taken back meanwhile, because half of the ranks may have ended by then.
"""

from __future__ import annotations

from datetime import timedelta

from rowlock_operator.core.draft import Draft, to_text
from rowlock_operator.core.incidents import RETURN_SECONDS
from rowlock_operator.core.membership import adopt, fit_members, remove
from rowlock_operator.core.recovery import begin_generation
from rowlock_operator.core.settlement import settle_as_is

_WORDS = {
    "Resuming": "going on with {workers} workers",
    "Resizing": "going on with {workers} workers instead of {had}",
    "SpecChanged": "going on with pods of the changed spec",
}


def reform(draft: Draft) -> bool:
    """Give the job the crew that its spec asks for; return True while an older crew is saving for it."""
    why = _why_reform(draft)
    if why is None:
        draft.status.spec_hash = draft.spec_hash
        return False
    if (_ranks_at_work(draft) or _may_return(draft)) and not _patience_over(draft, why):
        return True
    if draft.holds("Saving") and _ranks_at_work(draft):
        _tell_timed_out(draft)
    if why in _WORDS:
        words = _WORDS[why].format(workers=draft.spec.workers, had=draft.status.workers.wanted)
        draft.tell("Normal", "Reformed" if why != "Resuming" else "Resumed", words)
    _new_crew(draft)
    return False


def suspend(draft: Draft) -> None:
    """Let the crew save, then take its pods away. The claim stays."""
    status = draft.status
    if status.phase not in ("Suspending", "Suspended"):
        draft.tell("Normal", "Suspending", "spec.suspend is true: saving, then stopping all workers")
    status.not_before = None
    status.start_time = None  # the deadline's clock starts anew when the job does
    impatient = bool(draft.observed.pods) and _patience_over(draft, "Suspending")
    if impatient and _ranks_at_work(draft):
        _tell_timed_out(draft)
    for pod in draft.observed.pods:
        if impatient or pod.deleting_since is not None or pod.terminal or not _at_work(draft, pod.worker):
            settle_as_is(draft, pod.uid)
            remove(draft, pod)
    if draft.observed.pods:
        status.phase = "Suspending"
        return
    if status.phase != "Suspended":
        status.phase = "Suspended"
        kept = status.last_checkpoint
        at = f"; the newest checkpoint is of step {kept.step}" if kept is not None else ""
        draft.tell("Normal", "Suspended", f"all workers stopped, the claim is kept{at}")
    draft.set_condition("Suspended", "True", "Suspended", "spec.suspend is true")
    stop_saving(draft)
    fit_members(draft, 0)


def remove_surplus(draft: Draft) -> None:
    """Delete pods beyond the crew's size."""
    for pod in draft.observed.pods:
        if pod.worker >= len(draft.members):
            settle_as_is(draft, pod.uid)
            remove(draft, pod)


def _why_reform(draft: Draft) -> str | None:
    status, saving = draft.status, draft.condition("Saving")
    if status.phase in ("Suspended", "Suspending"):
        return "Resuming"
    if status.start_time is None:
        return "Starting"
    if status.workers.wanted != draft.spec.workers:
        return "Resizing"
    if status.spec_hash not in ("", draft.spec_hash):
        return "SpecChanged"
    if saving is not None and saving.status == "True":
        return saving.reason
    return None


def _new_crew(draft: Draft) -> None:
    status, fingerprint = draft.status, draft.spec_hash
    if status.phase in ("Suspended", "Suspending"):
        draft.set_condition("Suspended", "False", "Resumed", "")
        status.phase = "Pending"
        status.start_time = None
    if status.start_time is None:
        status.start_time = to_text(draft.now)
    changed = status.spec_hash not in ("", fingerprint)
    status.spec_hash = fingerprint
    status.not_before = None
    fit_members(draft, draft.spec.workers)
    adopt(draft)
    begin_generation(draft, lost={member.index for member in draft.members} if changed else set())
    stop_saving(draft)


def _at_work(draft: Draft, worker: int) -> bool:
    launcher = draft.launcher(worker)
    return launcher is not None and launcher.connected and launcher.report.phase in ("starting", "ready", "running")


def _ranks_at_work(draft: Draft) -> bool:
    return any(_at_work(draft, member.index) for member in draft.members)


def _may_return(draft: Draft) -> bool:
    """Whether ranks may be at work of which this operator does not hear just now: it has only begun, or lines broke.

    Their launchers are back in a short while; to form the crew anew before would cost what they have not saved.
    """
    waits = False
    for member in draft.members:
        pod, launcher = draft.pod(member.index), draft.launcher(member.index)
        runs = pod is not None and pod.uid == member.pod_uid and member.phase == "Running"
        if not runs or (launcher is not None and launcher.connected):
            continue
        since = [draft.observed.listening_since, launcher.last_seen if launcher is not None else None]
        known = [moment for moment in since if moment is not None]
        due = max(known) + timedelta(seconds=RETURN_SECONDS) if known else draft.now
        if draft.now < due:
            draft.wake_at(due)
            waits = True
    return waits


def _tell_timed_out(draft: Draft) -> None:
    grace = draft.spec.template.spec.termination_grace_period_seconds
    words = f"the crew had not saved after {grace} s (terminationGracePeriodSeconds)"
    saving = draft.condition("Saving")
    if saving is None or saving.reason != "SaveTimedOut":
        draft.tell("Warning", "SaveTimedOut", words)
    draft.set_condition("Saving", "True", "SaveTimedOut", words)


def stop_saving(draft: Draft) -> None:
    """Say that nobody is asked to save any more."""
    saving = draft.condition("Saving")
    if saving is None or saving.status != "True":
        return
    if saving.reason == "SaveTimedOut":
        draft.set_condition("Saving", "False", "SaveTimedOut", saving.message)
    else:
        draft.set_condition("Saving", "False", "Stopped", "the crew's ranks have ended")


def _patience_over(draft: Draft, why: str) -> bool:
    """Return whether the crew had its grace period to save; the clock starts at the first call."""
    saving = draft.condition("Saving")
    if saving is None or saving.status != "True":
        draft.set_condition("Saving", "True", why, "the crew was asked to save")
        saving = draft.condition("Saving")
    grace = draft.spec.template.spec.termination_grace_period_seconds
    return saving is not None and draft.passed(saving.last_transition_time, grace)
