"""Status says what is true now, of which spec, and since when."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rowlock_operator.core.decide import decide
from rowlock_operator.core.draft import to_text
from tests.unit.core.build import (
    NOW,
    after,
    condition,
    job,
    later,
    launcher,
    note,
    pod,
    progress,
    reasons,
    spec,
    training_job,
    world,
)

CREW = (launcher(0), launcher(1))
PULL = pod(0, phase="Pending", waiting_reason="ErrImagePull", waiting_message="no such tag")
NOWHERE = pod(0, phase="Pending", unschedulable="0/3 nodes are available")


def since(decision, kind: str) -> str:
    return next(one.last_transition_time for one in decision.status.conditions if one.type == kind)


def test_replicas_are_the_pods_that_have_not_ended() -> None:
    decision = decide(training_job(), world(pod(0), pod(1, phase="Failed", exit_code=1), launchers=CREW[:1]), NOW)
    assert decision.status.replicas == 1


def test_what_a_launcher_says_of_an_older_generation_is_not_shown() -> None:
    before = training_job()
    before.status.generation = 2
    stale = launcher(0, "running", 1, progress=progress(90), checkpoint=note(90), resumed_from=80)
    status = decide(before, world(pod(0), pod(1), launchers=(stale,)), NOW).status
    assert (status.progress, status.last_checkpoint, status.resumed_from_step) == (None, None, None)


def test_a_new_trouble_is_told_and_an_old_one_is_not_told_again() -> None:
    first = decide(job(), world(PULL, pod(1)), NOW)
    assert reasons(first).count("ImagePullFailed") == 1
    second = decide(after(job(), first), world(NOWHERE, pod(1)), later(1))
    assert reasons(second).count("PodUnschedulable") == 1
    assert condition(second, "Degraded") == ("True", "PodUnschedulable")
    assert "PodUnschedulable" not in reasons(decide(after(job(), second), world(NOWHERE, pod(1)), later(2)))


@pytest.mark.parametrize("how", ["finished", "suspended"])
def test_a_job_at_rest_is_not_degraded(how: str) -> None:
    before = training_job()
    if how == "finished":
        done = tuple(launcher(i, "done") for i in range(2))
        rest = after(before, decide(before, world(pod(0), pod(1), launchers=done), NOW))
        decision = decide(rest, world(PULL), later(1))
    else:
        before.status.conditions = decide(before, world(claim=None), NOW).status.conditions
        stopping = replace(before, spec=spec(suspend=True, checkpoint={"storage": {"claimName": "mine"}}))
        storage = next(one for one in stopping.status.conditions if one.type == "StorageReady")
        storage.status, storage.reason = "False", "ClaimNotFound"
        decision = decide(stopping, world(), later(1))
        assert decision.status.phase == "Suspended"
    assert condition(decision, "Degraded") == ("False", "AsExpected")


def test_status_names_the_spec_it_is_true_for() -> None:
    decision = decide(replace(training_job(), generation=7), world(pod(0), pod(1), launchers=CREW), NOW)
    assert decision.status.observed_generation == 7
    told = {one.type: one.observed_generation for one in decision.status.conditions}
    assert told["Ready"] == told["Degraded"] == told["StorageReady"] == 7


def test_a_condition_keeps_the_time_of_its_last_change_of_status() -> None:
    before = training_job()
    same = decide(before, world(pod(0), pod(1), launchers=CREW), later(5))
    assert since(same, "Ready") == to_text(NOW)
    broken = decide(before, world(pod(0), pod(1, phase="Failed", exit_code=1), launchers=CREW[:1]), later(10))
    assert condition(broken, "Ready")[0] == "False"
    assert since(broken, "Ready") == to_text(later(10))
    # Another reason is no other status.
    waiting = after(before, broken)
    waiting.status.not_before = to_text(later(50))
    backing_off = decide(waiting, world(pod(0)), later(20))
    assert condition(backing_off, "Ready") == ("False", "BackingOff")
    assert since(backing_off, "Ready") == to_text(later(10))


def test_a_crew_that_waits_says_for_whom() -> None:
    begun = after(job(), decide(job(), world(pod(0), pod(1)), NOW))
    decision = decide(begun, world(pod(0), pod(1), launchers=(launcher(0, "ready"),)), NOW)
    ready = next(one for one in decision.status.conditions if one.type == "Ready")
    assert (ready.reason, ready.message) == ("WaitingForWorkers", "generation 1 waits for workers 1")


def test_a_checkpoint_that_the_crew_no_longer_finds_is_not_shown() -> None:
    before = training_job()
    told = decide(before, world(pod(0), pod(1), launchers=(launcher(0, checkpoint=note()), launcher(1))), NOW)
    assert told.status.last_checkpoint is not None
    afresh = launcher(0, resumed_from=0)
    decision = decide(after(before, told), world(pod(0), pod(1), launchers=(afresh, launcher(1))), NOW)
    assert decision.status.last_checkpoint is None


def test_a_crew_that_went_back_to_a_checkpoint_is_shown_there_and_not_where_it_had_been() -> None:
    before = training_job()
    far = world(pod(0), pod(1), launchers=(launcher(0, progress=progress(40)), launcher(1)))
    current = after(before, decide(before, far, NOW))
    lost = world(pod(0), pod(1, phase="Failed", exit_code=1), launchers=(launcher(0, progress=progress(40)),))
    recovering = decide(current, lost, NOW)
    assert recovering.status.progress is not None
    assert (recovering.status.generation, recovering.status.progress.step) == (2, 40)
    # It says where it goes on from before it says how far it is.
    pods = (pod(0), pod(1, "pod-1b"))
    crew = (launcher(0, "running", 2, resumed_from=30), launcher(1, "running", 2, uid="pod-1b", resumed_from=30))
    resumed = decide(after(current, recovering), world(*pods, launchers=crew), later(3))
    assert resumed.status.progress is not None
    assert (resumed.status.resumed_from_step, resumed.status.progress.step) == (30, 30)
    assert resumed.status.progress.percent == 30
    again = (launcher(0, "running", 2, resumed_from=30, progress=progress(31)), crew[1])
    on = decide(after(current, resumed), world(*pods, launchers=again), later(4))
    assert on.status.progress is not None
    assert on.status.progress.step == 31
