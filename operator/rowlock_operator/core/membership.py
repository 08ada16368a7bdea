"""Who is in the crew: which pod has which worker's place.

A place is the pair of a worker index and the UID of the pod that holds it, written to status. It is the
only memory that tells a pod that was counted as lost from a new one of the same name, and so what makes
every loss count exactly once however often the operator dies in between.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from rowlock.api.v1alpha1 import WorkerStatus
from rowlock_operator.core.draft import Draft
from rowlock_operator.core.model import DeletePod, Pod

#: Seconds past a pod's own grace after which a pod that will not go is force-deleted: its node is most
#: likely dead. The kubelet itself needs a few seconds past the grace on a busy node.
FORCE_AFTER_SECONDS = 30.0


def fit_members(draft: Draft, workers: int) -> None:
    """Give the crew `workers` places; places beyond are given up."""
    members = draft.members[:workers]
    members += [WorkerStatus(index=index) for index in range(len(members), workers)]
    draft.status.workers.members = members
    draft.status.workers.wanted = workers


def adopt(draft: Draft) -> list[int]:
    """Bring each place up to what is observed and return the workers whose pod vanished uncounted."""
    vanished = []
    for member in draft.members:
        pod = draft.pod(member.index)
        if member.phase == "Done" and pod is None:
            continue  # its part is done, and stays so
        if member.pod_uid and (pod is None or pod.uid != member.pod_uid):
            # One that had not joined this generation went with the one before, and was counted with it.
            if member.phase != "Lost" and member.joined >= draft.status.generation:
                vanished.append(member.index)
            member.pod_uid, member.phase = "", "Absent"
        if pod is None or member.phase == "Lost":
            continue
        if not member.pod_uid:
            if pod.deleting_since is not None or is_outdated(draft, pod):
                continue  # never had a place, and is going or must go
            member.pod_uid, member.joined = pod.uid, draft.status.generation
        if member.phase != "Done":
            member.phase = "Running" if pod.phase == "Running" else "Pending"
    return vanished


def mark_joined(draft: Draft) -> None:
    """Note the members whose launcher has moved on to this generation."""
    for launcher in draft.crew():
        if launcher.report.generation == draft.status.generation:
            draft.members[launcher.worker].joined = draft.status.generation


def is_outdated(draft: Draft, pod: Pod) -> bool:
    """Return whether a pod was made from an older spec."""
    return pod.spec_hash not in ("", draft.spec_hash)


def overdue_at(pod: Pod) -> datetime | None:
    """Return when a pod that is being deleted should have been gone for long; None when it is not."""
    if pod.deleting_since is None:
        return None
    return pod.deleting_since + timedelta(seconds=pod.grace_seconds + FORCE_AFTER_SECONDS)


def remove(draft: Draft, pod: Pod, *, grace_seconds: int | None = None) -> None:
    """Delete a pod; one that has ended at once, one that will not go by force after its time."""
    due = overdue_at(pod)
    if pod.terminal and not pod.lingering:
        draft.act(DeletePod(pod.worker, pod.uid, 0))
    elif due is None:
        draft.act(DeletePod(pod.worker, pod.uid, grace_seconds))
    elif draft.now >= due:
        draft.act(DeletePod(pod.worker, pod.uid, 0))
    else:
        draft.wake_at(due)
