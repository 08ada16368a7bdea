"""The operator's one decision: from the job and what is observed to what shall be done.

Pure: no I/O, no clock but `now`, no memory but the job's own status. The same function drives a cluster
and a laptop, and its tests need neither. Read it from top to bottom; each line is a file beside this one.

The order of things is the whole trick of counting exactly once: the status returned here is written
before anything else is done, and an incident is counted in the same write that begins the next generation
and takes the lost pod's place away. Whoever dies in between, the next round finds either nothing done, or
all of it counted.
"""

from __future__ import annotations

from datetime import datetime

from rowlock_operator.core.draft import Draft
from rowlock_operator.core.finish import deadline_passed, fail, missed_deadline, succeed, tidy_up
from rowlock_operator.core.incidents import find_incident
from rowlock_operator.core.lifecycle import reform, remove_surplus, stop_saving, suspend
from rowlock_operator.core.membership import adopt, mark_joined
from rowlock_operator.core.model import Decision, Job, Observed
from rowlock_operator.core.objects import ensure_objects, held_back
from rowlock_operator.core.orders import all_done, give_order, mark_done
from rowlock_operator.core.recovery import recover, write_off
from rowlock_operator.core.report import describe, take_reports
from rowlock_operator.core.settlement import settle, settle_as_is

#: Parts of the status whose change alone may wait its turn to be written.
MINOR_FIELDS = ("progress", "last_checkpoint")


def decide(job: Job, observed: Observed, now: datetime) -> Decision:
    """Return what shall be done about `job`, given everything observed at `now` (timezone-aware)."""
    draft = Draft(job, observed, now, status=job.status.model_copy(deep=True))
    if job.deleting:
        return Decision(status=draft.status)  # garbage collection does the rest; the claim is not its
    if not draft.finished:
        _advance(draft)
    if draft.finished:
        _finished(draft)
    return _decision(draft)


def _finished(draft: Draft) -> None:
    """A job that has ended: its launchers leave, a crew that missed its deadline after saving."""
    saves = missed_deadline(draft) and any(not pod.terminal for pod in draft.observed.pods)
    give_order(draft, "save" if saves else "leave", f"the job has {draft.status.phase.lower()}")
    settle_as_is(draft)
    if not saves:
        stop_saving(draft)
    tidy_up(draft)
    describe(draft)


def _advance(draft: Draft) -> None:
    """One round of a job that has not ended."""
    vanished = adopt(draft)
    mark_joined(draft)
    settle(draft)
    mark_done(draft)
    take_reports(draft)
    if draft.finished:
        return
    if all_done(draft):
        succeed(draft)
    elif draft.spec.suspend:
        _suspended(draft)
    elif deadline_passed(draft):
        fail(draft, "DeadlineExceeded", f"active for longer than {draft.spec.active_deadline_seconds} s")
    else:
        _active(draft, vanished)


def _suspended(draft: Draft) -> None:
    suspend(draft)
    give_order(draft, "save" if draft.observed.pods else "hold", "the job is suspended")
    describe(draft)


def _active(draft: Draft, vanished: list[int]) -> None:
    saving = reform(draft)
    # What happened to a crew that was just replaced by a person's wish is nobody's fault.
    replaced = draft.status.generation != draft.job.status.generation
    if not saving and not replaced:
        write_off(draft)
        incident = find_incident(draft, vanished)
        if incident is not None:
            recover(draft, incident)
    deadline_passed(draft)  # not yet, or we were not here; asking sets the alarm for a crew begun just now
    if draft.finished:
        return
    remove_surplus(draft)
    ensure_objects(draft)
    if saving:
        give_order(draft, "save", "the crew is being formed anew")
    elif held_back(draft):
        give_order(draft, "hold", "waiting before the next try")
    else:
        give_order(draft, "run")
    describe(draft, saving=saving)


def _decision(draft: Draft) -> Decision:
    old, new = draft.job.status, draft.status
    minor = new != old and new == old.model_copy(update={name: getattr(new, name) for name in MINOR_FIELDS})
    return Decision(
        status=new,
        actions=tuple(draft.actions),
        order=draft.order,
        events=tuple(draft.events),
        requeue_after=draft.wake_after,
        minor=minor,
    )
