"""A pod, a claim and a job as the API server tells them, in the words of the core.

Pure conversion of plain JSON. It is forgiving towards what is missing, because a pod's status is filled
in by several hands and in any order, and strict about one thing only: whose the object is.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast, get_args

from rowlock.api.v1alpha1 import KIND, TRAINER_CONTAINER
from rowlock_operator.core.model import Claim, Pod, PodPhase
from rowlock_operator.resources.names import ANNOTATION_SPEC_HASH, LABEL_WORKER

#: Reasons of a waiting container that are the ordinary way of starting.
ORDINARY_WAITS = frozenset({"", "ContainerCreating", "PodInitializing"})
#: Grace the API server assumes when a pod says none, in seconds (core/v1 default).
DEFAULT_GRACE_SECONDS = 30
CLAIM_PHASES = ("Pending", "Bound", "Lost")

Json = dict[str, Any]


def owner_uid(body: Json) -> str | None:
    """Return the UID of the job that controls an object, None when no job does."""
    for reference in body["metadata"].get("ownerReferences") or []:
        if reference.get("kind") == KIND and reference.get("controller"):
            return str(reference.get("uid"))
    return None


def pod_of(body: Json) -> Pod | None:
    """Return the worker pod that `body` is, None when it carries no worker index."""
    meta, status = body["metadata"], body.get("status") or {}
    index = (meta.get("labels") or {}).get(LABEL_WORKER, "")
    if not index.isdecimal():
        return None
    trainer = _trainer_state(status)
    ended, started = trainer.get("terminated"), (trainer.get("running") or {}).get("startedAt")
    reason, message = _cause(status, ended)
    waiting_reason, waiting_message = _waiting(status)
    grace = _grace_seconds(body)
    disruption = _condition(status, "DisruptionTarget")
    return Pod(
        worker=int(index),
        uid=meta["uid"],
        phase=_phase(status, ended),
        ready=_condition(status, "Ready").get("status") == "True",
        deleting_since=_deletion_asked(meta, grace),
        grace_seconds=grace,
        exit_code=None if ended is None else _exit_code(ended),
        reason=reason,
        message=message,
        disrupted=disruption.get("status") == "True",
        disruption=str(disruption.get("reason", "")) if disruption.get("status") == "True" else "",
        waiting_reason=waiting_reason,
        waiting_message=waiting_message,
        unschedulable=_unschedulable(status),
        running_since=parse_time(started) if started else None,
        lingering=ended is not None and _others_run(status),
        spec_hash=str((meta.get("annotations") or {}).get(ANNOTATION_SPEC_HASH, "")),
    )


def claim_of(body: Json, job_uid: str) -> Claim:
    """Return the claim that `body` is, as the job of `job_uid` may see it.

    A claim that belongs to an earlier job of the same name is as good as deleted: the garbage collector
    is on its way to it.
    """
    meta = body["metadata"]
    phase = (body.get("status") or {}).get("phase", "Pending")
    owner = owner_uid(body)
    return Claim(
        name=meta["name"],
        phase=phase if phase in CLAIM_PHASES else "Pending",
        deleting=bool(meta.get("deletionTimestamp")) or (owner is not None and owner != job_uid),
    )


def parse_time(text: str) -> datetime:
    """Return an RFC 3339 time of the API server, in UTC."""
    return datetime.fromisoformat(text).astimezone(UTC)


def _phase(status: Json, ended: Json | None) -> PodPhase:
    """The pod's phase, but for a trainer that ended while containers beside it still run: that is the end."""
    phase = status.get("phase", "Pending")
    if phase == "Running" and ended is not None:
        return "Succeeded" if _exit_code(ended) == 0 else "Failed"
    return cast("PodPhase", phase) if phase in get_args(PodPhase) else "Unknown"


def _trainer_state(status: Json) -> Json:
    for container in status.get("containerStatuses") or []:
        if container.get("name") == TRAINER_CONTAINER:
            return container.get("state") or {}
    return {}


def _others_run(status: Json) -> bool:
    """Whether a container beside the trainer still runs. Init containers that go on are the kubelet's to end."""
    return any("running" in (container.get("state") or {}) for container in status.get("containerStatuses") or [])


def _exit_code(ended: Json) -> int:
    """The exit code; container runtimes report a signal either as 128 + n already, or beside a code of 0."""
    code, signal = int(ended.get("exitCode") or 0), int(ended.get("signal") or 0)
    return 128 + signal if signal and not code else code


def _cause(status: Json, ended: Json | None) -> tuple[str, str]:
    """Why the pod ended: its own reason (Evicted, ...), else the trainer's, else another container's."""
    if status.get("reason"):
        return str(status["reason"]), str(status.get("message") or "")
    if ended is not None:
        return str(ended.get("reason") or ""), str(ended.get("message") or "")
    if status.get("phase") != "Failed":
        return "", ""
    for container in (status.get("initContainerStatuses") or []) + (status.get("containerStatuses") or []):
        end = (container.get("state") or {}).get("terminated")
        if end and _exit_code(end) != 0:
            words = f"container {container.get('name')!r} ended with exit code {_exit_code(end)}"
            detail = str(end.get("message") or "")
            return str(end.get("reason") or "Error"), f"{words}: {detail}" if detail else words
    return "", str(status.get("message") or "")


def _waiting(status: Json) -> tuple[str, str]:
    for container in (status.get("initContainerStatuses") or []) + (status.get("containerStatuses") or []):
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason", "") not in ORDINARY_WAITS:
            words = str(waiting.get("message") or "")
            return str(waiting["reason"]), f"container {container.get('name')!r}: {words}" if words else ""
    return "", ""


def _unschedulable(status: Json) -> str:
    scheduled = _condition(status, "PodScheduled")
    # The scheduler's own trouble (a claim that was changed under its hands, as the first pod's always may be) is over
    # at its next try, a second later: nothing for a person to mend.
    if scheduled.get("status") != "False" or scheduled.get("reason") == "SchedulerError":
        return ""
    return str(scheduled.get("message") or scheduled.get("reason") or "Unschedulable")


def _condition(status: Json, kind: str) -> Json:
    return next((item for item in status.get("conditions") or [] if item.get("type") == kind), {})


def _grace_seconds(body: Json) -> int:
    for value in (
        body["metadata"].get("deletionGracePeriodSeconds"),
        (body.get("spec") or {}).get("terminationGracePeriodSeconds"),
    ):
        if value is not None:
            return int(value)
    return DEFAULT_GRACE_SECONDS


def _deletion_asked(meta: Json, grace: int) -> datetime | None:
    """When deletion was asked for. deletionTimestamp lies in the future: it is when the grace ends."""
    if not meta.get("deletionTimestamp"):
        return None
    return parse_time(meta["deletionTimestamp"]) - timedelta(seconds=grace)
