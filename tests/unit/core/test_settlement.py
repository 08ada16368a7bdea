"""A fault counted before its cause was known is moved to where it belongs, and to nowhere else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rowlock.api.v1alpha1 import IncidentStatus
from rowlock.protocol import ExitCode
from rowlock_operator.core.decide import decide
from rowlock_operator.core.draft import to_text
from rowlock_operator.core.model import DeletePod, Job
from tests.unit.core.build import (
    NOW,
    after,
    condition,
    counts,
    end,
    later,
    launcher,
    phase_of,
    pod,
    reasons,
    spec,
    training_job,
    world,
)

ALL = tuple(pod(index) for index in range(4))


def hung_up(before: Job, worker: int, seconds: float = 0) -> Job:
    """The job after worker 0 lost a peer and `worker` hung up: counted, and not settled."""
    generation = before.status.generation
    lost_peer = launcher(0, "ended", generation, exits=(end(0, ExitCode.PEER_LOST),))
    gone = launcher(worker, "running", generation, connected=False, last_seen=later(seconds))
    pods = tuple(pod(index) for index in range(before.spec.workers))
    decision = decide(before, world(*pods, launchers=(lost_peer, gone)), later(seconds))
    assert decision.status.unsettled[-1].worker == worker
    assert decision.actions == (), "the pod is to say how it ended, so it stays"
    return after(before, decision)


def four(**fields) -> Job:
    return training_job(spec(workers=4, **fields))


def test_two_unsettled_faults_settle_each_by_its_own_pod() -> None:
    current = hung_up(hung_up(four(), 1), 2, 3)
    assert (current.status.failures.count, current.status.generation) == (2, 3)
    evicted = pod(1, phase="Failed", reason="Evicted")
    first = decide(current, world(pod(0), evicted, pod(2), pod(3)), later(4))
    assert counts(first) == (1, 1)
    assert [one.worker for one in first.status.unsettled] == [2]
    assert first.status.failures.last is None
    # Only the pod that has told its end is taken away; the other is still asked.
    assert first.actions == (DeletePod(1, "pod-1", 0),)
    killed = pod(2, phase="Failed", exit_code=137, reason="OOMKilled")
    second = decide(after(current, first), world(pod(0), killed, pod(3)), later(5))
    assert counts(second) == (1, 1)
    assert second.status.unsettled == []
    assert second.status.failures.last is not None
    assert (second.status.failures.last.reason, second.status.failures.last.worker) == ("OOMKilled", 2)
    assert second.status.preemptions.last is not None
    assert (second.status.preemptions.last.reason, second.status.preemptions.last.worker) == ("Evicted", 1)


def test_the_newest_fault_stays_the_last_one_whichever_settles_last() -> None:
    current = hung_up(hung_up(four(), 1), 2, 3)
    second = pod(2, phase="Failed", exit_code=2, reason="Error")
    newest = decide(current, world(pod(0), pod(1), second, pod(3)), later(4))
    first = pod(1, phase="Failed", exit_code=1, reason="Error")
    settled = decide(after(current, newest), world(pod(0), first, pod(3)), later(5))
    assert settled.status.failures.last is not None
    assert settled.status.failures.last.worker == 2
    assert counts(settled) == (2, 0)


def test_a_fault_that_was_a_preemption_leaves_the_last_failure_as_it_was() -> None:
    before = training_job()
    broken = launcher(1, "ended", exits=(end(1, 1, "ValueError: x"),))
    failed = after(before, decide(before, world(pod(0), pod(1), launchers=(launcher(0), broken)), NOW))
    current = hung_up(failed, 1, 5)
    decision = decide(current, world(pod(0), pod(1, phase="Failed", reason="Evicted")), later(6))
    assert counts(decision) == (1, 1)
    assert decision.status.failures.last is not None
    assert decision.status.failures.last.reason == "RankFailed"


def test_a_new_pod_of_the_same_name_says_nothing_about_the_old_one() -> None:
    current = hung_up(training_job(), 1)
    decision = decide(current, world(pod(0), pod(1, "pod-1b")), later(1))
    assert counts(decision) == (0, 1)
    assert decision.status.unsettled == []


def removing(job: Job) -> Job:
    """The job 10 s later, when worker 1's pod has said nothing and is deleted."""
    early = decide(job, world(pod(0), pod(1)), later(9))
    assert early.requeue_after == pytest.approx(1)
    late = decide(job, world(pod(0), pod(1)), later(10))
    assert [(one.worker, one.removing) for one in late.status.unsettled] == [(1, True)]
    assert late.actions == (DeletePod(1, "pod-1", None),)
    return after(job, late)


@pytest.mark.parametrize(
    "end_of_pod",
    [
        pytest.param(None, id="gone"),
        pytest.param({"phase": "Failed", "exit_code": 75}, id="saved-when-told-to-go"),
        pytest.param({"phase": "Failed", "exit_code": 137}, id="killed-at-the-end-of-its-grace"),
        pytest.param({"phase": "Succeeded"}, id="ended-with-zero"),
    ],
)
def test_a_pod_that_says_nothing_and_goes_when_it_is_deleted_was_a_failure(
    end_of_pod: dict[str, object] | None,
) -> None:
    current = removing(hung_up(training_job(), 1))
    ended = () if end_of_pod is None else (pod(1, deleting_since=later(10), **end_of_pod),)
    decision = decide(current, world(pod(0), *ended), later(12))
    assert decision.status.unsettled == []
    assert counts(decision) == (1, 0)
    assert decision.status.failures.last is not None
    assert decision.status.failures.last.reason == "WorkerLost"


def test_a_pod_that_says_nothing_and_does_not_go_either_lost_its_node() -> None:
    current = removing(hung_up(training_job(), 1))
    staying = pod(1, deleting_since=later(10), grace_seconds=30)
    early = decide(current, world(pod(0), staying), later(69))
    assert counts(early) == (1, 0)
    assert early.requeue_after == pytest.approx(1)
    late = decide(current, world(pod(0), staying), later(70))
    assert counts(late) == (0, 1)
    assert late.status.unsettled == []
    assert late.status.preemptions.last is not None
    assert late.status.preemptions.last.reason == "NodeLost"
    assert late.actions == (DeletePod(1, "pod-1", 0),)


def test_a_pod_that_was_evicted_while_it_was_being_deleted_is_a_preemption() -> None:
    current = removing(hung_up(training_job(), 1))
    evicted = pod(1, phase="Failed", reason="Evicted", deleting_since=later(10))
    assert counts(decide(current, world(pod(0), evicted), later(12))) == (0, 1)


@pytest.mark.parametrize(("code", "phase"), [(4, "Failed"), (3, "Recovering"), (137, "Recovering")])
def test_an_exit_code_learnt_late_still_decides_whether_another_try_makes_sense(code: int, phase: str) -> None:
    current = hung_up(training_job(spec(recovery={"retryableExitCodes": [3]})), 1)
    decision = decide(current, world(pod(0), pod(1, phase="Failed", exit_code=code)), later(1))
    assert decision.status.phase == phase
    assert counts(decision) == (1, 0)
    assert decision.status.failures.last is not None
    assert decision.status.failures.last.exit_code == code
    if phase == "Failed":
        assert condition(decision, "Failed") == ("True", "NotRetryable")


def test_a_preemption_learnt_late_spends_its_own_budget() -> None:
    current = hung_up(training_job(spec(recovery={"maxPreemptions": 0})), 1)
    decision = decide(current, world(pod(0), pod(1, phase="Failed", reason="Evicted")), later(1))
    assert condition(decision, "Failed") == ("True", "TooManyPreemptions")


def backing_off() -> Job:
    before = four(recovery={"backoff": {"initialSeconds": 60, "maxSeconds": 600}})
    before.status.furthest_step, before.status.failures_without_progress = 100, 1
    return before


def test_the_backoff_of_a_failure_that_was_none_is_taken_back() -> None:
    current = hung_up(backing_off(), 1)
    assert (current.status.failures_without_progress, current.status.not_before is None) == (2, False)
    decision = decide(current, world(pod(0), pod(1, phase="Failed", reason="Evicted"), pod(2), pod(3)), later(1))
    assert (decision.status.failures_without_progress, decision.status.not_before) == (1, None)
    assert phase_of(decision) == "run"


def test_the_backoff_of_a_later_failure_stays() -> None:
    current = hung_up(backing_off(), 1)
    broken = launcher(3, "ended", 2, exits=(end(3, 1),))
    later_one = after(current, decide(current, world(*ALL, launchers=(launcher(0, "ready", 2), broken)), later(1)))
    assert later_one.status.generation == 3
    until = later_one.status.not_before
    evicted = pod(1, phase="Failed", reason="Evicted")
    decision = decide(later_one, world(pod(0), evicted, pod(2), pod(3)), later(2))
    assert until is not None
    assert decision.status.not_before == until
    assert counts(decision) == (1, 1)


@pytest.mark.parametrize("wish", ["resize", "suspend"])
def test_a_pod_we_delete_ourselves_is_no_preemption(wish: str) -> None:
    current = hung_up(training_job(), 1)
    change = {"workers": 1} if wish == "resize" else {"suspend": True}
    current = replace(current, spec=current.spec.model_copy(update=change), generation=2)
    first = decide(current, world(pod(0), pod(1)), later(1))
    assert DeletePod(1, "pod-1") in first.actions
    assert first.status.unsettled == []
    going = decide(after(current, first), world(pod(0), pod(1, deleting_since=later(1))), later(2))
    gone = decide(after(current, going), world(pod(0)), later(3))
    assert counts(gone) == (1, 0)


def test_the_end_of_the_job_leaves_nothing_unsettled() -> None:
    current = hung_up(training_job(), 1)
    unstartable = launcher(0, "ended", 2, exits=(end(0, 78),))
    ended = decide(current, world(pod(0), pod(1), launchers=(unstartable,)), later(1))
    assert ended.status.phase == "Failed"
    assert ended.status.unsettled == []
    assert counts(decide(after(current, ended), world(pod(0)), later(2))) == (2, 0)


def test_a_job_does_not_fail_for_a_count_that_may_still_be_taken_back() -> None:
    current = hung_up(four(recovery={"maxFailures": 1}), 1)
    broken = launcher(3, "ended", 2, exits=(end(3, 1),))
    crew = (launcher(0, "running", 2), broken)
    beyond = decide(current, world(*ALL, launchers=crew), later(2))
    assert (counts(beyond), beyond.status.generation) == ((2, 0), 3)
    assert beyond.status.phase == "Recovering"
    evicted = pod(1, phase="Failed", reason="Evicted")
    forgiven = decide(after(current, beyond), world(pod(0), evicted, pod(2), pod(3)), later(3))
    assert counts(forgiven) == (1, 1)
    assert forgiven.status.phase == "Recovering"
    mute = after(current, decide(after(current, beyond), world(*ALL), later(10)))
    assert counts(decide(mute, world(*ALL), later(11))) == (2, 0)
    spent = decide(mute, world(pod(0), pod(2), pod(3)), later(12))
    assert counts(spent) == (2, 0)
    assert condition(spent, "Failed") == ("True", "TooManyFailures")


def test_what_another_try_cannot_mend_fails_the_job_whatever_is_unsettled() -> None:
    current = hung_up(four(recovery={"maxFailures": 1}), 1)
    broken = launcher(3, "ended", 2, exits=(end(3, 78),))
    decision = decide(current, world(*ALL, launchers=(broken,)), later(2))
    assert condition(decision, "Failed") == ("True", "NotRetryable")


def test_more_faults_than_are_remembered_stay_what_they_were_counted_as() -> None:
    before = four(recovery={"maxFailures": 1000})
    before.status.failures.count = 16
    before.status.unsettled = [
        IncidentStatus(time=to_text(NOW), generation=0, worker=3, reason="WorkerLost", message=str(i), pod_uid="pod-3")
        for i in range(16)
    ]
    current = hung_up(before, 1)
    assert current.status.failures.count == 17
    assert [one.message for one in current.status.unsettled[:-1]] == [str(i) for i in range(1, 16)]
    assert current.status.failures.last is not None
    assert current.status.failures.last.message == "0"


def test_the_guess_is_told_as_a_guess() -> None:
    lost_peer = launcher(0, "ended", exits=(end(0, ExitCode.PEER_LOST),))
    seen = world(pod(0), pod(1), launchers=(lost_peer, launcher(1, connected=False)))
    assert "WorkerLost" in reasons(decide(training_job(), seen, NOW))


def test_suspending_does_not_hide_that_a_pod_will_not_go_because_its_node_is_dead() -> None:
    current = removing(hung_up(training_job(), 1))
    stopping = replace(current, spec=current.spec.model_copy(update={"suspend": True}), generation=2)
    staying = pod(1, deleting_since=later(10))
    asked = decide(stopping, world(staying), later(20))
    assert asked.status.phase == "Suspending"
    assert counts(asked) == (1, 0)
    late = decide(after(stopping, asked), world(staying), later(70))
    assert counts(late) == (0, 1)
    assert late.actions == (DeletePod(1, "pod-1", 0),)
