"""The objects a crew needs: claim, service, Secret, NetworkPolicy, and one pod for each empty place."""

from __future__ import annotations

from rowlock_operator.core.draft import Draft, to_moment
from rowlock_operator.core.membership import is_outdated, remove
from rowlock_operator.core.model import CreateClaim, CreateNetworkPolicy, CreatePod, CreateSecret, CreateService
from rowlock_operator.core.settlement import settling


def ensure_objects(draft: Draft) -> None:
    """Ask for what is missing, in the order the shell carries it out.

    Pods only on a volume that can be, and only once nobody else can reach them where they are to be isolated. Those
    that run already run on.
    """
    storage_ready = _ensure_claim(draft)
    if not draft.observed.service:
        draft.act(CreateService())
    if not draft.observed.secret:
        draft.act(CreateSecret())
    if not draft.observed.isolated:
        draft.act(CreateNetworkPolicy())
    _replace_lost(draft)
    if storage_ready and not held_back(draft) and draft.observed.isolated:
        _fill_places(draft)


def held_back(draft: Draft) -> bool:
    """Return whether the backoff still runs; if so, wake when it ends."""
    until = draft.status.not_before
    if until is None:
        return False
    due = to_moment(until)
    if draft.now >= due:
        draft.status.not_before = None
        return False
    draft.wake_at(due)
    return True


def _ensure_claim(draft: Draft) -> bool:
    claim, named = draft.observed.claim, draft.spec.checkpoint.storage.claim_name
    if claim is None and named is not None:
        draft.set_condition(
            "StorageReady",
            "False",
            "ClaimNotFound",
            f"spec.checkpoint.storage.claimName: there is no PersistentVolumeClaim {named!r} in namespace "
            f"{draft.job.namespace!r}; create it, or leave claimName out to have one made",
        )
        return False
    if claim is None:
        draft.act(CreateClaim())
        draft.set_condition("StorageReady", "False", "ClaimRequested", "the claim is being created")
        return True
    if claim.deleting:
        draft.set_condition(
            "StorageReady", "False", "ClaimDeleting", f"PersistentVolumeClaim {claim.name!r} is being deleted"
        )
        return False
    if claim.phase == "Lost":
        draft.set_condition(
            "StorageReady", "False", "ClaimLost", f"PersistentVolumeClaim {claim.name!r} lost its volume"
        )
        return False
    if claim.phase == "Bound":
        draft.set_condition("StorageReady", "True", "ClaimBound", f"PersistentVolumeClaim {claim.name!r} is bound")
    else:
        draft.set_condition(
            "StorageReady",
            "False",
            "ClaimPending",
            f"PersistentVolumeClaim {claim.name!r} waits for its volume",
        )
    return True


def _replace_lost(draft: Draft) -> None:
    for member in draft.members:
        pod = draft.pod(member.index)
        if pod is None or settling(draft, pod.uid):
            continue
        # A pod without a place is going already, or was made from an older spec and has to.
        placeless = not member.pod_uid and (pod.deleting_since is not None or is_outdated(draft, pod))
        if member.phase == "Lost" or placeless:
            remove(draft, pod)


def _fill_places(draft: Draft) -> None:
    for member in draft.members[: draft.spec.workers]:  # a crew about to shrink needs no new pods beyond
        if not member.pod_uid and draft.pod(member.index) is None:
            draft.act(CreatePod(member.index))
