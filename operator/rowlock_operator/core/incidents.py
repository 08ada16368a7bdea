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

from rowlock.protocol import FINAL_EXIT_CODES, LEASE_SECONDS, ExitCode, RankExit
from rowlock_operator.core.draft import Draft
from rowlock_operator.core.model import Launcher, Pod

#: Seconds to wait for the cause when ranks say that a peer is gone but nobody is missing: the kubelet
#: reports a dead container within one or two.
CAUSE_GRACE_SECONDS = 5.0

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
    pods = [incident for pod in draft.observed.pods if (incident := pod_incident(draft, pod))]
    pods += [_vanished(worker) for worker in vanished]
    ranks = [_rank_incident(launcher, end) for launcher in _current(draft) for end in launcher.report.exits]
    return _blame(draft, pods, [one for one in ranks if one is not None]) or _silent(draft)


def pod_incident(draft: Draft, pod: Pod) -> Incident | None:
    """Return what a member pod's end means; None while it lives, finished well, or was counted before."""
    if pod.worker >= len(draft.members) or pod.phase != "Failed":
        return None
    member = draft.members[pod.worker]
    if member.pod_uid != pod.uid or member.phase == "Lost":
        return None
    return judge(pod)


def judge(pod: Pod) -> Incident:
    """Return the incident that a pod in phase Failed stands for."""
    code = -1 if pod.exit_code is None else pod.exit_code
    preempted = (
        pod.disrupted or pod.reason in DISRUPTION_REASONS or pod.deleting_since is not None or code == ExitCode.SAVED
    )
    reason = pod.reason or ("Preempted" if preempted else "PodFailed")
    ending = f" with exit code {code}" if code >= 0 else ""
    words = f"worker {pod.worker}: its pod ended{ending} ({reason})"
    if pod.message:
        words += f": {pod.message}"
    return Incident("preemption" if preempted else "failure", reason, words, worker=pod.worker, exit_code=code)


def is_retryable(incident: Incident, retryable: list[int]) -> bool:
    """Return whether another try makes sense, by exit code; `retryable` is recovery.retryableExitCodes."""
    code = incident.exit_code
    if incident.kind == "preemption" or code < 0 or code > 128:
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
    if draft.spec.command is not None and (pods or gone or leaving):
        followers, own = followers + own, []
    if own:
        return min(own, key=lambda one: one.time)
    for group in (
        [one for one in pods if one.kind == "failure"],
        pods,
        leaving,
        saved,
    ):
        if group:
            return group[0]
    if followers:
        return _peer_lost(draft, followers, gone)
    return None


def _hung_up(draft: Draft) -> list[Launcher]:
    return [one for one in draft.crew() if not one.connected]


def _peer_lost(draft: Draft, followers: list[Incident], gone: list[Launcher]) -> Incident | None:
    if gone:
        worker = gone[0].worker
        return Incident(
            "failure",
            "WorkerLost",
            f"worker {worker}: its connections broke; waiting for its pod to say why",
            worker=worker,
            provisional=True,
        )
    first = min(followers, key=lambda one: one.time)
    due = datetime.fromtimestamp(first.time, tz=draft.now.tzinfo) + timedelta(seconds=CAUSE_GRACE_SECONDS)
    # A worker's clock may be ahead of ours: never wait longer than the grace itself.
    wait = min((due - draft.now).total_seconds(), CAUSE_GRACE_SECONDS)
    if wait > 0:
        draft.wake_in(wait)
        return None
    return replace(first, message=f"{first.message} (no worker is missing: the network between them broke)")


def _silent(draft: Draft) -> Incident | None:
    """A launcher silent past its lease is out of the crew, unless the crew demonstrably trains on.

    When no launcher at all is heard, the operator is the one cut off, and nobody is blamed.
    """
    crew = draft.crew()
    heard = [one for one in crew if one.connected]
    if not heard:
        return None
    newest = max((one.report.progress.time for one in heard if one.report.progress is not None), default=0.0)
    for launcher in crew:
        member = draft.members[launcher.worker]
        if launcher.connected or member.phase == "Done":
            continue
        due = launcher.last_seen + timedelta(seconds=LEASE_SECONDS)
        trains_on = newest > due.timestamp() and newest > draft.now.timestamp() - LEASE_SECONDS
        if draft.now < due or trains_on:
            draft.wake_at(max(due, draft.now + timedelta(seconds=LEASE_SECONDS) if trains_on else due))
            continue
        silence = int((draft.now - launcher.last_seen).total_seconds())
        return Incident(
            "failure",
            "WorkerSilent",
            f"worker {launcher.worker}: not heard for {silence} s",
            worker=launcher.worker,
            provisional=True,
        )
    return None
