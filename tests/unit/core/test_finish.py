"""How a job ends, by whatever cause, and what is left of it after."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rowlock_operator.core.decide import decide
from rowlock_operator.core.draft import to_text
from rowlock_operator.core.model import CreatePod, DeleteJob, DeletePod, Job, Observed
from tests.unit.core.build import (
    NOW,
    after,
    condition,
    counts,
    job,
    later,
    launcher,
    phase_of,
    pod,
    spec,
    training_job,
    world,
)

CREW = (launcher(0), launcher(1))
DONE = tuple(launcher(index, "done") for index in range(2))


def succeeded(**fields) -> Job:
    before = training_job(spec(**fields))
    return after(before, decide(before, world(pod(0), pod(1), launchers=DONE), NOW))


def test_all_workers_done_is_success_and_launchers_may_leave() -> None:
    before = training_job()
    done = tuple(launcher(i, "done") for i in range(2))
    decision = decide(before, world(pod(0), pod(1), launchers=done), NOW)
    assert decision.status.phase == "Succeeded"
    assert condition(decision, "Succeeded")[0] == "True"
    assert decision.order is not None
    assert decision.order.phase == "leave"
    assert decision.actions == ()
    ended = world(pod(0, phase="Succeeded"), pod(1, phase="Succeeded"))
    assert decide(after(before, decision), ended, later(3600)).actions == ()


def test_pods_that_ended_with_zero_are_done_even_if_nobody_heard_their_launcher() -> None:
    ended = world(pod(0, phase="Succeeded"), pod(1, phase="Succeeded"))
    assert decide(training_job(), ended, NOW).status.phase == "Succeeded"


def test_one_worker_done_waits_for_the_others_and_comes_back_if_one_of_them_fails() -> None:
    before = training_job()
    half = decide(before, world(pod(0), pod(1), launchers=(launcher(0, "done"), launcher(1))), NOW)
    assert half.status.phase == "Running"
    seen = world(pod(0), pod(1, phase="Failed", exit_code=1), launchers=(launcher(0, "done"),))
    failed = decide(after(before, half), seen, NOW)
    assert failed.status.generation == 2
    # Its launcher may be on its way out already, so its place goes to a new pod; nobody is blamed for that.
    assert failed.status.workers.members[0].phase == "Lost"
    assert set(failed.actions) == {DeletePod(0, "pod-0"), DeletePod(1, "pod-1", 0)}
    assert counts(failed) == (1, 0)
    refilled = decide(after(before, failed), world(), later(1))
    assert refilled.actions == (CreatePod(0), CreatePod(1))
    assert counts(refilled) == (1, 0)


def test_pods_that_do_not_end_by_themselves_are_deleted_after_the_job() -> None:
    before = training_job()
    done = tuple(launcher(i, "done") for i in range(2))
    finished = after(before, decide(before, world(pod(0), pod(1), launchers=done), NOW))
    hung_up = tuple(launcher(i, "done", connected=False) for i in range(2))
    assert decide(finished, world(pod(0), pod(1), launchers=hung_up), later(1)).actions == ()
    deaf = decide(finished, world(pod(0), pod(1), launchers=done), later(61))
    assert deaf.actions == (DeletePod(0, "pod-0"), DeletePod(1, "pod-1"))


def test_a_pod_that_never_started_is_deleted_with_the_end_of_the_job() -> None:
    before = training_job(spec(recovery={"maxFailures": 0}))
    failed = pod(0, phase="Failed", exit_code=1)
    decision = decide(before, world(failed, pod(1, phase="Pending")), NOW)
    assert decision.status.phase == "Failed"
    assert decision.actions == (DeletePod(1, "pod-1"),)


def test_a_finished_job_is_deleted_when_its_time_is_over() -> None:
    before = training_job(spec(ttlSecondsAfterFinished=30))
    done = tuple(launcher(i, "done") for i in range(2))
    finished = after(before, decide(before, world(pod(0), pod(1), launchers=done), NOW))
    ended = world(pod(0, phase="Succeeded"), pod(1, phase="Succeeded"))
    early = decide(finished, ended, later(10))
    assert early.actions == ()
    assert early.requeue_after == pytest.approx(20)
    assert decide(finished, ended, later(31)).actions == (DeleteJob(),)


def test_the_deadline_fails_the_job_and_gives_its_pods_time_to_save() -> None:
    before = training_job(spec(activeDeadlineSeconds=100))
    crew = (launcher(0), launcher(1))
    early = decide(before, world(pod(0), pod(1), launchers=crew), later(40))
    assert early.requeue_after == pytest.approx(60)
    late = decide(before, world(pod(0), pod(1), launchers=crew), later(101))
    assert condition(late, "Failed") == ("True", "DeadlineExceeded")
    assert late.actions == (DeletePod(0, "pod-0"), DeletePod(1, "pod-1"))


def test_the_deadline_lets_the_crew_save_and_then_leave() -> None:
    before = training_job(spec(activeDeadlineSeconds=100))
    late = decide(before, world(pod(0), pod(1), launchers=CREW), later(100))
    assert phase_of(late) == "save"
    going = tuple(pod(i, deleting_since=later(100)) for i in range(2))
    still = decide(after(before, late), world(*going, launchers=CREW), later(110))
    assert phase_of(still) == "save"
    ended = tuple(pod(i, phase="Failed", exit_code=75) for i in range(2))
    gone = decide(after(before, still), world(*ended, launchers=CREW), later(120))
    assert phase_of(gone) == "leave"
    assert counts(gone) == (0, 0)


def test_the_alarm_of_the_deadline_is_set_in_the_round_the_job_starts() -> None:
    decision = decide(job(spec(activeDeadlineSeconds=100)), Observed(), NOW)
    assert decision.requeue_after == pytest.approx(100)


def test_the_deadlines_clock_starts_anew_when_the_job_is_resumed() -> None:
    before = training_job(spec(activeDeadlineSeconds=100))
    stopping = replace(before, spec=before.spec.model_copy(update={"suspend": True}))
    stopped = after(stopping, decide(stopping, world(), later(50)))
    resumed = replace(stopped, spec=before.spec)
    decision = decide(resumed, world(), later(5000))
    assert decision.status.phase == "Pending"
    assert decision.requeue_after == pytest.approx(100)


def test_a_time_to_live_of_zero_deletes_the_job_at_once() -> None:
    before = training_job(spec(ttlSecondsAfterFinished=0))
    assert DeleteJob() in decide(before, world(pod(0), pod(1), launchers=DONE), NOW).actions
    assert DeleteJob() not in decide(training_job(), world(pod(0), pod(1), launchers=DONE), later(9999)).actions


def test_what_runs_on_beside_the_trainer_is_ended_with_its_own_grace_a_minute_after_the_job() -> None:
    finished = succeeded()
    beside = tuple(pod(i, phase="Succeeded", lingering=True) for i in range(2))
    early = decide(finished, world(*beside), later(59))
    assert early.actions == ()
    assert early.requeue_after == pytest.approx(1)
    late = decide(finished, world(*beside), later(60))
    assert late.actions == (DeletePod(0, "pod-0", None), DeletePod(1, "pod-1", None))
    going = tuple(replace(one, deleting_since=later(60)) for one in beside)
    assert decide(finished, world(*going), later(61)).actions == ()
    stuck = decide(finished, world(*going), later(120))
    assert stuck.actions == (DeletePod(0, "pod-0", 0), DeletePod(1, "pod-1", 0))


def test_a_lost_worker_whose_side_containers_run_on_is_asked_to_go_and_replaced_when_gone() -> None:
    before = training_job()
    beside = pod(1, phase="Failed", exit_code=1, lingering=True)
    lost = decide(before, world(pod(0), beside, launchers=CREW[:1]), NOW)
    assert lost.actions == (DeletePod(1, "pod-1", None),)
    waiting = decide(after(before, lost), world(pod(0), replace(beside, deleting_since=NOW)), later(1))
    assert waiting.actions == ()
    assert decide(after(before, waiting), world(pod(0)), later(2)).actions == (CreatePod(1),)


def test_a_pod_that_was_going_already_is_forced_in_its_time_after_the_end() -> None:
    finished = succeeded()
    going = pod(1, deleting_since=later(-40), grace_seconds=30)
    early = decide(finished, world(pod(0, phase="Succeeded"), going), later(19))
    assert early.actions == ()
    assert early.requeue_after == pytest.approx(1)
    late = decide(finished, world(pod(0, phase="Succeeded"), going), later(20))
    assert late.actions == (DeletePod(1, "pod-1", 0),)


def test_a_finished_job_waits_for_nothing() -> None:
    before = training_job(spec(activeDeadlineSeconds=5))
    before.status.not_before = to_text(later(500))
    decision = decide(before, world(pod(0), pod(1)), later(5))
    assert decision.status.phase == "Failed"
    assert decision.status.not_before is None


def test_a_crew_that_was_done_when_it_was_suspended_has_succeeded() -> None:
    before = training_job(spec(suspend=False))
    both = replace(before, spec=before.spec.model_copy(update={"suspend": True}))
    assert decide(both, world(pod(0), pod(1), launchers=DONE), NOW).status.phase == "Succeeded"


def test_after_a_long_absence_pods_that_all_ended_with_zero_are_a_success() -> None:
    before = training_job()
    ended = tuple(pod(i, phase="Succeeded") for i in range(2))
    decision = decide(before, world(*ended, listening_since=later(86_400)), later(86_401))
    assert decision.status.phase == "Succeeded"
    assert counts(decision) == (0, 0)


def test_done_with_an_older_generation_is_not_done() -> None:
    before = training_job()
    before.status.generation = 2
    decision = decide(before, world(pod(0), pod(1), launchers=DONE), NOW)
    assert decision.status.phase != "Succeeded"
    assert all(member.phase != "Done" for member in decision.status.workers.members)


def test_what_happens_after_the_end_is_no_incident() -> None:
    finished = succeeded()
    later_on = decide(finished, world(pod(0, phase="Failed", exit_code=1)), later(1))
    assert counts(later_on) == (0, 0)
    assert later_on.status.phase == "Succeeded"
    assert later_on.actions == ()
