"""What a loss cost is told as it is known: exactly, or as a bound."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from rowlock.local.faults import Faults, Kill
from rowlock.local.history import History
from rowlock.local.timeline import Recovery, Timeline
from rowlock.protocol import ExitCode, Progress, RankExit, Report
from rowlock_operator.core.model import Launcher, Pod


def reports(generation: int, step: int, *, resumed_from: int = 0, exits: tuple[RankExit, ...] = ()) -> Launcher:
    progress = Progress(step, 100, 0.0, 1.0, 1.0, 1.0, 1000.0)
    phase = "ended" if exits else "running"
    report = Report(generation, phase, exits=exits, progress=progress, resumed_from=resumed_from)
    return Launcher(0, "a", True, datetime.now(UTC), report)


def logged(generation: int) -> History:
    """Every tenth step, and the first after a resume."""
    lines = {1: ([40, 50], [900.0, 910.0]), 2: ([41, 50], [990.0, 1000.0])}
    steps, times = lines[generation]
    return History(steps, [1.0, 1.0], times, [generation] * 2)


def killed(worker: int, uid: str) -> Pod:
    return Pod(worker, uid, "Failed", exit_code=137)


def lived_through(timeline: Timeline) -> Recovery:
    """Resume generation 2 at step 40 and return the one recovery."""
    timeline.look(2, (), (reports(2, 41, resumed_from=40),))
    (recovery,) = timeline.recoveries
    assert recovery.resumed_from == 40
    return recovery


def test_a_survivors_own_step_is_exact() -> None:
    timeline = Timeline(logged)
    timeline.look(1, (), (reports(1, 51),))
    end = RankExit(0, ExitCode.PEER_LOST, 57, "a peer is gone", 1.0)
    timeline.look(1, (killed(1, "b"),), (reports(1, 51, exits=(end,)),))
    recovery = lived_through(timeline)
    assert (recovery.steps_lost, recovery.words) == (17, "17")


def test_without_a_survivor_the_newest_step_logged_is_a_lower_bound() -> None:
    timeline = Timeline(logged)
    timeline.look(1, (), (reports(1, 44),))
    timeline.look(1, (killed(0, "a"),), ())
    assert lived_through(timeline).words == "at least 10"


def test_the_first_step_after_a_loss_is_timed_by_the_log_where_there_is_one() -> None:
    for timeline, stepped_at in ((Timeline(logged), 990.0), (Timeline(), 1000.0)):
        timeline.look(1, (killed(0, "a"),), ())
        assert lived_through(timeline).stepped_at == stepped_at


def test_a_rank_that_a_signal_ended_did_not_speak_for_itself() -> None:
    timeline = Timeline()
    timeline.look(1, (), (reports(1, 44, exits=(RankExit(0, 137, 45, "killed by SIGKILL", 1.0),)),))
    assert lived_through(timeline).words == "at least 5"


def test_a_kill_asked_for_knows_its_step() -> None:
    timeline = Timeline(logged)
    faults = Faults([Kill(0, 55)])
    assert faults.arm(0, "a") == "kill@55"
    pods = (killed(0, "a"),)
    timeline.look(1, pods, (), faults.struck(pods))
    assert lived_through(timeline).words == "15"


def test_saving_and_leaving_is_no_loss() -> None:
    timeline = Timeline()
    saved = RankExit(0, ExitCode.SAVED, 50, "saved", 1.0)
    timeline.look(1, (Pod(0, "a", "Failed", exit_code=ExitCode.SAVED),), (reports(1, 50, exits=(saved,)),))
    assert timeline.recoveries == []


def test_a_worker_told_to_go_is_no_loss_however_its_ranks_took_it() -> None:
    timeline = Timeline()
    launcher = reports(1, 50, exits=(RankExit(0, 143, 50, "killed by SIGTERM", 1.0),))
    timeline.look(1, (), (replace(launcher, report=replace(launcher.report, leaving=True)),))
    assert timeline.recoveries == []


def test_ranks_that_make_way_for_a_new_generation_are_no_loss_of_it() -> None:
    timeline = Timeline()
    timeline.look(2, (), (reports(1, 50, exits=(RankExit(0, 137, 50, "killed by SIGKILL", 1.0),)),))
    assert timeline.recoveries == []


def test_several_kills_of_one_worker_come_one_by_one_with_its_pods() -> None:
    faults = Faults([Kill(1, 60), Kill(1, 20), Kill(0, 5)])
    assert faults.arm(1, "first") == "kill@20"
    assert faults.struck([Pod(1, "first", "Failed", exit_code=1)]) == {}  # it ended before its step
    assert faults.arm(1, "second") == "kill@20"
    assert faults.struck([killed(1, "second")]) == {"second": 20}
    assert faults.struck([killed(1, "second")]) == {}
    assert faults.arm(1, "third") == "kill@60"
    assert faults.arm(2, "other") == ""
    assert faults.left == [Kill(0, 5), Kill(1, 60)]
