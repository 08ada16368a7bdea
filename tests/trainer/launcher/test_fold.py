"""How the states of ranks become one report."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from rowlock.protocol import (
    MAX_MESSAGE_BYTES,
    NOTICE_CHARS,
    REASON_CHARS,
    TRACEBACK_CHARS,
    CheckpointConfig,
    CheckpointNote,
    Notice,
    Progress,
    RankExit,
    WorkerConfig,
    decode,
    encode,
)
from rowlock_trainer.channel import NOTICES_KEPT, RankChannel, RankSetup, RankState
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


#: Takes 12 bytes in JSON, as many as a character can.
WIDE = "\U0001f6a3"
#: Ranks of the largest worker: `processesPerWorker` of the resource goes no further.
MOST = 64


def test_a_report_of_the_largest_worker_with_everything_there_is_to_say_fits_a_message():
    ending = RankExit(0, 1, 3, WIDE * 5000, 0.0, WIDE * 5000)
    note = CheckpointNote(10**9, 10**6, 2**53, 2e9, "step-1000000000-gen-1000000")
    progress = Progress(10**9, 10**9, 1e9, 0.1 + 0.2, 1e9 / 3, 1e9 / 3, 2e9 / 3, {"accuracy": 1 / 3, "loss": 1 / 3})
    said = tuple(Notice(f"checkpoint-rejected-{n}", "CheckpointRejected", WIDE * 5000) for n in range(NOTICES_KEPT))
    ranks = [
        rank(number, ended=True, ending=ending, notices=said, progress=progress, checkpoint=note)
        for number in range(MOST)
    ]
    notices = ()
    for one in ranks:
        notices = add_notices(notices, one.state)
    report = replace(fold(1, ranks), notices=notices, checkpoint=newest_checkpoint(None, ranks))
    assert len(encode(report)) < MAX_MESSAGE_BYTES
    assert (len(report.exits), len(report.notices)) == (MOST, NOTICES)
    assert [bool(one.traceback) for one in report.exits] == [True] * TRACEBACKS + [False] * (MOST - TRACEBACKS)
    assert {len(one.reason) for one in report.exits} == {REASON_CHARS}
    assert {len(one.message) for one in report.notices} == {NOTICE_CHARS}


def test_all_that_a_rank_can_say_fits_a_message_of_its_channel(tmp_path):
    path = str(tmp_path / "ranks")
    worker = WorkerConfig("job", "default", "uid", 0, 1, 1, CheckpointConfig("/checkpoints"), command=("true",))
    failure = RankExit(0, 1, 3, WIDE * REASON_CHARS, 0.0, WIDE * TRACEBACK_CHARS)
    with socket.socket(socket.AF_UNIX) as listener, ThreadPoolExecutor(1) as reader:
        listener.bind(path)
        listener.listen()
        channel = RankChannel(RankSetup(worker, 1, 0, 0, 1, "127.0.0.1", path))
        wire, _ = listener.accept()
        with wire, wire.makefile("rb") as lines:
            last = reader.submit(lambda: next(line for line in lines if b'"phase":"failed"' in line))
            for number in range(NOTICES_KEPT + 1):
                channel.notice(Notice(str(number), "Warning", WIDE * 5000))
            channel.update(phase="failed", failure=failure)
            line = last.result(timeout=30)
    assert len(line) < MAX_MESSAGE_BYTES
    state = decode(line, RankState)
    assert [len(notice.message) for notice in state.notices] == [NOTICE_CHARS] * NOTICES_KEPT
    assert state.failure == failure


def test_the_furthest_checkpoint_that_ranks_of_this_generation_tell_is_the_newest():
    first, later = CheckpointNote(100, 1, 1, 1.0, "step-100"), CheckpointNote(110, 2, 1, 2.0, "step-110")
    assert newest_checkpoint(None, [rank()]) is None
    assert newest_checkpoint(first, [rank()]) == first
    assert newest_checkpoint(first, [rank(checkpoint=first), rank(1, checkpoint=later)]) == later


def test_ranks_that_went_back_to_an_earlier_checkpoint_are_believed():
    bad = CheckpointNote(100, 7, 1, 9.0, "step-100")
    earlier = CheckpointNote(60, 3, 1, 5.0, "step-60")
    assert newest_checkpoint(bad, [rank(checkpoint=earlier), rank(1)]) == earlier


def test_notices_are_told_once_under_an_id_of_their_own_and_the_oldest_go():
    notice = Notice("1", "Warning", "slow volume")
    first, second = RankState(1, 0, notices=(notice,)), RankState(1, 1, notices=(notice,))
    told = add_notices(add_notices(add_notices((), first), first), second)
    assert [one.id for one in told] == ["g1-r0-1", "g1-r1-1"]
    many = RankState(2, 0, notices=tuple(Notice(str(n), "Warning", "") for n in range(NOTICES + 5)))
    assert [one.id for one in add_notices(told, many)][-1] == f"g2-r0-{NOTICES + 4}"
    assert len(add_notices(told, many)) == NOTICES


def test_a_crew_that_found_no_checkpoint_forgets_the_one_known():
    known = CheckpointNote(8, 1, 1, 0.0, "step-8")
    assert newest_checkpoint(known, [rank(resumed_from=0)]) is None
    assert newest_checkpoint(known, [rank()]) == known
