"""Starting, suspending, resuming and resizing: the changes of a crew that a person asked for.

None of them counts as a failure or a preemption. A running crew is asked to save first, so that nothing
is lost; one that cannot answer is given the pods' own grace period and no more.
"""

from __future__ import annotations

from rowlock_operator.core.draft import Draft, to_text
from rowlock_operator.core.membership import adopt, fit_members, remove
from rowlock_operator.core.recovery import begin_generation


def start_or_resume(draft: Draft) -> None:
    """Make a job active that was not: new, or suspended until now."""
    status = draft.status
    if status.phase in ("Suspended", "Suspending"):
        draft.set_condition("Suspended", "False", "Resumed", "")
        draft.tell("Normal", "Resumed", f"going on with {draft.spec.workers} workers")
        status.phase = "Pending"
        status.start_time = None
    if status.start_time is None:
        status.start_time = to_text(draft.now)
        _new_crew(draft)


def resize(draft: Draft) -> bool:
    """Bring the crew to spec.workers; return True while the old crew is still saving for it."""
    wanted, had = draft.spec.workers, draft.status.workers.wanted
    if wanted == had:
        return False
    if _ranks_at_work(draft) and not _patience_over(draft, "Resizing"):
        return True
    draft.tell("Normal", "Resized", f"from {had} to {wanted} workers")
    _new_crew(draft)
    return False


def suspend(draft: Draft) -> None:
    """Let the crew save, then take its pods away. The claim stays."""
    status = draft.status
    if status.phase not in ("Suspending", "Suspended"):
        draft.tell("Normal", "Suspending", "spec.suspend is true: saving, then stopping all workers")
    status.not_before = None
    status.start_time = None  # the deadline's clock stands still
    impatient = bool(draft.observed.pods) and _patience_over(draft, "Suspending")
    for pod in draft.observed.pods:
        if impatient or pod.deleting_since is not None or pod.terminal or not _at_work(draft, pod.worker):
            remove(draft, pod)
    if draft.observed.pods:
        status.phase = "Suspending"
        return
    if status.phase != "Suspended":
        status.phase = "Suspended"
        step = f" at step {status.progress.step}" if status.progress is not None else ""
        draft.tell("Normal", "Suspended", f"all workers stopped{step}; the claim is kept")
    draft.set_condition("Suspended", "True", "Suspended", "spec.suspend is true")
    _saved(draft)
    fit_members(draft, 0)


def remove_surplus(draft: Draft) -> None:
    """Delete pods beyond the crew's size."""
    for pod in draft.observed.pods:
        if pod.worker >= len(draft.members):
            remove(draft, pod)


def _new_crew(draft: Draft) -> None:
    fit_members(draft, draft.spec.workers)
    adopt(draft)
    begin_generation(draft, lost=set())
    _saved(draft)


def _at_work(draft: Draft, worker: int) -> bool:
    launcher = draft.launcher(worker)
    return launcher is not None and launcher.connected and launcher.report.phase in ("starting", "ready", "running")


def _ranks_at_work(draft: Draft) -> bool:
    return any(_at_work(draft, member.index) for member in draft.members)


def _saved(draft: Draft) -> None:
    if draft.holds("Saving"):
        draft.set_condition("Saving", "False", "Saved", "the crew has stopped")


def _patience_over(draft: Draft, why: str) -> bool:
    """Return whether the crew had its grace period to save; the clock starts at the first call."""
    draft.set_condition("Saving", "True", why, "the crew was asked to save")
    saving = draft.condition("Saving")
    grace = draft.spec.template.spec.termination_grace_period_seconds
    return saving is not None and draft.passed(saving.last_transition_time, grace)
