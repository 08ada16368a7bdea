"""How the states of ranks become one report."""

from __future__ import annotations

import pytest

from rowlock.protocol import MAX_MESSAGE_BYTES, TRACEBACK_CHARS, CheckpointNote, Notice, RankExit, encode
from rowlock_trainer.channel import RankState
from rowlock_trainer.launcher.fold import NOTICES, TRACEBACKS, add_notices, fold, newest_checkpoint, phase_of
from rowlock_trainer.launcher.rank import Rank

FAILED = RankExit(0, 1, 3, "ended with exit code 1", 0.0)


def rank(
    number: int = 0, phase: str = "running", *, ended: bool = False, ending: RankExit | None = None, **state
) -> Rank:
    return Rank(number, number, RankState(1, number, phase, **state), ended=ended, exit=ending, memory_kills=0)


@pytest.mark.parametrize(
    ("ranks", "phase"),
    [
        ([], "idle"),
        ([rank(phase="starting"), rank(phase="ready")], "starting"),
        ([rank(phase="ready"), rank(phase="ready")], "ready"),
        ([rank(phase="ready"), rank(phase="running")], "ready"),
        ([rank(phase="running"), rank(phase="running")], "running"),
        ([rank(phase="done"), rank(phase="running")], "running"),
        ([rank(ended=True), rank(phase="running")], "running"),
        ([rank(ended=True), rank(ended=True)], "done"),
        ([rank(ended=True, ending=FAILED), rank(phase="running")], "ended"),
        ([rank(ended=True, ending=FAILED), rank(ended=True)], "ended"),
    ],
)
def test_the_phase_of_a_worker_follows_from_its_ranks(ranks, phase):
    assert phase_of(ranks) == phase


def test_progress_and_store_are_rank_0s_alone():
    assert fold(1, [rank(4, store="elsewhere:1")]).store == ""
    assert fold(1, [rank(0, store="here:1")]).store == "here:1"


def test_a_report_with_every_rank_of_the_largest_worker_failed_fits_a_message():
    ending = RankExit(0, 1, 3, "ended with exit code 1", 0.0, "\u20ac" * TRACEBACK_CHARS)
    report = fold(1, [rank(number, ended=True, ending=ending) for number in range(64)])
    assert len(encode(report)) < MAX_MESSAGE_BYTES
    assert len(report.exits) == 64
    assert sum(bool(one.traceback) for one in report.exits) == TRACEBACKS


def test_the_newest_checkpoint_is_of_the_newest_generation_even_at_an_earlier_step():
    older = CheckpointNote(100, 1, 1, 0.0, "step-100")
    newer = CheckpointNote(60, 2, 1, 0.0, "step-60")
    assert newest_checkpoint(older, [rank(checkpoint=newer)]) == newer
    assert newest_checkpoint(newer, [rank(checkpoint=older)]) == newer
    assert newest_checkpoint(None, [rank()]) is None


def test_notices_are_told_once_under_an_id_of_their_own_and_the_oldest_go():
    notice = Notice("1", "Warning", "slow volume")
    first, second = RankState(1, 0, notices=(notice,)), RankState(1, 1, notices=(notice,))
    told = add_notices(add_notices(add_notices((), first), first), second)
    assert [one.id for one in told] == ["g1-r0-1", "g1-r1-1"]
    many = RankState(2, 0, notices=tuple(Notice(str(n), "Warning", "") for n in range(NOTICES + 5)))
    assert [one.id for one in add_notices(told, many)][-1] == f"g2-r0-{NOTICES + 4}"
    assert len(add_notices(told, many)) == NOTICES
