"""Who is in the crew: which pod has which worker's place.

A place is the pair of a worker index and the UID of the pod that holds it, written to status. It is the
only memory that tells a pod that was counted as lost from a new one of the same name, and so what makes
every loss count exactly once however often the operator dies in between.
"""

from __future__ import annotations

from datetime import timedelta

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
        if member.pod_uid and (pod is None or pod.uid != member.pod_uid):
            if member.phase != "Lost":
                vanished.append(member.index)
            member.pod_uid, member.phase = "", "Absent"
        if pod is None or member.phase == "Lost":
            continue
        if not member.pod_uid:
            if pod.deleting_since is not None:
                continue  # never had a place, and is going
            member.pod_uid = pod.uid
        if member.phase != "Done":
            member.phase = "Running" if pod.phase == "Running" else "Pending"
    return vanished


def remove(draft: Draft, pod: Pod, *, grace_seconds: int | None = None) -> None:
    """Delete a pod; one that has ended at once, one that will not go by force after its time."""
    if pod.terminal:
        draft.act(DeletePod(pod.worker, pod.uid, 0))
    elif pod.deleting_since is None:
        draft.act(DeletePod(pod.worker, pod.uid, grace_seconds))
    else:
        due = pod.deleting_since + timedelta(seconds=pod.grace_seconds + FORCE_AFTER_SECONDS)
        if draft.now >= due:
            draft.act(DeletePod(pod.worker, pod.uid, 0))
        else:
            draft.wake_at(due)
