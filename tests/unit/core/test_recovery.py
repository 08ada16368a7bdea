"""From a fault to the next generation: what is counted, who is replaced, how long the next try waits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rowlock.protocol import ExitCode
from rowlock_operator.core.decide import decide
from rowlock_operator.core.draft import to_text
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
    progress,
    spec,
    training_job,
    world,
)

EVICTED = pod(1, phase="Failed", reason="Evicted")
BROKEN = launcher(1, "ended", exits=(end(1, 1),))


def test_a_preemption_never_backs_off() -> None:
    before = training_job()
    before.status.furthest_step, before.status.failures_without_progress = 100, 5
    decision = decide(before, world(pod(0), EVICTED, launchers=(launcher(0),)), NOW)
    assert (decision.status.not_before, decision.status.failures_without_progress) == (None, 5)
    assert phase_of(decision) == "run"


def test_a_preemption_does_not_cut_a_running_backoff_short() -> None:
    before = training_job()
    before.status.not_before = to_text(later(30))
    decision = decide(before, world(pod(0), EVICTED, launchers=(launcher(0),)), NOW)
    assert counts(decision) == (0, 1)
    assert decision.status.not_before == to_text(later(30))
    assert phase_of(decision) == "hold"


def test_a_fault_gives_up_the_places_of_workers_that_are_leaving_going_or_done() -> None:
    before = training_job(spec(workers=4))
    leaving = launcher(0, "running", leaving=True)
    done = launcher(3, "done")
    going = pod(2, deleting_since=NOW)
    seen = world(pod(0), pod(1), going, pod(3), launchers=(leaving, BROKEN, launcher(2), done))
    decision = decide(before, seen, NOW)
    assert places(decision) == ("", "pod-1", "", "")
    assert counts(decision) == (1, 0)
    # That the others go now is part of the same fault.
    gone = decide(after(before, decision), world(pod(1), pod(3), launchers=(BROKEN,)), later(1))
    assert counts(gone) == (1, 0)


def test_a_fault_gives_up_the_place_of_every_pod_that_has_ended() -> None:
    before = training_job(spec(workers=4))
    dead = (pod(1, phase="Failed", exit_code=1), pod(2, phase="Failed", exit_code=1))
    decision = decide(before, world(pod(0), *dead, pod(3), launchers=(launcher(0),)), NOW)
    assert places(decision) == ("pod-0", "", "", "pod-3")
    assert counts(decision) == (1, 0)


def test_where_the_next_generation_goes_on_from_is_not_known_before_it_says_so() -> None:
    before = training_job()
    before.status.resumed_from_step = 20
    assert decide(before, world(pod(0), EVICTED), NOW).status.resumed_from_step is None


@pytest.mark.parametrize(
    ("crew", "furthest", "in_a_row"),
    [
        pytest.param((launcher(0), BROKEN), 55, 4, id="no-further"),
        pytest.param((launcher(0, progress=progress(60)), BROKEN), 60, 1, id="by-rank-0"),
        pytest.param(
            (launcher(0, progress=progress(60)), launcher(1, "ended", exits=(end(1, 1),), progress=progress(50))),
            60,
            1,
            id="by-the-furthest-report",
        ),
        pytest.param((launcher(0), launcher(1, "ended", exits=(end(1, 1, step=58),))), 58, 1, id="by-its-last-step"),
        pytest.param(
            (launcher(0, "ended", exits=(end(0, ExitCode.SAVED, step=90),)), BROKEN), 55, 4, id="not-by-a-save"
        ),
    ],
)
def test_progress_since_the_last_failure_forgives_it(crew, furthest: int, in_a_row: int) -> None:
    before = training_job()
    before.status.furthest_step, before.status.failures_without_progress = 55, 3
    decision = decide(before, world(pod(0), pod(1), launchers=crew), NOW)
    assert (decision.status.furthest_step, decision.status.failures_without_progress) == (furthest, in_a_row)


def test_of_a_long_traceback_the_end_is_kept() -> None:
    long = "File frame\n" * 5000 + "ValueError: the cause"
    broken = launcher(1, "ended", exits=(end(1, 1, traceback=long),))
    last = decide(training_job(), world(pod(0), pod(1), launchers=(broken,)), NOW).status.failures.last
    assert last is not None
    assert last.traceback.endswith("ValueError: the cause")
    assert len(last.traceback) == 32768


def test_of_a_long_message_the_beginning_is_kept() -> None:
    dead = pod(1, phase="Failed", exit_code=1, message="x" * 40_000)
    last = decide(training_job(), world(pod(0), dead), NOW).status.failures.last
    assert last is not None
    assert last.message.startswith("worker 1: its pod ended with exit code 1")
    assert len(last.message) == 32768


@pytest.mark.parametrize(
    ("recovery", "already", "seen_pod", "goes_on"),
    [
        pytest.param({"maxFailures": 1}, (3, 0), EVICTED, True, id="failures-spent-and-a-preemption"),
        pytest.param({"maxPreemptions": 0}, (0, 3), pod(1, phase="Failed", exit_code=1), True, id="and-the-reverse"),
        pytest.param({"maxFailures": 1}, (1, 0), pod(1, phase="Failed", exit_code=1), False, id="failures-spent"),
        pytest.param({"maxFailures": 2}, (1, 9), pod(1, phase="Failed", exit_code=1), True, id="the-last-allowed"),
        pytest.param({"maxPreemptions": 1}, (0, 1), EVICTED, False, id="preemptions-spent"),
    ],
)
def test_a_fault_is_held_against_its_own_budget_only(recovery, already, seen_pod, goes_on: bool) -> None:
    # A budget can be below the count: it may be lowered while the job runs.
    before = training_job(spec(recovery=recovery))
    before.status.failures.count, before.status.preemptions.count = already
    decision = decide(before, world(pod(0), seen_pod, launchers=(launcher(0),)), NOW)
    assert (decision.status.phase == "Recovering") is goes_on
    assert sum(counts(decision)) == sum(already) + 1


def test_a_lost_peer_is_tried_again_whatever_exit_codes_are_retried() -> None:
    before = training_job(spec(recovery={"retryableExitCodes": [42]}))
    lost = tuple(launcher(i, "ended", exits=(end(i, ExitCode.PEER_LOST),), last_seen=later(6)) for i in range(2))
    decision = decide(before, world(pod(0), pod(1), launchers=lost), later(6))
    assert decision.status.failures.last is not None
    assert decision.status.failures.last.exit_code == ExitCode.PEER_LOST
    assert decision.status.phase == "Recovering"
    pod_says = decide(before, world(pod(0), pod(1, phase="Failed", exit_code=76)), NOW)
    assert pod_says.status.phase == "Recovering"


def test_what_failed_is_told_with_the_pod_it_failed_in() -> None:
    decision = decide(training_job(), world(pod(0), pod(1), launchers=(launcher(0), BROKEN)), NOW)
    assert decision.status.failures.last is not None
    assert decision.status.failures.last.pod_uid == "pod-1"
    assert decision.status.failures.last.generation == 1
    assert condition(decision, "Failed")[0] == "False"


OLD, NEW = "operator:1", "operator:2"


def test_all_launchers_of_a_crew_come_from_one_image_through_an_upgrade_of_the_operator() -> None:
    first = decide(job(), world(launcher_image=OLD), NOW)
    assert first.status.launcher_image == OLD
    begun = training_job()
    begun.status.launcher_image = OLD
    one_lost = world(pod(0), pod(1, phase="Failed", exit_code=1), launchers=(launcher(0),), launcher_image=NEW)
    decision = decide(begun, one_lost, NOW)
    assert decision.status.generation == 2
    assert decision.status.launcher_image == OLD, "worker 0 stays, and is of the older release"


def test_a_crew_of_which_no_pod_stays_gets_the_launcher_of_the_new_release() -> None:
    begun = training_job()
    begun.status.launcher_image = OLD
    ended = tuple(pod(index, phase="Failed", exit_code=1) for index in range(2))
    assert decide(begun, world(*ended, launcher_image=NEW), NOW).status.launcher_image == NEW
    changed = spec(template={"metadata": {"labels": {"team": "a"}}})
    alone = replace(begun, spec=changed, generation=2)
    assert decide(alone, world(pod(0), pod(1), launcher_image=NEW), NOW).status.launcher_image == NEW
