"""The user's window: progress, checkpoint, conditions and phase, as they truly are."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

from rowlock.api.v1alpha1 import CheckpointStatus, Phase, ProgressStatus
from rowlock.protocol import LEASE_SECONDS, Progress, Report
from rowlock_operator.core.draft import Draft, to_text
from rowlock_operator.core.incidents import UNHEARD_WORDS, unheard
from rowlock_operator.core.orders import in_generation, training

#: Kubernetes' words for a container that cannot start, and ours for the condition.
WAITING_REASONS = {
    "ErrImagePull": "ImagePullFailed",
    "ImagePullBackOff": "ImagePullFailed",
    "InvalidImageName": "ImagePullFailed",
    "ImageInspectError": "ImagePullFailed",
    "RegistryUnavailable": "ImagePullFailed",
    "SignatureValidationFailed": "ImagePullFailed",
    "ErrImageNeverPull": "ImagePullFailed",
    "CreateContainerConfigError": "ContainerCannotStart",
    "CreateContainerError": "ContainerCannotStart",
    "RunContainerError": "ContainerCannotStart",
}

#: Phases in which launchers have something to say.
_CREW_PHASES = ("Starting", "Running", "Recovering")
UNHEARD_CREW_WORDS = (
    "no worker has been heard since {since}; training does not need the operator, but progress and checkpoint are "
    "shown as they were then. Can pods reach the coordinator (its address, a NetworkPolicy)?"
)
UNHEARD_AT_START_WORDS = (
    "no worker has been heard since {since}, and the crew cannot be formed without the operator. Can pods reach the "
    "coordinator (its address, a NetworkPolicy)?"
)


def take_reports(draft: Draft) -> None:
    """Copy what the crew's launchers say into status: progress, checkpoint, resume point, notices."""
    for launcher in draft.crew():
        report = launcher.report
        for notice in report.notices:
            draft.tell(
                "Normal" if notice.kind == "Resumed" else "Warning",
                notice.kind,
                notice.message,
                key=f"{launcher.pod_uid}/{notice.id}",
            )
        if report.generation != draft.status.generation:
            continue
        if report.progress is not None:
            draft.status.progress = progress_status(report.progress)
        elif launcher.worker == 0 and report.resumed_from >= 0:
            _go_back(draft, report.resumed_from)
        if launcher.worker == 0:
            _take_checkpoint(draft, report)


def _go_back(draft: Draft, step: int) -> None:
    """Show a generation that has not said how far it is where it went on from: what was done after that is lost."""
    progress = draft.status.progress
    if progress is not None and progress.step > step:
        percent = min(100, 100 * step // progress.total_steps) if progress.total_steps else 0
        draft.status.progress = progress.model_copy(update={"step": step, "percent": percent})


def _take_checkpoint(draft: Draft, report: Report) -> None:
    if report.resumed_from >= 0:
        draft.status.resumed_from_step = report.resumed_from
    note = report.checkpoint
    if note is not None:
        draft.status.last_checkpoint = CheckpointStatus(
            step=note.step, name=note.name, size_bytes=note.size_bytes, time=_clock(note.time)
        )
    elif report.resumed_from == 0:
        draft.status.last_checkpoint = None  # the crew looked and found none: the one known is gone


def progress_status(progress: Progress) -> ProgressStatus:
    """Return progress as status shows it; a number that JSON cannot hold becomes words."""
    total = max(progress.total_steps, 0)
    return ProgressStatus(
        step=max(progress.step, 0),
        total_steps=total,
        percent=min(100, 100 * max(progress.step, 0) // total) if total else 0,
        epoch=_number(progress.epoch, 2),
        loss=_number(progress.loss, 4),
        samples_per_second=_number(progress.samples_per_second, 1),
        seconds_left=int(min(max(progress.seconds_left, 0), 2**31)) if math.isfinite(progress.seconds_left) else 0,
        evaluation={name: _number(value, 4) for name, value in sorted(progress.evaluation.items())[:32]},
        time=_clock(progress.time),
    )


def _number(value: float, digits: int) -> str:
    if not math.isfinite(value):
        return str(value)  # nan, inf
    return f"{value:.{digits}f}" if abs(value) < 1e12 else f"{value:.{digits}e}"


def _clock(seconds: float) -> str:
    return to_text(datetime.fromtimestamp(seconds, tz=UTC))


def describe(draft: Draft, *, saving: bool = False) -> None:
    """Set phase, conditions and counts from what is true now."""
    status = draft.status
    status.observed_generation = draft.job.generation
    status.replicas = sum(not pod.terminal for pod in draft.observed.pods)
    status.selector = f"rowlock.dev/job={draft.job.name}"
    status.workers.ready = 0 if draft.finished else in_generation(draft)
    status.workers_ready = f"{status.workers.ready}/{status.workers.wanted or draft.spec.workers}"
    if not draft.finished and status.phase not in ("Suspending", "Suspended"):
        status.phase = _active_phase(draft)
    _ready(draft, saving=saving)
    _degraded(draft)
    for kind in ("Succeeded", "Failed", "Suspended"):
        if draft.condition(kind) is None:
            draft.set_condition(kind, "False", "NotYet" if kind != "Suspended" else "NotSuspended")


def _active_phase(draft: Draft) -> Phase:
    status = draft.status
    if training(draft) or (status.phase == "Running" and not _missing(draft) and not _fresh(draft)):
        return "Running"
    faults = [status.failures.last, status.preemptions.last, *status.unsettled]
    ended = [fault.generation for fault in faults if fault is not None]
    if (status.generation and status.generation - 1 in ended) or _broken(draft):
        return "Recovering"
    return "Starting" if any(pod.phase == "Running" for pod in draft.observed.pods) else "Pending"


def _missing(draft: Draft) -> bool:
    return any(member.phase not in ("Running", "Done") for member in draft.members)


def _broken(draft: Draft) -> bool:
    """Whether ranks of this generation ended, though the cause is still being looked for."""
    return any(one.report.phase == "ended" and one.report.generation == draft.status.generation for one in draft.crew())


def _fresh(draft: Draft) -> bool:
    """Whether this generation began in this very round, or is known not to train yet."""
    current = [one for one in draft.crew() if one.report.generation == draft.status.generation]
    began = draft.status.generation != draft.job.status.generation
    return began or any(one.report.phase in ("idle", "starting", "ready", "ended") for one in current)


def _ready(draft: Draft, *, saving: bool) -> None:
    status = draft.status
    if draft.finished:
        draft.set_condition("Ready", "False", "Finished", f"the job has {status.phase.lower()}")
    elif saving:
        draft.set_condition("Ready", "False", "Saving", "the crew saves before it is formed anew")
    elif status.phase in ("Suspending", "Suspended"):
        draft.set_condition("Ready", "False", status.phase, "spec.suspend is true")
    elif status.phase == "Running" and (words := crew_unheard(draft)) is not None:
        draft.set_condition("Ready", "Unknown", "CrewUnheard", words)
    elif status.phase == "Running":
        draft.set_condition("Ready", "True", "CrewTraining", f"generation {status.generation} trains")
    elif status.not_before is not None:
        draft.set_condition("Ready", "False", "BackingOff", f"next try at {status.not_before}")
    else:
        waiting = [str(member.index) for member in draft.members if not _stands(draft, member.index)]
        draft.set_condition(
            "Ready",
            "False",
            "WaitingForWorkers",
            f"generation {status.generation} waits for workers {', '.join(waiting)}",
        )


def crew_unheard(draft: Draft) -> str | None:
    """Say that no launcher at all has been heard for longer than a lease; None while one is.

    Then it is the operator that is cut off, or was away. What status says of a crew that trains is old; one that was
    not formed yet waits.
    """
    crew, said = draft.crew(), draft.condition("Ready")
    if any(one.connected for one in crew):
        return None
    if not crew and said is not None and said.reason == "CrewUnheard":
        return said.message  # when they were heard last is forgotten in time, and by another operator
    runs = draft.status.phase == "Running"
    since = max((one.last_seen for one in crew), default=draft.observed.listening_since if runs else None)
    if since is None:
        return None  # of a crew that does not run nobody may have been there to be heard
    due = since + timedelta(seconds=LEASE_SECONDS)
    if draft.now < due:
        draft.wake_at(due)
        return None
    return (UNHEARD_CREW_WORDS if runs else UNHEARD_AT_START_WORDS).format(since=to_text(since))


def _stands(draft: Draft, worker: int) -> bool:
    launcher = draft.launcher(worker)
    return (
        launcher is not None
        and launcher.connected
        and launcher.report.generation == draft.status.generation
        and launcher.report.phase in ("ready", "running", "done")
    )


def _degraded(draft: Draft) -> None:
    found = _trouble(draft)
    if found is None:
        draft.set_condition("Degraded", "False", "AsExpected")
        return
    reason, message = found
    old = draft.condition("Degraded")
    if old is None or old.status != "True" or old.reason != reason:
        draft.tell("Warning", reason, message)
    draft.set_condition("Degraded", "True", reason, message)


def _trouble(draft: Draft) -> tuple[str, str] | None:
    """Return the first thing a person has to mend, as (reason, message)."""
    if draft.finished or draft.status.phase == "Suspended":
        return None
    for refusal in draft.observed.refusals:
        return f"{refusal.action}Refused", f"{refusal.reason}: {refusal.message}"[:1024]
    if draft.status.phase in _CREW_PHASES and (words := crew_unheard(draft)) is not None:
        return "CrewUnheard", words
    storage = draft.condition("StorageReady")
    if storage is not None and storage.reason in ("ClaimNotFound", "ClaimLost", "ClaimDeleting"):
        return storage.reason, storage.message
    for pod in draft.observed.pods:
        if pod.waiting_reason in WAITING_REASONS and not pod.terminal:
            words = f"worker {pod.worker}: {pod.waiting_reason}: {pod.waiting_message or 'no message'}"
            return WAITING_REASONS[pod.waiting_reason], words[:1024]
        if pod.unschedulable:
            return "PodUnschedulable", f"worker {pod.worker}: {pod.unschedulable}"[:1024]
        if unheard(draft, pod.worker):
            return "WorkerUnreachable", UNHEARD_WORDS.format(worker=pod.worker)
    return None
