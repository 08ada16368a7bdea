"""What went wrong in this generation, and whose doing it was.

One generation has at most one incident: a single lost worker breaks every rank's collective, so a fault
shows as many failures at once. They are counted as one, with the root cause named. The rules of blame:

- a rank of the built-in trainer says itself whether it failed or only lost a peer, so its own failure
  is always the root;
- a user's command cannot say, so there a lost pod explains the exit codes of all others;
- when peers are lost and nothing else is known but a launcher that hung up, that launcher's worker is
  blamed *provisionally*: the crew goes on at once, and the pod's own end settles the account later.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from rowlock.api.v1alpha1 import WorkerStatus
from rowlock.protocol import FINAL_EXIT_CODES, HEARTBEAT_SECONDS, LEASE_SECONDS, ExitCode, RankExit
from rowlock_operator.core.draft import Draft
from rowlock_operator.core.membership import overdue_at
from rowlock_operator.core.model import Launcher, Pod

#: Seconds to wait for the cause when ranks say that a peer is gone but nobody is missing: the kubelet
#: reports a dead container within one or two.
CAUSE_GRACE_SECONDS = 5.0

#: Seconds a running pod may take until its launcher is heard for the first time. A launcher connects before it
#: imports torch; on a slow network file system Python's own start takes a few seconds.
UNHEARD_SECONDS = 60.0
#: Seconds a launcher may take to come back once another of its crew has: a try that hangs is given up after 5 s and
#: followed by a delay of up to 5 s (rowlock_trainer.launcher.link); as much again is for the next try, and for a node
#: that learns of a new leader later than the others.
RETURN_SECONDS = 20.0
UNHEARD_WORDS = (
    "worker {worker}: its pod runs, but its launcher was never heard; can pods reach the coordinator "
    "(its address, a NetworkPolicy), and is the image of the same release?"
)

#: Pod reasons the kubelet and the node lifecycle use when it was not the program's fault.
DISRUPTION_REASONS = frozenset(
    {
        "Evicted",
        "Preempting",
        "NodeLost",
        "NodeShutdown",
        "Shutdown",
        "Terminated",
        "NodeAffinity",
        "OutOfcpu",
        "OutOfmemory",
        "OutOfpods",
        # Node or container runtime were restarted under the container: the runtime's word for it (with exit code
        # 255), and the kubelet's.
        "Unknown",
        "ContainerStatusUnknown",
    }
)

Kind = Literal["failure", "preemption"]


@dataclass(frozen=True)
class Incident:
    """One fault that ends a generation."""

    kind: Kind
    reason: str
    message: str
    worker: int = -1
    rank: int = -1
    exit_code: int = -1
    traceback: str = ""
    provisional: bool = False
    #: When it happened, as well as is known; the earliest is the root among equals.
    time: float = 0.0
    #: Whether the worker's pod has to be replaced.
    replace_pod: bool = True


def find_incident(draft: Draft, vanished: list[int]) -> Incident | None:
    """Return the root cause of this generation's end, or None while the crew is whole.

    Wakes the job when a verdict is only a matter of time.
    """
    pods = [incident for member in draft.members if (incident := pod_incident(draft, member))]
    pods += [_vanished(worker) for worker in vanished]
    ranks = [_rank_incident(launcher, end) for launcher in _current(draft) for end in launcher.report.exits]
    return _blame(draft, pods, [one for one in ranks if one is not None]) or _silent(draft)


def pod_incident(draft: Draft, member: WorkerStatus) -> Incident | None:
    """Return what a member pod's end means; None while it lives, finished well, or was counted before."""
    pod = draft.pod(member.index)
    if pod is None or pod.uid != member.pod_uid or member.phase in ("Lost", "Done"):
        return None
    if pod.phase == "Failed":
        return judge(pod)
    if pod.phase == "Succeeded":
        words = f"worker {member.index}: its pod ended with 0 though its part of this generation is not done"
        return Incident("failure", "EndedEarly", words, worker=member.index, exit_code=0)
    due = overdue_at(pod)
    if due is not None and draft.now >= due:
        return node_lost(member.index)
    if due is not None:
        draft.wake_at(due)
    return None


def node_lost(worker: int) -> Incident:
    """Return the incident of a worker whose pod does not go when it is deleted."""
    words = f"worker {worker}: its pod is being deleted and does not go; its node is most likely dead"
    return Incident("preemption", "NodeLost", words, worker=worker)


def unheard(draft: Draft, worker: int) -> bool:
    """Return whether a member's pod has run for long and its launcher was never heard."""
    pod, member = draft.pod(worker), draft.members[worker] if worker < len(draft.members) else None
    if pod is None or member is None or pod.uid != member.pod_uid or member.phase != "Running":
        return False
    if draft.launcher(worker) is not None or pod.running_since is None or draft.observed.listening_since is None:
        return False
    due = max(pod.running_since, draft.observed.listening_since) + timedelta(seconds=UNHEARD_SECONDS)
    if draft.now >= due:  # only then: it looks through the crew, and every pod of a large one that starts comes here
        due = max(due, _returned_by(draft) or due)
    if draft.now < due:
        draft.wake_at(due)
    return draft.now >= due


def judge(pod: Pod) -> Incident:
    """Return the incident that a pod in phase Failed stands for."""
    code = -1 if pod.exit_code is None else pod.exit_code
    preempted = (
        pod.disrupted or pod.reason in DISRUPTION_REASONS or pod.deleting_since is not None or code == ExitCode.SAVED
    )
    reason = pod.disruption or pod.reason or ("Preempted" if preempted else "PodFailed")
    ending = f" with exit code {code}" if code >= 0 else ""
    words = f"worker {pod.worker}: its pod ended{ending} ({reason})"
    if pod.message:
        words += f": {pod.message}"
    return Incident("preemption" if preempted else "failure", reason, words, worker=pod.worker, exit_code=code)


def is_retryable(incident: Incident, retryable: list[int]) -> bool:
    """Return whether another try makes sense, by exit code; `retryable` is recovery.retryableExitCodes.

    An end without an exit code that says anything (none, or 0) can be neither allowed nor refused: it is tried again.
    """
    code = incident.exit_code
    if incident.kind == "preemption" or code <= 0 or code > 128 or code == ExitCode.PEER_LOST:
        return True
    if retryable:
        return code in retryable
    return code not in FINAL_EXIT_CODES


def _vanished(worker: int) -> Incident:
    return Incident("preemption", "PodDeleted", f"worker {worker}: its pod was deleted", worker=worker)


def _current(draft: Draft) -> list[Launcher]:
    """Launchers that have ended ranks of this very generation; older news was counted already."""
    return [
        one for one in draft.crew() if one.report.generation == draft.status.generation and one.report.phase == "ended"
    ]


def _rank_incident(launcher: Launcher, end: RankExit) -> Incident | None:
    if end.code == ExitCode.DONE:
        return None
    if end.code == ExitCode.SAVED or launcher.report.leaving:
        # A worker told to go is preempted, however its ranks took the SIGTERM.
        kind: Kind = "preemption"
        reason = "Preempted"
    else:
        kind = "failure"
        reason = "PeerLost" if end.code == ExitCode.PEER_LOST else "RankFailed"
    words = f"worker {launcher.worker}, rank {end.rank}: exit code {end.code}"
    if end.step >= 0:
        words += f" after step {end.step}"
    return Incident(
        kind,
        reason,
        f"{words}: {end.reason}" if end.reason else words,
        worker=launcher.worker,
        rank=end.rank,
        exit_code=end.code,
        traceback=end.traceback,
        time=end.time,
        replace_pod=launcher.report.leaving,
    )


def _blame(draft: Draft, pods: list[Incident], ranks: list[Incident]) -> Incident | None:
    own = [one for one in ranks if one.reason == "RankFailed"]
    saved = [one for one in ranks if one.reason == "Preempted"]
    followers = [one for one in ranks if one.reason == "PeerLost"]
    gone = _hung_up(draft)
    leaving = [one for one in saved if one.replace_pod]
    if draft.spec.command is not None:
        own, unclear = _own_of_command(draft, own, explained=bool(pods or gone or leaving or _going(draft)))
        followers += unclear
    if own:
        return min(own, key=lambda one: one.time)
    for group in (
        [one for one in pods if one.kind == "failure"],
        pods,
        leaving,
        _sent_away(draft) if saved else [],
        saved,
    ):
        if group:
            return group[0]
    if followers and (going := _going(draft)):
        return going[0]
    return _peer_lost(draft, followers, gone) if followers else None


def _is_going(draft: Draft, member: WorkerStatus) -> bool:
    """Whether a worker that is neither lost nor done has a pod that is being deleted."""
    pod = draft.pod(member.index)
    if pod is None or pod.uid != member.pod_uid or member.phase in ("Lost", "Done"):
        return False
    return pod.deleting_since is not None


def _sent_away(draft: Draft) -> list[Incident]:
    """Workers for whose sake the crew saved: theirs are not always the first ranks to have ended."""
    found = []
    for member in draft.members:
        launcher = draft.launcher(member.index)
        if _is_going(draft, member):
            words = f"worker {member.index}: its pod is being deleted, and the crew saved"
            found.append(Incident("preemption", "PodDeleted", words, worker=member.index))
        elif member.phase not in ("Lost", "Done") and launcher is not None and launcher.report.leaving:
            words = f"worker {member.index}: got SIGTERM, and the crew saved"
            found.append(Incident("preemption", "Preempted", words, worker=member.index))
    return found


def _going(draft: Draft) -> list[Incident]:
    """Workers whose pod is being deleted and whose launcher is not heard: who lost a peer lost one of these."""
    found = []
    for member in draft.members:
        launcher = draft.launcher(member.index)
        if not _is_going(draft, member) or (launcher is not None and launcher.connected):
            continue
        words = f"worker {member.index}: its pod is being deleted, and its launcher is gone"
        found.append(Incident("preemption", "PodDeleted", words, worker=member.index))
    return found


def _own_of_command(draft: Draft, own: list[Incident], *, explained: bool) -> tuple[list[Incident], list[Incident]]:
    """Return which exits of a user's command are its own fault, and which may be a lost peer's.

    A command cannot say whether it failed or only lost a peer. A command that cannot be started lost no one;
    of other exit codes a lost pod explains all, and since the news of a pod comes after the ranks', they are
    given a moment before they are believed.
    """
    final = [one for one in own if one.exit_code in FINAL_EXIT_CODES]
    if final:
        return final, []
    if explained:
        return [], own
    if own and len(draft.members) > 1 and _grace_left(draft, own) > 0:
        draft.wake_in(_grace_left(draft, own))
        return [], []
    return ([], own) if own and _missing_heartbeats(draft) else (own, [])


def _grace_left(draft: Draft, exits: list[Incident]) -> float:
    """Return the seconds left until the cause of these exits should be known."""
    first = datetime.fromtimestamp(min(one.time for one in exits), tz=draft.now.tzinfo)
    # A worker's clock may be ahead of ours: never wait longer than the grace itself.
    return min((first - draft.now).total_seconds(), 0.0) + CAUSE_GRACE_SECONDS


def _not_done(draft: Draft) -> list[Launcher]:
    """Launchers that have something left to do: one whose worker is done may go, and is nobody's lost peer."""
    return [one for one in draft.crew() if draft.members[one.worker].phase != "Done"]


def _hung_up(draft: Draft) -> list[Launcher]:
    return [one for one in _not_done(draft) if not one.connected]


def _missing_heartbeats(draft: Draft) -> list[Launcher]:
    """Launchers that are late to report: a worker that lost its power hangs up on nobody."""
    return [one for one in _not_done(draft) if _is_late(draft, one)]


def _not_heard_yet(draft: Draft) -> bool:
    """Whether a worker that runs was never heard by this operator, which began a short while ago: it may be the cause.

    Wakes when it should have been heard.
    """
    if draft.observed.listening_since is None:
        return False
    found = False
    for member in draft.members:
        pod = draft.pod(member.index)
        running = pod is not None and pod.uid == member.pod_uid and pod.running_since is not None
        if member.phase == "Running" and running and draft.launcher(member.index) is None:
            unheard(draft, member.index)
            found = True
    return found


def _is_late(draft: Draft, launcher: Launcher) -> bool:
    return (draft.now - launcher.last_seen).total_seconds() > 1.5 * HEARTBEAT_SECONDS


def _peer_lost(draft: Draft, followers: list[Incident], gone: list[Launcher]) -> Incident | None:
    if not gone:
        wait = _grace_left(draft, followers)
        if wait > 0:
            draft.wake_in(wait)
            return None
        gone = _missing_heartbeats(draft)
        if not gone and _not_heard_yet(draft):
            return None
    if gone:
        worker = max(gone, key=lambda one: one.last_seen).worker
        words = f"worker {worker}: its connections broke; waiting for its pod to say why"
        return Incident("failure", "WorkerLost", words, worker=worker, provisional=True)
    first = min(followers, key=lambda one: one.time)
    return replace(first, message=f"{first.message} (no worker is missing: the network between them broke)")


def _silent(draft: Draft) -> Incident | None:
    """The first worker of this generation that should have been heard; others are `write_off`'s."""
    joined = draft.status.generation
    return next((one for one in overdue_workers(draft) if draft.members[one.worker].joined >= joined), None)


def overdue_workers(draft: Draft) -> list[Incident]:
    """Return what is to be said of each worker that should have been heard by now.

    A launcher silent past its lease is out of the crew, unless the crew demonstrably trains on. When no launcher at all
    is heard, the operator is the one cut off, and nobody is blamed. Leases run out one by one: a line that is as late
    as all others only still looks open. When the silence is over they come back one by one: the first to be heard again
    proves nothing against the others yet.
    """
    heard = [one for one in draft.crew() if one.connected]
    if not heard:
        return []
    returned = _returned_by(draft)
    found = [one for member in draft.members if (one := _overdue(draft, member, returned)) is not None]
    if found and all(_is_late(draft, one) for one in heard):
        draft.wake_in(HEARTBEAT_SECONDS)
        return []
    return found


def _overdue(draft: Draft, member: WorkerStatus, returned: datetime | None) -> Incident | None:
    if member.phase in ("Done", "Lost"):  # nothing more to say, or counted already
        return None
    launcher = draft.launcher(member.index)
    if launcher is None and unheard(draft, member.index):
        words = UNHEARD_WORDS.format(worker=member.index)
        # Its node may be dead: the pod will tell.
        return Incident("failure", "WorkerUnreachable", words, worker=member.index, provisional=True)
    if launcher is not None and not launcher.connected and _lease_is_over(draft, launcher, returned):
        silence = int((draft.now - launcher.last_seen).total_seconds())
        words = f"worker {member.index}: not heard for {silence} s"
        return Incident("failure", "WorkerSilent", words, worker=member.index, provisional=True)
    return None


def _returned_by(draft: Draft) -> datetime | None:
    """When every launcher that can be heard has had time to come back; None while none is heard."""
    since = [one.connected_since for one in draft.crew() if one.connected and one.connected_since is not None]
    return min(since) + timedelta(seconds=RETURN_SECONDS) if since else None


def _lease_is_over(draft: Draft, launcher: Launcher, returned: datetime | None) -> bool:
    lease = timedelta(seconds=LEASE_SECONDS)
    due = launcher.last_seen + lease
    due = max(due, returned or due)
    if draft.now < due:
        draft.wake_at(due)
        return False
    # Steps that moved after the lease ran out, lately and by our own clock: all ranks must be alive.
    moved = [one.stepped_at for one in draft.crew() if one.connected and one.stepped_at is not None]
    if moved and max(moved) > max(due, draft.now - lease):
        draft.wake_in(LEASE_SECONDS)
        return False
    return True
