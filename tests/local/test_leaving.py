"""However a run is left, the next one goes on, and nobody is blamed for it."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.local.runs import (
    finish,
    manifest,
    place,
    processes_in,
    start,
    start_process,
    status,
    trainer,
    wait_until_empty,
)

#: Runs for ever in the first generation and ends well in any other.
FIRST_TIME_FOR_EVER = ["sh", "-c", "test $ROWLOCK_GENERATION != 1 || exec sleep 1000"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_run_told_to_go_stops_its_crew_and_the_same_command_goes_on(tmp_path: Path, number: signal.Signals) -> None:
    path = manifest(tmp_path, command=FIRST_TIME_FOR_EVER)
    with start(path) as run:
        run.wait_for("Running, workers 2/2")
        run.process.send_signal(number)
        assert run.end() == 130, run.output
    assert status(path)["phase"] == "Suspended"
    assert "what its command saved is in" in run.output
    assert f"go on with: rowlock run {path}" in run.output
    assert "saved at step" not in run.output
    code, output = finish(path)
    assert code == 0, output
    assert "cut off" not in output
    assert (status(path)["failures"]["count"], status(path)["preemptions"]["count"]) == (0, 0)


def test_a_terminal_that_hangs_up_more_than_once_does_not_cut_the_saving_short(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    saving = "trap 'read line < gate; exit 0' TERM; while :; do sleep 0.1; done"
    path = manifest(tmp_path, workers=1, command=["sh", "-c", saving])
    descriptor = os.open(gate, os.O_RDWR)
    with start(path) as run:
        run.wait_for("Running, workers 1/1")
        for _ in range(2):
            run.process.send_signal(signal.SIGHUP)
            run.wait_for("Suspending")
        os.write(descriptor, b"saved\n")
        assert run.end() == 130, run.output
    os.close(descriptor)
    assert status(path)["phase"] == "Suspended"


def test_ctrl_c_a_second_time_leaves_at_once_and_says_so(tmp_path: Path) -> None:
    stubborn = "trap '' TERM; while :; do sleep 0.1; done"
    path = manifest(tmp_path, workers=1, command=["sh", "-c", stubborn])
    with start(path) as run:
        run.wait_for("Running, workers 1/1")
        run.interrupt()
        run.wait_for("Suspending")
        run.interrupt()
        assert run.end() == 130, run.output
    assert "was stopped at once" in run.output
    wait_until_empty(tmp_path)  # what was killed a moment ago, the kernel takes away a moment later


def test_a_run_that_was_cut_off_is_taken_up_and_nobody_is_blamed(tmp_path: Path) -> None:
    path = manifest(tmp_path, command=FIRST_TIME_FOR_EVER)
    with start(path) as run:
        run.wait_for("Running, workers 2/2")
        run.process.kill()
        run.end()
    code, output = finish(path)
    assert code == 0, output
    assert "the last run was cut off; going on" in output
    found = status(path)
    assert (found["failures"]["count"], found["preemptions"]["count"], found["restarts"]) == (0, 0, 0)
    assert found["generation"] == 2


def test_a_reader_that_goes_away_ends_nothing(tmp_path: Path) -> None:
    path = manifest(tmp_path, command=["sh", "-c", "read line < gate"], workers=1)
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    process = start_process(path, stdout=subprocess.PIPE)
    assert process.stdout is not None
    while "Running, workers 1/1" not in process.stdout.readline():
        assert process.poll() is None
    process.stdout.close()  # what `| head` does
    gate.write_text("go\n")
    assert process.wait(60) == 0
    assert status(path)["phase"] == "Succeeded"


def test_a_terminal_that_is_closed_is_a_farewell_like_any_other(tmp_path: Path) -> None:
    path = manifest(tmp_path, command=FIRST_TIME_FOR_EVER)
    pid, terminal = pty.fork()
    if pid == 0:
        state = str(tmp_path / "state")
        command = [sys.executable, "-m", "rowlock.cli", "run", str(path), "--state-dir", state]
        os.execv(command[0], command)  # noqa: S606 (the child has nothing to do but become the run)
    shown = b""
    while b"Running" not in shown:
        shown += os.read(terminal, 1 << 16)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130
    assert status(path)["phase"] == "Suspended"


def test_ctrl_c_before_anything_is_imported_is_answered_in_silence(tmp_path: Path) -> None:
    path = manifest(tmp_path, command=["true"])
    # Stands in the way of the first heavy import, as a person's ctrl-C does in the first second.
    (tmp_path / "typer.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, "-m", "rowlock.cli", "run", str(path)],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")


def test_ctrl_c_while_torch_is_imported_leaves_nothing_and_says_that_nothing_is_saved(tmp_path: Path) -> None:
    path = manifest(tmp_path, trainer=trainer(10))
    with start(path) as run:
        run.wait_for("importing torch")
        run.interrupt()
        assert run.end() == 130, run.output
    assert processes_in(tmp_path) == []
    assert "there is no checkpoint yet, so it will start over" in run.output
    assert status(path)["phase"] == "Suspended"


def test_a_run_killed_while_torch_is_imported_does_not_hold_up_the_next(tmp_path: Path) -> None:
    path = manifest(tmp_path, trainer=trainer(10))
    with start(path) as run:
        run.wait_for("importing torch")
        run.process.kill()
        run.process.wait()
        with start(path) as second:
            second.wait_for("importing torch")
            second.interrupt()
            assert second.end() == 130, second.output
    assert (place(path) / "job.json").exists()
