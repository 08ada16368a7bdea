"""What becomes of a crew because a person asked: suspend, resume, resize, change. None of it is a fault."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rowlock.api.v1alpha1 import JobSpec
from rowlock_operator.core.decide import decide
from rowlock_operator.core.draft import to_text
from rowlock_operator.core.model import CreatePod, DeletePod, Job, Observed
from rowlock_operator.core.shape import spec_hash
from tests.unit.core.build import (
    NOW,
    after,
    condition,
    counts,
    end,
    job,
    later,
    launcher,
    phase_of,
    places,
    pod,
    reasons,
    spec,
    training_job,
    world,
)

CREW = (launcher(0), launcher(1))
SAVED = tuple(launcher(index, "ended", exits=(end(index, 75),)) for index in range(2))


def suspended(before):
    return replace(before, spec=before.spec.model_copy(update={"suspend": True}), generation=2)


def test_suspending_saves_first_and_deletes_pods_whose_ranks_have_ended() -> None:
    before = suspended(training_job())
    saving = decide(before, world(pod(0), pod(1), launchers=(launcher(0), launcher(1))), NOW)
    assert saving.status.phase == "Suspending"
    assert saving.actions == ()
    assert saving.order is not None
    assert saving.order.phase == "save"
    ended = (launcher(0, "ended", exits=(end(0, 75),)), launcher(1))
    half = decide(after(before, saving), world(pod(0), pod(1), launchers=ended), NOW)
    assert half.actions == (DeletePod(0, "pod-0"),)
    gone = decide(after(before, half), world(), NOW)
    assert gone.status.phase == "Suspended"
    assert condition(gone, "Suspended")[0] == "True"
    assert (gone.status.failures.count, gone.status.preemptions.count, gone.status.restarts) == (0, 0, 0)
    quiet = decide(after(before, gone), world(), later(99))
    assert quiet.actions == ()
    assert quiet.status == gone.status


def test_suspending_a_crew_that_does_not_answer_takes_the_grace_period_and_no_more() -> None:
    before = suspended(training_job())
    crew = (launcher(0), launcher(1))
    saving = after(before, decide(before, world(pod(0), pod(1), launchers=crew), NOW))
    late = decide(saving, world(pod(0), pod(1), launchers=crew), later(31))
    assert late.actions == (DeletePod(0, "pod-0"), DeletePod(1, "pod-1"))


def test_a_job_made_suspended_creates_nothing() -> None:
    decision = decide(job(spec(suspend=True)), Observed(), NOW)
    assert decision.actions == ()
    assert decision.status.phase == "Suspended"


@pytest.mark.parametrize("when", ["suspended", "suspending"])
def test_resuming_forms_a_new_crew_that_counts_as_no_restart(when: str) -> None:
    running = training_job(spec(activeDeadlineSeconds=100))
    before = suspended(running)
    seen = world(pod(0), pod(1), launchers=(launcher(0), launcher(1)))
    stopping = after(before, decide(before, seen, NOW))
    if when == "suspended":
        seen = world()
        stopping = after(stopping, decide(stopping, seen, NOW))
    resumed = replace(stopping, spec=running.spec, generation=3)
    decision = decide(resumed, seen, later(500))
    assert decision.status.generation == 2
    assert decision.status.restarts == 0
    assert decision.status.phase in ("Pending", "Starting")
    assert condition(decision, "Suspended")[0] == "False"
    assert decision.order is not None
    assert decision.order.phase == "run"
    if when == "suspended":
        assert decision.actions == (CreatePod(0), CreatePod(1))


@pytest.mark.parametrize("size", [1, 4])
def test_a_resized_crew_saves_then_goes_on_with_its_new_size(size: int) -> None:
    running = training_job()
    resized = replace(running, spec=spec(workers=size), generation=2)
    crew = (launcher(0), launcher(1))
    saving = decide(resized, world(pod(0), pod(1), launchers=crew), NOW)
    assert saving.order is not None
    assert saving.order.phase == "save"
    assert condition(saving, "Ready") == ("False", "Saving")
    assert condition(saving, "Saving") == ("True", "Resizing")
    ended = tuple(launcher(i, "ended", exits=(end(i, 75),)) for i in range(2))
    decision = decide(after(resized, saving), world(pod(0), pod(1), launchers=ended), NOW)
    assert decision.status.generation == 2
    assert decision.status.restarts == 0
    assert decision.order is not None
    assert decision.order.workers == size
    expected = (DeletePod(1, "pod-1"),) if size == 1 else (CreatePod(2), CreatePod(3))
    assert decision.actions == expected


# --- a save that has begun -------------------------------------------------------------------------------


def wished(before: Job, job_spec: JobSpec | None = None, **change) -> Job:
    """The job after a person changed its spec."""
    changed = job_spec or before.spec.model_copy(update=change)
    return replace(before, spec=changed, generation=before.generation + 1)


@pytest.mark.parametrize("at_work", ["starting", "ready", "running"])
@pytest.mark.parametrize("wish", [{"suspend": True}, {"workers": 4}])
def test_whoever_has_live_ranks_is_asked_to_save_first(wish, at_work: str) -> None:
    crew = (launcher(0, at_work), launcher(1, "ended", exits=(end(1, 75),)))
    decision = decide(wished(training_job(), **wish), world(pod(0), pod(1), launchers=crew), NOW)
    assert phase_of(decision) == "save"
    assert DeletePod(0, "pod-0") not in decision.actions
    assert decision.status.generation == 1
    assert condition(decision, "Saving")[0] == "True"


@pytest.mark.parametrize(("wish", "seconds"), [({"suspend": True}, 0), ({"workers": 1}, 20)])
def test_whoever_cannot_be_asked_is_not_waited_for(wish, seconds: int) -> None:
    cut_off = tuple(launcher(i, connected=False) for i in range(2))
    decision = decide(wished(training_job(), **wish), world(pod(0), pod(1), launchers=cut_off), later(seconds))
    assert DeletePod(1, "pod-1") in decision.actions


@pytest.mark.parametrize("known", [True, False])
def test_a_crew_whose_lines_just_broke_is_given_the_time_to_come_back_and_save(known: bool) -> None:
    """As after a restart of the operator in the middle of a save: it hears nobody for a moment."""
    away = tuple(launcher(i, connected=False) for i in range(2)) if known else ()
    resizing = wished(training_job(), workers=4)
    waiting = decide(resizing, world(pod(0), pod(1), launchers=away, listening_since=NOW), later(1))
    assert waiting.status.generation == 1
    assert phase_of(waiting) == "save"
    assert waiting.requeue_after is not None
    back = decide(after(resizing, waiting), world(pod(0), pod(1), launchers=CREW, listening_since=NOW), later(5))
    assert (back.status.generation, phase_of(back)) == (1, "save")
    saved = decide(after(resizing, back), world(pod(0), pod(1), launchers=SAVED, listening_since=NOW), later(8))
    assert (saved.status.generation, phase_of(saved)) == (2, "run")


def test_ranks_that_end_one_by_one_while_saving_are_nobodys_fault() -> None:
    resizing = wished(training_job(), workers=4)
    saving = after(resizing, decide(resizing, world(pod(0), pod(1), launchers=CREW), NOW))
    half = decide(saving, world(pod(0), pod(1), launchers=(SAVED[0], CREW[1])), later(1))
    assert counts(half) == (0, 0)
    assert half.status.generation == 1
    assert phase_of(half) == "save"
    assert condition(half, "Ready") == ("False", "Saving")


def test_a_crew_that_saves_to_shrink_gets_no_new_pods_beyond_its_new_size() -> None:
    shrinking = wished(training_job(spec(workers=4)), workers=1)
    crew = tuple(launcher(i) for i in range(3))
    decision = decide(shrinking, world(*(pod(i) for i in range(3)), launchers=crew), NOW)
    assert phase_of(decision) == "save"
    assert decision.actions == ()


def test_a_pod_that_goes_in_the_round_its_crew_is_replaced_is_nobodys_fault() -> None:
    resizing = wished(training_job(), workers=4)
    saving = after(resizing, decide(resizing, world(pod(0), pod(1), launchers=CREW), NOW))
    decision = decide(saving, world(pod(0), launchers=SAVED[:1]), later(1))
    assert decision.status.generation == 2
    assert counts(decision) == (0, 0)
    assert decision.status.restarts == 0


def test_a_resize_taken_back_while_saving_lets_the_save_finish() -> None:
    running = training_job()
    resizing = wished(running, workers=4)
    saving = after(resizing, decide(resizing, world(pod(0), pod(1), launchers=CREW), NOW))
    back = wished(saving, workers=2)
    still = decide(back, world(pod(0), pod(1), launchers=(SAVED[0], CREW[1])), later(1))
    assert phase_of(still) == "save"
    assert counts(still) == (0, 0)
    on = decide(after(back, still), world(pod(0), pod(1), launchers=SAVED), later(2))
    assert phase_of(on) == "run"
    assert (on.status.generation, on.status.workers.wanted, on.status.restarts) == (2, 2, 0)
    assert counts(on) == (0, 0)
    assert condition(on, "Saving") == ("False", "Stopped")
    ready = tuple(launcher(i, "running", 2) for i in range(2))
    settled = decide(after(back, on), world(pod(0), pod(1), launchers=ready), later(3))
    assert settled.status.generation == 2
    assert settled.status.phase == "Running"


@pytest.mark.parametrize("seen", [SAVED, (SAVED[0], CREW[1])])
def test_a_job_resumed_while_suspending_waits_for_the_save(seen) -> None:
    running = training_job()
    stopping = wished(running, suspend=True)
    stopping = after(stopping, decide(stopping, world(pod(0), pod(1), launchers=CREW), NOW))
    resumed = wished(stopping, suspend=False)
    decision = decide(resumed, world(pod(0), pod(1), launchers=seen), later(1))
    assert counts(decision) == (0, 0)
    if seen is SAVED:
        assert (phase_of(decision), decision.status.generation) == ("run", 2)
        assert condition(decision, "Saving") == ("False", "Stopped")
        assert condition(decision, "Suspended") == ("False", "Resumed")
        assert "Resumed" in reasons(decision)
    else:
        assert (phase_of(decision), decision.status.generation) == ("save", 1)
        assert decision.status.phase == "Suspending"
        assert condition(decision, "Ready") == ("False", "Saving")


def test_a_crew_that_does_not_save_for_a_resize_is_waited_for_its_grace_and_that_is_said_once() -> None:
    resizing = wished(training_job(), workers=4)
    seen = world(pod(0), pod(1), launchers=CREW)
    saving = decide(resizing, seen, NOW)
    assert saving.requeue_after == pytest.approx(30)
    late = decide(after(resizing, saving), seen, later(30))
    assert (phase_of(late), late.status.generation) == ("run", 2)
    assert reasons(late).count("SaveTimedOut") == 1
    assert condition(late, "Saving") == ("False", "SaveTimedOut")
    again = decide(after(resizing, late), seen, later(31))
    assert "SaveTimedOut" not in reasons(again)
    assert condition(again, "Saving") == ("False", "SaveTimedOut")


def test_a_suspended_crew_that_does_not_save_is_told_of_once_and_its_save_ends() -> None:
    stopping = wished(training_job(), suspend=True)
    seen = world(pod(0), pod(1), launchers=CREW)
    current = after(stopping, decide(stopping, seen, NOW))
    late = decide(current, seen, later(30))
    assert reasons(late).count("SaveTimedOut") == 1
    assert condition(late, "Saving") == ("True", "SaveTimedOut")
    again = decide(after(current, late), seen, later(31))
    assert "SaveTimedOut" not in reasons(again)
    gone = decide(after(current, again), world(), later(32))
    assert gone.status.phase == "Suspended"
    assert condition(gone, "Saving") == ("False", "SaveTimedOut")


def test_a_save_that_succeeded_ends_with_the_suspension() -> None:
    stopping = wished(training_job(), suspend=True)
    current = after(stopping, decide(stopping, world(pod(0), pod(1), launchers=CREW), NOW))
    gone = decide(current, world(), later(5))
    assert condition(gone, "Saving") == ("False", "Stopped")
    # The clock of the next save starts anew, however long ago this one was.
    back = wished(after(current, gone), suspend=False)
    ready = after(back, decide(back, world(pod(0), pod(1)), later(100)))
    again = wished(ready, workers=4)
    crew = tuple(launcher(i, "running", 2) for i in range(2))
    assert phase_of(decide(again, world(pod(0), pod(1), launchers=crew), later(101))) == "save"


def test_suspending_takes_ended_and_going_pods_away_though_their_launchers_seem_at_work() -> None:
    stopping = wished(training_job(), suspend=True)
    dead = decide(stopping, world(pod(0, phase="Failed"), pod(1), launchers=CREW), NOW)
    assert dead.actions == (DeletePod(0, "pod-0", 0),)
    going = pod(0, deleting_since=later(-60))
    assert decide(stopping, world(going, pod(1), launchers=CREW), NOW).actions == (DeletePod(0, "pod-0", 0),)


def test_a_suspended_job_has_no_backoff_and_no_deadline_left() -> None:
    before = training_job(spec(activeDeadlineSeconds=10))
    before.status.not_before = to_text(later(500))
    stopped = decide(wished(before, suspend=True), world(pod(0), pod(1), launchers=CREW), NOW)
    assert (stopped.status.not_before, stopped.status.start_time) == (None, None)


def test_a_resized_crew_does_not_wait_for_the_backoff_of_the_one_before() -> None:
    before = training_job()
    before.status.not_before = to_text(later(500))
    decision = decide(wished(before, workers=4), world(pod(0), pod(1)), NOW)
    assert decision.status.not_before is None
    assert phase_of(decision) == "run"
    assert CreatePod(2) in decision.actions


# --- a changed spec --------------------------------------------------------------------------------------


def of_spec(worker: int, made_from: JobSpec, **fields):
    return pod(worker, spec_hash=spec_hash(made_from), **fields)


def test_a_spec_changed_while_suspended_gives_pods_of_the_new_spec() -> None:
    running = training_job()
    stopping = wished(running, suspend=True)
    stopped = after(stopping, decide(stopping, world(), NOW))
    changed = wished(stopped, suspend=False, image="other:2")
    # One of the old pods was late to go, and is seen once more.
    late = of_spec(1, running.spec)
    decision = decide(changed, world(late), later(9))
    assert places(decision) == ("", "")
    assert set(decision.actions) == {CreatePod(0), DeletePod(1, "pod-1")}
    assert decision.status.spec_hash == spec_hash(changed.spec)
    new = of_spec(0, changed.spec, uid="pod-0b")
    settled = decide(after(changed, decision), world(new, late), later(10))
    assert places(settled) == ("pod-0b", "")
    assert settled.actions == (DeletePod(1, "pod-1"),)
    assert counts(settled) == (0, 0)


def test_a_pod_of_an_older_spec_that_is_seen_late_never_gets_a_place() -> None:
    running = training_job()
    changed = wished(running, image="other:2")
    begun = after(changed, decide(changed, world(), NOW))  # its old pods went while nobody looked
    late, new = of_spec(1, running.spec), of_spec(0, changed.spec)
    decision = decide(begun, world(new, late), later(1))
    assert places(decision) == ("pod-0", "")
    assert decision.actions == (DeletePod(1, "pod-1"),)
    assert counts(decision) == (0, 0)


def test_a_spec_changed_while_suspending_replaces_every_pod_of_the_old_one() -> None:
    running = training_job()
    old = tuple(of_spec(i, running.spec) for i in range(2))
    stopping = wished(running, suspend=True)
    stopping = after(stopping, decide(stopping, world(*old, launchers=CREW), NOW))
    changed = wished(stopping, suspend=False, image="other:2")
    saving = decide(changed, world(*old, launchers=CREW), later(1))
    assert phase_of(saving) == "save"
    decision = decide(after(changed, saving), world(*old, launchers=SAVED), later(2))
    assert decision.actions == (DeletePod(0, "pod-0"), DeletePod(1, "pod-1"))
    assert places(decision) == ("", "")
    gone = decide(after(changed, decision), world(), later(3))
    assert gone.actions == (CreatePod(0), CreatePod(1))
    assert counts(gone) == (0, 0)
    assert gone.status.generation == 2


@pytest.mark.parametrize("known", [True, False])
def test_pods_that_do_not_say_of_which_spec_they_are_stay_unless_the_spec_is_known_to_differ(known: bool) -> None:
    running = training_job()
    stopping = wished(running, suspend=True)
    stopping = after(stopping, decide(stopping, world(pod(0), pod(1), launchers=CREW), NOW))
    changed = wished(stopping, suspend=False, image="other:2")
    if not known:
        changed.status.spec_hash = ""
    decision = decide(changed, world(pod(0), pod(1), launchers=SAVED), later(1))
    assert places(decision) == (("", "") if known else ("pod-0", "pod-1"))
    assert bool(decision.actions) is known


@pytest.mark.parametrize("had_hash", [True, False])
def test_an_upgrade_of_the_operator_disturbs_no_crew(had_hash: bool) -> None:
    running = training_job()
    if not had_hash:
        running.status.spec_hash = ""
    decision = decide(running, world(pod(0), pod(1), launchers=CREW), later(60))
    assert (decision.status.generation, decision.actions, phase_of(decision)) == (1, (), "run")
    assert decision.status.spec_hash == spec_hash(running.spec)


def test_a_spec_that_changed_under_a_running_crew_is_taken_up_after_a_save() -> None:
    running = training_job()
    # The API server forbids it; a laptop, or an API server without the rule, does not.
    changed = wished(running, image="other:2")
    old = tuple(of_spec(i, running.spec) for i in range(2))
    saving = decide(changed, world(*old, launchers=CREW), NOW)
    assert (phase_of(saving), condition(saving, "Saving")) == ("save", ("True", "SpecChanged"))
    decision = decide(after(changed, saving), world(*old, launchers=SAVED), later(1))
    assert set(decision.actions) == {DeletePod(0, "pod-0"), DeletePod(1, "pod-1")}
    assert counts(decision) == (0, 0)
