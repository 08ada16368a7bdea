"""What the crew is told: one order, derived afresh each time from the status that was written."""

from __future__ import annotations

from rowlock.protocol import Order, OrderPhase
from rowlock_operator.core.draft import Draft


def give_order(draft: Draft, phase: OrderPhase, reason: str = "") -> None:
    """Set the order of this round."""
    draft.order = Order(
        generation=draft.status.generation,
        phase=phase,
        workers=draft.status.workers.wanted,
        processes_per_worker=draft.spec.processes_per_worker,
        store=_store(draft) if phase in ("run", "save") else "",
        members=tuple("" if member.phase == "Lost" else member.pod_uid for member in draft.members),
        reason=reason,
    )


def in_generation(draft: Draft) -> int:
    """Return how many members have launchers that stand in the current generation, ready or further."""
    return sum(
        one.connected
        and one.report.generation == draft.status.generation
        and one.report.phase in ("ready", "running", "done")
        for one in draft.crew()
    )


def training(draft: Draft) -> bool:
    """Return whether the whole crew has its store and trains, as far as is known."""
    current = [one for one in draft.crew() if one.report.generation == draft.status.generation]
    at_work = sum(one.report.phase in ("running", "done") for one in current)
    return bool(draft.members) and at_work == len(draft.members)


def all_done(draft: Draft) -> bool:
    """Return whether every worker has finished the job."""
    return bool(draft.members) and all(member.phase == "Done" for member in draft.members)


def mark_done(draft: Draft) -> None:
    """Note the workers that have finished: their launcher says so, or their pod ended with 0."""
    for member in draft.members:
        if member.pod_uid and member.phase != "Lost" and is_done(draft, member.index):
            member.phase = "Done"


def is_done(draft: Draft, worker: int) -> bool:
    """Return whether a worker has finished *this* generation.

    Its launcher says so, or its pod ended with 0 while its launcher stood in this generation: one that is cut off
    trains to the end and goes without being heard. A pod of which no launcher is known is done too if nobody is
    left to say so, as after a long absence of the operator; but not if the rest of the crew is only about to
    begin: then it was done with an older generation.
    """
    launcher, pod = draft.launcher(worker), draft.pod(worker)
    ended_well = pod is not None and pod.phase == "Succeeded"
    if launcher is not None:
        current = launcher.report.generation == draft.status.generation
        return current and (launcher.report.phase == "done" or (ended_well and launcher.report.phase == "running"))
    if not ended_well:
        return False
    return not any(
        one.report.generation == draft.status.generation and one.report.phase in ("idle", "starting", "ready")
        for one in draft.crew()
    )


def _store(draft: Draft) -> str:
    """Return the store's address once the crew is complete; it stays given while anyone trains by it."""
    first = draft.launcher(0) if draft.members else None
    if first is None or first.report.generation != draft.status.generation:
        return ""
    complete = in_generation(draft) == len(draft.members)
    under_way = any(
        one.report.generation == draft.status.generation and one.report.phase in ("running", "done")
        for one in draft.crew()
    )
    return first.report.store if complete or under_way else ""
