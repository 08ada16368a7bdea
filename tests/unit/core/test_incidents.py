"""What counts as a fault, whose it is, and how many a pile of bad news makes."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest

from rowlock.protocol import ExitCode
from rowlock_operator.core.decide import decide
from rowlock_operator.core.draft import to_text
from rowlock_operator.core.model import CreatePod, DeletePod, Launcher
from tests.unit.core.build import (
    NOW,
    after,
    condition,
    counts,
    end,
    job,
    later,
    launcher,
    places,
    pod,
    progress,
    spec,
    training_job,
    world,
)

COMMAND = {"command": ["python", "train.py"]}


def last_failure(decision):
    assert decision.status.failures.last is not None
    return decision.status.failures.last


def last_preemption(decision):
    assert decision.status.preemptions.last is not None
    return decision.status.preemptions.last


# --- pods ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("heard", ["all", "cut off", "unknown to a new operator"])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_pod_that_stays_on_a_dead_node_is_counted_once_and_forced_away(workers: int, heard: str) -> None:
    before = training_job(spec(workers=workers))
    last = workers - 1
    pods = (*(pod(i) for i in range(last)), pod(last, deleting_since=NOW, grace_seconds=30))
    crew = () if heard.startswith("unknown") else tuple(launcher(i, connected=heard == "all") for i in range(workers))
    seen = world(*pods, launchers=crew)

    early = decide(before, seen, later(59))
    assert counts(early) == (0, 0)
    assert early.requeue_after == pytest.approx(1)
    late = decide(after(before, early), seen, later(60))
    assert counts(late) == (0, 1)
    assert (last_preemption(late).reason, last_preemption(late).worker) == ("NodeLost", last)
    assert late.status.generation == 2
    assert late.actions == (DeletePod(last, f"pod-{last}", 0),)
    assert counts(decide(after(before, late), seen, later(61))) == (0, 1)
    gone = decide(after(before, late), world(*pods[:-1], launchers=crew), later(62))
    assert gone.actions == (CreatePod(last),)
    assert counts(gone) == (0, 1)


@pytest.mark.parametrize(
    "reason",
    [
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
        "Unknown",
        "ContainerStatusUnknown",
    ],
)
def test_what_the_cluster_does_to_a_pod_is_a_preemption(reason: str) -> None:
    seen = world(pod(0), pod(1, phase="Failed", reason=reason), launchers=(launcher(0),))
    decision = decide(training_job(), seen, NOW)
    assert counts(decision) == (0, 1)
    assert last_preemption(decision).reason == reason


def test_a_pod_without_a_place_is_never_blamed_and_is_taken_away() -> None:
    begun = after(job(), decide(job(), world(pod(0)), NOW))
    ended = pod(1, phase="Failed", exit_code=1, deleting_since=NOW)
    decision = decide(begun, world(pod(0), ended), later(1))
    assert counts(decision) == (0, 0)
    assert decision.actions == (DeletePod(1, "pod-1", 0),)
    stuck = decide(begun, world(pod(0), pod(1, deleting_since=NOW)), later(60))
    assert counts(stuck) == (0, 0)
    assert stuck.actions == (DeletePod(1, "pod-1", 0),)


@pytest.mark.parametrize("how", ["failed", "vanished"])
def test_a_rack_whose_pods_end_one_by_one_is_one_incident(how: str) -> None:
    current = training_job(spec(workers=4))
    crew = tuple(launcher(i) for i in range(4))
    for ended in (1, 2, 3):
        dead = [pod(i, phase="Failed", exit_code=137) for i in range(1, ended + 1)] if how == "failed" else []
        alive = [pod(0), *(pod(i) for i in range(ended + 1, 4))]
        current = after(current, decide(current, world(*alive, *dead, launchers=crew[:1]), later(ended)))
    counted = current.status.failures.count, current.status.preemptions.count
    assert counted == ((1, 0) if how == "failed" else (0, 1))
    assert current.status.generation == 2
    assert current.status.restarts == 1
    refilled = decide(current, world(pod(0), launchers=crew[:1]), later(9))
    assert [action for action in refilled.actions if isinstance(action, CreatePod)] == [
        CreatePod(1),
        CreatePod(2),
        CreatePod(3),
    ]


def test_a_survivor_that_has_joined_the_next_generation_is_counted_when_it_ends_too() -> None:
    before = training_job(spec(workers=4))
    dead = pod(1, phase="Failed", exit_code=1)
    others = (pod(0), pod(2), pod(3))
    first = after(before, decide(before, world(dead, *others, launchers=(launcher(0),)), NOW))
    joined = tuple(launcher(i, "ready", 2) for i in (0, 2, 3))
    second = after(first, decide(first, world(*others, launchers=joined), later(1)))
    third = decide(second, world(pod(0), pod(3), pod(2, phase="Failed", exit_code=1), launchers=joined[:1]), later(2))
    assert counts(third) == (2, 0)
    assert third.status.generation == 3


def test_a_replacement_that_dies_at_its_start_is_counted_and_a_crash_loop_spends_the_budget() -> None:
    current = training_job(spec(recovery={"maxFailures": 3, "backoff": {"initialSeconds": 1, "maxSeconds": 1}}))
    dead = pod(1, phase="Failed", exit_code=1)
    moment = 0
    for tries in range(1, 5):
        current = after(current, decide(current, world(pod(0), dead, launchers=(launcher(0),)), later(moment)))
        assert current.status.failures.count == tries
        current = after(current, decide(current, world(pod(0), launchers=(launcher(0),)), later(moment + 5)))
        # The operator sees the fresh pod only when it is dead already.
        dead = pod(1, f"pod-1-{tries}", "Failed", exit_code=1)
        moment += 10
    assert current.status.phase == "Failed"


@pytest.mark.parametrize("others", ["ready", "starting"])
def test_a_pod_that_ended_with_zero_while_the_others_only_begin_was_done_with_an_older_generation(others) -> None:
    before = training_job()
    seen = world(pod(0), pod(1, phase="Succeeded"), launchers=(launcher(0, others),))
    decision = decide(before, seen, NOW)
    assert decision.status.generation == 2
    assert (last_failure(decision).reason, last_failure(decision).worker) == ("EndedEarly", 1)
    assert places(decision) == ("pod-0", "")


def test_a_fresh_pod_that_ends_with_zero_before_its_launcher_is_done_ended_early() -> None:
    before = training_job(spec(recovery={"retryableExitCodes": [42]}))
    idle = launcher(1, "idle", 0)
    seen = world(pod(0), pod(1, phase="Succeeded"), launchers=(launcher(0), idle))
    decision = decide(before, seen, NOW)
    assert last_failure(decision).reason == "EndedEarly"
    # It has no exit code that could be allowed or refused: it is tried again.
    assert decision.status.phase == "Recovering"


def test_a_pod_that_was_done_with_the_generation_before_gives_up_its_place_uncounted() -> None:
    before = training_job()
    done_of_one = launcher(1, "done", 1)
    failed = world(pod(0, phase="Failed", exit_code=1), pod(1), launchers=(done_of_one,))
    second = after(before, decide(before, failed, NOW))
    seen = world(pod(1, phase="Succeeded"), launchers=(done_of_one,))
    decision = decide(second, seen, later(1))
    assert counts(decision) == (1, 0)
    assert decision.status.phase != "Succeeded"
    assert places(decision)[1] == ""


def test_a_worker_cut_off_that_trained_to_the_end_alone_is_done() -> None:
    cut_off = launcher(1, connected=False)
    seen = world(pod(0), pod(1, phase="Succeeded"), launchers=(launcher(0, "done"), cut_off))
    assert decide(training_job(), seen, NOW).status.phase == "Succeeded"


@pytest.mark.parametrize("phase", ["starting", "ready", "ended"])
def test_a_pod_that_ended_with_zero_before_its_ranks_trained_ended_early(phase: str) -> None:
    seen = world(pod(0), pod(1, phase="Succeeded"), launchers=(launcher(0), launcher(1, phase)))
    assert last_failure(decide(training_job(), seen, NOW)).reason == "EndedEarly"


@pytest.mark.parametrize("end_of_pod", [{"exit_code": 137}, {"reason": "Evicted"}])
def test_what_becomes_of_the_pod_of_a_worker_that_was_done_is_no_incident(end_of_pod) -> None:
    before = training_job()
    half = after(before, decide(before, world(pod(0), pod(1), launchers=(launcher(0, "done"), launcher(1))), NOW))
    decision = decide(half, world(pod(0, phase="Failed", **end_of_pod), pod(1), launchers=(launcher(1),)), NOW)
    assert counts(decision) == (0, 0)
    finished = decide(after(half, decision), world(pod(1), launchers=(launcher(1, "done"),)), NOW)
    assert (finished.status.phase, counts(finished)) == ("Succeeded", (0, 0))


# --- launchers that are not heard ------------------------------------------------------------------------


@pytest.mark.parametrize(("running", "listening"), [(0, -300), (-300, 0)])
def test_a_worker_that_is_never_heard_while_others_are_is_replaced(running: int, listening: int) -> None:
    before = training_job()
    mute = pod(1, running_since=later(running))
    seen = world(pod(0), mute, launchers=(launcher(0, last_seen=later(60)),), listening_since=later(listening))
    early = decide(before, seen, later(59))
    assert early.status.generation == 1
    assert early.requeue_after == pytest.approx(1)
    late = decide(before, seen, later(60))
    assert [(one.reason, one.worker) for one in late.status.unsettled] == [("WorkerUnreachable", 1)]
    assert (counts(late), late.status.generation) == ((1, 0), 2)
    # Nobody knows why yet; that its pod goes when it is deleted, or does not, will tell.
    moved_on = world(pod(0), mute, launchers=(launcher(0, "ready", 2, last_seen=later(70)),), listening_since=NOW)
    removing = decide(after(before, late), moved_on, later(70))
    assert removing.actions == (DeletePod(1, "pod-1", None),)
    assert counts(removing) == (1, 0)


def test_when_nobody_of_a_crew_that_trains_is_heard_any_more_it_is_said_and_nobody_is_blamed() -> None:
    silent = tuple(launcher(i, connected=False) for i in range(2))
    early = decide(training_job(), world(pod(0), pod(1), launchers=silent), later(14))
    assert (condition(early, "Ready")[0], condition(early, "Degraded")[0]) == ("True", "False")
    assert early.requeue_after == pytest.approx(1)
    late = decide(training_job(), world(pod(0), pod(1), launchers=silent), later(15))
    assert condition(late, "Ready") == ("Unknown", "CrewUnheard")
    assert condition(late, "Degraded") == ("True", "CrewUnheard")
    assert (late.status.phase, counts(late), late.actions) == ("Running", (0, 0), ())


def test_since_when_nobody_is_heard_stays_what_was_said_when_the_launchers_are_forgotten() -> None:
    silent = tuple(launcher(i, connected=False, last_seen=later(3600)) for i in range(2))
    said = decide(training_job(), world(pod(0), pod(1), launchers=silent, listening_since=NOW), later(3615))
    forgotten = decide(after(training_job(), said), world(pod(0), pod(1), listening_since=NOW), later(4200))
    message = next(one.message for one in forgotten.status.conditions if one.type == "Ready")
    assert to_text(later(3600)) in message
    assert forgotten.status == said.status


def test_an_operator_that_was_away_and_hears_nobody_says_so_too() -> None:
    decision = decide(training_job(), world(pod(0), pod(1), listening_since=NOW), later(15))
    assert condition(decision, "Ready") == ("Unknown", "CrewUnheard")


def test_when_nobody_is_heard_it_is_said_and_nobody_is_blamed() -> None:
    before = training_job()
    before.status.phase = "Starting"
    pods = tuple(pod(i, running_since=NOW) for i in range(2))
    early = decide(before, world(*pods, listening_since=NOW), later(59))
    assert condition(early, "Degraded") == ("False", "AsExpected")
    assert early.requeue_after == pytest.approx(1)
    late = decide(before, world(*pods, listening_since=NOW), later(61))
    assert condition(late, "Degraded") == ("True", "WorkerUnreachable")
    assert counts(late) == (0, 0)
    assert late.actions == ()


@pytest.mark.parametrize("phase", ["Starting", "Recovering"])
def test_when_a_crew_that_forms_is_cut_off_as_a_whole_it_is_said(phase: Literal["Starting", "Recovering"]) -> None:
    before = training_job()
    before.status.phase = phase
    silent = tuple(launcher(i, "starting", connected=False) for i in range(2))
    early = decide(before, world(pod(0), pod(1), launchers=silent), later(14))
    assert condition(early, "Degraded") == ("False", "AsExpected")
    assert early.requeue_after == pytest.approx(1)
    late = decide(before, world(pod(0), pod(1), launchers=silent), later(15))
    assert condition(late, "Degraded") == ("True", "CrewUnheard")
    assert (counts(late), late.actions) == ((0, 0), ())


def test_nobody_is_called_unreachable_before_it_is_known_since_when_launchers_could_connect() -> None:
    pods = tuple(pod(i, running_since=NOW) for i in range(2))
    decision = decide(training_job(), world(*pods, launchers=(launcher(0),)), later(9999))
    assert condition(decision, "Degraded") == ("False", "AsExpected")
    assert counts(decision) == (0, 0)


def test_after_a_silence_of_all_the_first_that_is_heard_proves_nothing_against_those_never_heard() -> None:
    before = training_job()
    pods = tuple(pod(i, running_since=NOW) for i in range(2))

    def decided(seconds: float):
        back = launcher(0, last_seen=later(seconds), connected_since=later(600))
        return decide(before, world(*pods, launchers=(back,), listening_since=NOW), later(seconds))

    assert counts(decided(601)) == (0, 0)
    assert decided(601).requeue_after == pytest.approx(19)
    assert decided(620).status.unsettled[0].reason == "WorkerUnreachable"


def test_after_a_silence_of_all_a_launcher_that_is_still_away_gets_its_time_to_come_back() -> None:
    def decided(seconds: float):
        back = launcher(0, last_seen=later(seconds), connected_since=later(60))
        away = launcher(1, connected=False)
        return decide(training_job(), world(pod(0), pod(1), launchers=(back, away)), later(seconds))

    assert counts(decided(61)) == (0, 0)
    assert decided(61).requeue_after == pytest.approx(19)
    assert [one.reason for one in decided(80).status.unsettled] == ["WorkerSilent"]


@pytest.mark.parametrize(
    ("stepped", "now", "who", "stays"),
    [
        pytest.param(29, 30, 0, True, id="moved-lately-and-after-the-lease"),
        pytest.param(10, 16, 0, False, id="moved-lately-but-before-the-lease-ran-out"),
        pytest.param(20, 60, 0, False, id="moved-after-the-lease-but-not-lately"),
        pytest.param(29, 30, 1, False, id="only-the-silent-one-moved"),
        pytest.param(None, 30, 0, False, id="nobody-moved"),
    ],
)
def test_a_silent_launcher_stays_only_while_the_crew_demonstrably_trains_on(stepped, now, who, stays) -> None:
    moved = {"stepped_at": None if stepped is None else later(stepped)}
    # A worker's own clock proves nothing, however new it says its progress is.
    boasting = progress(time=later(now).timestamp())
    first = launcher(0, last_seen=later(now), progress=boasting, **(moved if who == 0 else {}))
    silent = launcher(1, connected=False, **(moved if who == 1 else {}))
    decision = decide(training_job(), world(pod(0), pod(1), launchers=(first, silent)), later(now))
    assert decision.status.generation == (1 if stays else 2)
    if stays:
        assert decision.requeue_after == pytest.approx(15)
    else:
        assert [one.reason for one in decision.status.unsettled] == ["WorkerSilent"]


def test_a_launcher_as_late_as_all_others_proves_nothing_though_its_lease_runs_out_a_moment_later() -> None:
    def decided(seconds: float, heard: float):
        first = launcher(0, last_seen=later(heard))
        return decide(
            training_job(), world(pod(0), pod(1), launchers=(first, launcher(1, connected=False))), later(seconds)
        )

    assert counts(decided(15, heard=1)) == (0, 0)
    assert decided(15, heard=1).requeue_after == pytest.approx(3)
    assert [one.reason for one in decided(15, heard=12).status.unsettled] == ["WorkerSilent"]


def test_a_silent_launcher_is_counted_once_however_long_its_pod_takes_to_go() -> None:
    current = training_job(spec(recovery={"maxFailures": 1}))
    silent = launcher(1, connected=False)
    for seconds in (16, 17, 40, 300):
        first = launcher(0, "ready", current.status.generation, last_seen=later(seconds))
        going = pod(1) if seconds < 40 else pod(1, deleting_since=later(30))
        decision = decide(current, world(pod(0), going, launchers=(first, silent)), later(seconds))
        assert sum(counts(decision)) == 1
        assert decision.status.generation == 2
        current = after(current, decision)


def test_a_worker_that_is_done_may_be_silent() -> None:
    before = training_job()
    half = after(before, decide(before, world(pod(0), pod(1), launchers=(launcher(0, "done"), launcher(1))), NOW))
    silent = launcher(0, "done", connected=False)
    assert counts(decide(half, world(pod(0), pod(1), launchers=(silent, launcher(1))), later(60))) == (0, 0)


@pytest.mark.parametrize(("silence", "reason"), [(6.5, "WorkerLost"), (4.4, "PeerLost")])
def test_lost_peers_blame_who_missed_its_heartbeats_and_else_the_network(silence: float, reason: str) -> None:
    before = training_job(spec(workers=4))
    lost = tuple(launcher(i, "ended", exits=(end(i, ExitCode.PEER_LOST),), last_seen=later(6)) for i in (0, 2, 3))
    # It lost its power: nothing hung up, nothing more is heard.
    dark = launcher(1, last_seen=later(6 - silence))
    decision = decide(before, world(*(pod(i) for i in range(4)), launchers=(*lost, dark)), later(6))
    assert counts(decision) == (1, 0)
    found = decision.status.unsettled[0] if reason == "WorkerLost" else last_failure(decision)
    assert found.reason == reason
    assert ("network" in found.message) is (reason == "PeerLost")
    if reason == "WorkerLost":
        assert found.worker == 1
        assert found.pod_uid == "pod-1"


def test_of_several_that_hung_up_the_one_heard_last_is_blamed() -> None:
    before = training_job(spec(workers=4))
    lost = tuple(launcher(i, "ended", exits=(end(i, ExitCode.PEER_LOST),)) for i in (0, 3))
    cut_before = launcher(1, connected=False, last_seen=later(-12))
    just_now = launcher(2, connected=False, last_seen=later(-1))
    seen = world(*(pod(i) for i in range(4)), launchers=(*lost, cut_before, just_now))
    decision = decide(before, seen, NOW)
    assert [one.worker for one in decision.status.unsettled] == [2]


# --- ranks -----------------------------------------------------------------------------------------------


def test_of_several_ranks_that_failed_the_earliest_is_the_root() -> None:
    follower = launcher(0, "ended", exits=(end(0, 1, "second", time=NOW.timestamp() + 1),))
    root = launcher(1, "ended", exits=(end(1, 2, "first"),))
    decision = decide(training_job(), world(pod(0), pod(1), launchers=(follower, root)), NOW)
    assert (last_failure(decision).worker, last_failure(decision).exit_code) == (1, 2)


@pytest.mark.parametrize(
    ("pods", "crew", "reason", "worker"),
    [
        pytest.param(
            (pod(0, phase="Failed", reason="Evicted"), pod(1, phase="Failed", exit_code=1, reason="Error")),
            (),
            "Error",
            1,
            id="a-pod-that-failed-before-one-that-was-taken",
        ),
        pytest.param(
            (pod(0), pod(1, phase="Failed", reason="Evicted")),
            (launcher(0, "ended", exits=(end(0, 75),), leaving=True),),
            "Evicted",
            1,
            id="a-pod-that-ended-before-one-that-is-leaving",
        ),
        pytest.param(
            (pod(0), pod(1, phase="Failed", reason="Evicted")),
            (launcher(0, "ended", exits=(end(0, 75),)),),
            "Evicted",
            1,
            id="a-pod-that-ended-before-ranks-that-saved",
        ),
        pytest.param(
            (pod(0), pod(1)),
            (
                launcher(0, "ended", exits=(end(0, 75),)),
                launcher(1, "ended", exits=(end(1, 75),), leaving=True),
            ),
            "Preempted",
            1,
            id="who-is-leaving-before-who-only-saved",
        ),
        pytest.param(
            (pod(0), pod(1)),
            (launcher(0, "ended", exits=(end(0, 75),)), launcher(1, "running", leaving=True)),
            "Preempted",
            1,
            id="who-is-leaving-though-its-ranks-end-last",
        ),
        pytest.param(
            (pod(0), pod(1, deleting_since=NOW)),
            (launcher(0, "ended", exits=(end(0, 75),)), launcher(1, "running")),
            "PodDeleted",
            1,
            id="whose-pod-is-being-deleted-though-its-ranks-end-last",
        ),
        pytest.param(
            (pod(0), pod(1)),
            (launcher(0, "ended", exits=(end(0, 75),)), launcher(1, "ended", exits=(end(1, 76),))),
            "Preempted",
            0,
            id="ranks-that-saved-before-ranks-that-lost-a-peer",
        ),
    ],
)
def test_among_much_bad_news_the_cause_is_named(pods, crew, reason: str, worker: int) -> None:
    decision = decide(training_job(), world(*pods, launchers=crew), NOW)
    assert sum(counts(decision)) == 1
    last = decision.status.failures.last or decision.status.preemptions.last
    assert last is not None
    assert (last.reason, last.worker) == (reason, worker)


def test_ranks_that_saved_unasked_are_a_preemption_that_costs_no_pod() -> None:
    saved = tuple(launcher(i, "ended", exits=(end(i, 75),)) for i in range(2))
    decision = decide(training_job(), world(pod(0), pod(1), launchers=saved), NOW)
    assert counts(decision) == (0, 1)
    assert places(decision) == ("pod-0", "pod-1")


def test_exits_a_launcher_still_remembers_while_it_starts_anew_are_no_incident() -> None:
    starting = launcher(1, "starting", exits=(end(1, 1),))
    decision = decide(training_job(), world(pod(0), pod(1), launchers=(launcher(0), starting)), NOW)
    assert counts(decision) == (0, 0)


# --- a user's command ------------------------------------------------------------------------------------


FOLLOWER = launcher(0, "ended", exits=(end(0, 1, "connection closed by peer"),))


@pytest.mark.parametrize(
    ("cause", "expected", "reason"),
    [
        (pod(1, phase="Failed", exit_code=137, reason="OOMKilled"), (1, 0), "OOMKilled"),
        (pod(1, phase="Failed", reason="Evicted"), (0, 1), "Evicted"),
        (None, (0, 1), "PodDeleted"),
    ],
)
def test_a_commands_exit_waits_for_the_pod_that_explains_it(cause, expected, reason) -> None:
    before = training_job(spec(**COMMAND))
    waiting = decide(before, world(pod(0), pod(1), launchers=(FOLLOWER, launcher(1))), NOW)
    assert counts(waiting) == (0, 0)
    assert waiting.requeue_after == pytest.approx(5)
    pods = (pod(0), cause) if cause else (pod(0),)
    known = decide(after(before, waiting), world(*pods, launchers=(FOLLOWER,)), later(1))
    assert counts(known) == expected
    assert known.status.generation == 2
    last = known.status.failures.last or known.status.preemptions.last
    assert last is not None
    assert (last.reason, last.worker) == (reason, 1)
    assert counts(decide(after(before, known), world(*pods, launchers=(FOLLOWER,)), later(9))) == expected


def test_a_commands_exit_that_nothing_explains_is_its_own() -> None:
    before = training_job(spec(**COMMAND))
    seen = world(pod(0), pod(1), launchers=(replace(FOLLOWER, last_seen=later(4)), launcher(1, last_seen=later(3))))
    decision = decide(before, seen, later(5))
    assert counts(decision) == (1, 0)
    assert (last_failure(decision).reason, last_failure(decision).worker) == ("RankFailed", 0)


def test_a_worker_that_lost_its_power_explains_the_exit_codes_of_a_users_command() -> None:
    before = training_job(spec(**COMMAND))
    seen = world(pod(0), pod(1), launchers=(replace(FOLLOWER, last_seen=later(4)), launcher(1)))
    decision = decide(before, seen, later(5))
    assert [(one.reason, one.worker) for one in decision.status.unsettled] == [("WorkerLost", 1)]


def test_a_leaving_worker_explains_a_commands_exit_codes_however_late_that_is_known() -> None:
    before = training_job(spec(**COMMAND))
    leaving = launcher(1, "ended", exits=(end(1, 143),), leaving=True, last_seen=later(9))
    follower = replace(FOLLOWER, last_seen=later(9))
    decision = decide(before, world(pod(0), pod(1), launchers=(follower, leaving)), later(9))
    assert counts(decision) == (0, 1)


def test_an_eviction_does_not_fail_a_command_that_has_no_failures_left() -> None:
    before = training_job(spec(**COMMAND, recovery={"maxFailures": 0}))
    waiting = after(before, decide(before, world(pod(0), pod(1), launchers=(FOLLOWER, launcher(1))), NOW))
    decision = decide(waiting, world(pod(0), pod(1, phase="Failed", reason="Evicted"), launchers=(FOLLOWER,)), later(1))
    assert counts(decision) == (0, 1)
    assert decision.status.phase == "Recovering"


@pytest.mark.parametrize("told_by", ["pod", "launcher"])
def test_a_peers_exit_code_does_not_hide_the_one_that_may_be_retried(told_by: str) -> None:
    before = training_job(spec(**COMMAND, recovery={"retryableExitCodes": [42]}))
    peer = launcher(0, "ended", exits=(end(0, 1, time=NOW.timestamp() + 1),))
    waiting = after(before, decide(before, world(pod(0), pod(1), launchers=(peer, launcher(1))), NOW))
    peer = replace(peer, last_seen=later(6))
    if told_by == "pod":
        seen = world(pod(0), pod(1, phase="Failed", exit_code=42), launchers=(peer,))
    else:
        seen = world(pod(0), pod(1), launchers=(peer, launcher(1, "ended", exits=(end(1, 42),), last_seen=later(6))))
    decision = decide(waiting, seen, later(6))
    assert decision.status.phase == "Recovering"
    assert last_failure(decision).exit_code == 42


@pytest.mark.parametrize("code", [78, 126, 127])
def test_a_command_that_cannot_be_started_fails_the_job_at_once_whoever_else_blips(code: int) -> None:
    before = training_job(spec(**COMMAND))
    unstartable = launcher(0, "ended", exits=(end(0, code),))
    decision = decide(before, world(pod(0), pod(1), launchers=(unstartable, launcher(1, connected=False))), NOW)
    assert condition(decision, "Failed") == ("True", "NotRetryable")


def test_a_command_on_one_worker_has_no_peer_to_wait_for() -> None:
    before = training_job(spec(workers=1, **COMMAND))
    assert counts(decide(before, world(pod(0), launchers=(FOLLOWER,)), NOW)) == (1, 0)


def test_a_worker_that_hung_up_explains_the_exit_codes_of_a_users_command() -> None:
    before = training_job(spec(**COMMAND))
    decision = decide(before, world(pod(0), pod(1), launchers=(FOLLOWER, launcher(1, connected=False))), NOW)
    assert [(one.reason, one.worker) for one in decision.status.unsettled] == [("WorkerLost", 1)]


@pytest.mark.parametrize("what", [COMMAND, {}])
@pytest.mark.parametrize("crew", [(), (launcher(1, connected=False),)])
def test_a_pod_that_is_being_deleted_and_no_longer_heard_is_the_peer_that_was_lost(what, crew) -> None:
    before = training_job(spec(**what))
    code = 1 if what else ExitCode.PEER_LOST
    follower = launcher(0, "ended", exits=(end(0, code),))
    seen = world(pod(0), pod(1, deleting_since=NOW), launchers=(follower, *crew))
    decision = decide(before, seen, later(1))
    assert counts(decision) == (0, 1)
    assert (last_preemption(decision).reason, last_preemption(decision).worker) == ("PodDeleted", 1)
    # As long as it is heard it may still save, and is no cause.
    heard = world(pod(0), pod(1, deleting_since=NOW), launchers=(follower, launcher(1)))
    assert counts(decide(before, heard, later(1))) == (0, 0)


def test_a_restarted_operator_counts_what_it_wrote_only_once() -> None:
    before = training_job()
    seen = world(pod(0), pod(1, phase="Failed", exit_code=1))
    first = decide(before, seen, NOW)
    reread = replace(before, status=first.status.model_validate(first.status.model_dump(by_alias=True)))
    again = decide(reread, seen, later(1))
    assert again.status == first.status


def test_a_disruption_is_named_by_its_own_reason() -> None:
    preempted = pod(
        1, phase="Failed", exit_code=143, reason="Error", disrupted=True, disruption="PreemptionByScheduler"
    )
    decision = decide(training_job(), world(pod(0), preempted, launchers=(launcher(0),)), NOW)
    assert decision.status.preemptions.last is not None
    assert decision.status.preemptions.last.reason == "PreemptionByScheduler"


@pytest.mark.parametrize("broken", [False, True], ids=["silent", "peers-broke"])
def test_a_dead_node_with_two_workers_is_one_fault_and_a_preemption(broken: bool) -> None:
    current = training_job(spec(workers=4, recovery={"maxFailures": 0, "maxPreemptions": 1}))
    pods = tuple(pod(i) for i in range(4))
    gone = tuple(launcher(i, connected=False) for i in (2, 3))

    def alive(generation: int, seconds: float) -> tuple[Launcher, ...]:
        phase = "ended" if broken and generation == 1 else "ready"
        exits = tuple(end(i, ExitCode.PEER_LOST) for i in range(1)) if phase == "ended" else ()
        said = "running" if generation == 1 and not broken else phase
        return tuple(launcher(i, said, generation, exits=exits, last_seen=later(seconds)) for i in (0, 1))

    for seconds in range(110):
        going = tuple(pod(i, deleting_since=later(40)) if seconds > 40 and i > 1 else pods[i] for i in range(4))
        seen = world(*going, launchers=(*alive(current.status.generation, seconds), *gone))
        current = after(current, decide(current, seen, later(seconds)))
    assert (current.status.failures.count, current.status.preemptions.count) == (0, 1)
    assert (current.status.generation, current.status.restarts) == (2, 1)
    assert current.status.phase == "Recovering"


def test_a_leader_that_never_heard_the_lost_worker_waits_for_it_before_it_blames_the_network() -> None:
    before = training_job()
    lost_peer = launcher(0, "ended", exits=(end(0, ExitCode.PEER_LOST),), last_seen=later(30))
    pods = (pod(0, running_since=NOW), pod(1, running_since=NOW))
    seen = world(*pods, launchers=(lost_peer,), listening_since=NOW)
    waiting = decide(before, seen, later(30))
    assert counts(waiting) == (0, 0)
    assert waiting.requeue_after == pytest.approx(30)
    heard = world(
        *pods, launchers=(launcher(0, "ended", exits=(end(0, 76),), last_seen=later(60)),), listening_since=NOW
    )
    late = decide(before, heard, later(60))
    assert [(one.reason, one.worker) for one in late.status.unsettled] == [("WorkerUnreachable", 1)]


def test_a_worker_that_was_done_and_left_explains_nobodys_exit_code() -> None:
    before = training_job(spec(command=["train"], recovery={"retryableExitCodes": [9]}))
    done = launcher(1, "done")
    current = after(before, decide(before, world(pod(0), pod(1), launchers=(launcher(0), done)), NOW))
    left = launcher(1, "done", connected=False)
    crew = (launcher(0, "ended", exits=(end(0, 3),), last_seen=later(20)), left)
    decision = decide(current, world(pod(0), pod(1, phase="Succeeded"), launchers=crew), later(20))
    assert condition(decision, "Failed") == ("True", "NotRetryable")
    assert last_failure(decision).exit_code == 3
