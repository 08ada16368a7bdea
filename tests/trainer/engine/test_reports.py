"""What a rank says: throughput, history, and why it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch.distributed as dist

from rowlock.protocol import TRACEBACK_CHARS, ExitCode
from rowlock_trainer.checkpoint import CheckpointError, PeerLostError
from rowlock_trainer.data.errors import DataError
from rowlock_trainer.engine.failure import ConfigError, DivergedError, OrphanedError, explain
from rowlock_trainer.engine.metrics import MetricsLog
from rowlock_trainer.engine.pace import WINDOW_SECONDS, Pace
from tests.trainer.engine.test_agree import Clock


def test_throughput_is_that_of_the_last_seconds() -> None:
    clock = Clock()
    pace = Pace(1000, clock)
    assert pace.samples_per_second(1000) == 0.0
    cursor = 1000
    for _ in range(100):
        clock.now += 1.0
        cursor += 10
        assert pace.samples_per_second(cursor) == pytest.approx(10.0)
    for _ in range(int(WINDOW_SECONDS) + 2):
        clock.now += 1.0
        cursor += 50
        newest = pace.samples_per_second(cursor)
    assert newest == pytest.approx(50.0)


def test_history_begins_a_new_line_after_a_half_written_one(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"st')
    MetricsLog(tmp_path, 2, pytest.fail).write(step=2, loss=float("nan"))
    *_, half, whole = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert half == '{"st'
    assert {**json.loads(whole), "time": 0} == {"step": 2, "loss": None, "time": 0, "generation": 2}


def test_a_history_that_cannot_be_written_is_told_once_and_ends_nothing(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    told: list[str] = []
    metrics = MetricsLog(blocked / "checkpoints", 1, told.append)
    metrics.write(step=1)
    metrics.write(step=2)
    (message,) = told
    assert str(blocked) in message
    assert "training goes on" in message


GLOO = RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [::1]:80")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (GLOO, ExitCode.PEER_LOST),
        (dist.DistBackendError("NCCL error"), ExitCode.PEER_LOST),
        (dist.DistNetworkError("the client socket has timed out"), ExitCode.PEER_LOST),
        (PeerLostError("a collective of checkpoint step 3 broke"), ExitCode.PEER_LOST),
        (ConfigError("trainer.device"), ExitCode.CONFIG),
        (DataError("no data"), ExitCode.CONFIG),
        (CheckpointError("does not fit", configuration=True), ExitCode.CONFIG),
        (CheckpointError("full", storage_full=True), ExitCode.STORAGE),
        (CheckpointError("input/output error"), ExitCode.STORAGE),
        (DivergedError("the loss is nan at step 3"), ExitCode.CONFIG),
        (OrphanedError("launcher gone"), ExitCode.FAILED),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ExitCode.FAILED),
        (KeyError("step"), ExitCode.FAILED),
        (KeyboardInterrupt(), ExitCode.FAILED),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_the_exit_code_says_whose_fault_it_was(error: BaseException, code: ExitCode) -> None:
    ended = explain(error, rank=3, step=41)
    assert (ended.code, ended.rank, ended.step) == (code, 3, 41)
    assert "\n" not in ended.reason
    assert ended.reason


def test_an_error_of_the_program_comes_with_the_end_of_its_traceback() -> None:
    def fall(depth: int) -> None:
        if depth == 0:
            raise KeyError("x" * 100)
        fall(depth - 1)

    with pytest.raises(KeyError) as caught:
        fall(100)
    ended = explain(caught.value, rank=0, step=-1)
    assert len(ended.traceback) <= TRACEBACK_CHARS
    assert ended.traceback.rstrip().endswith(repr("x" * 100))


def test_what_was_told_in_words_comes_without_a_traceback() -> None:
    assert explain(ConfigError("trainer.device cuda: none"), rank=0, step=-1).traceback == ""
