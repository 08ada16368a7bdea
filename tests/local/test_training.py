"""A job on a laptop reaches the same weights, bit by bit, whatever happens to it on the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from rowlock_trainer.checkpoint import list_checkpoints, weights_digest
from tests.local.runs import finish, manifest, place, start, status, trainer, wait_for_status

STEPS = 160


def job(directory: Path) -> Path:
    return manifest(directory, trainer=trainer(STEPS), checkpoint={"everySteps": 10, "keep": 3})


def digest(path: Path) -> str:
    checkpoints = place(path) / "checkpoints"
    newest = max(list_checkpoints(checkpoints), key=lambda note: note.step)
    assert newest.step == STEPS
    return weights_digest(checkpoints, newest.name)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = job(tmp_path_factory.mktemp("undisturbed"))
    code, output = finish(path)
    assert code == 0, output
    return digest(path)


@pytest.mark.parametrize("victim", [0, 1], ids=["the worker that leads", "the other worker"])
def test_a_killed_worker_costs_no_bit(tmp_path: Path, undisturbed: str, victim: int) -> None:
    path = job(tmp_path)
    code, output = finish(path, "--kill", f"worker={victim},step=55")
    assert code == 0, output
    assert "killed by SIGKILL" in output
    found = status(path)
    assert (found["failures"]["count"], found["preemptions"]["count"], found["generation"]) == (1, 0, 2)
    assert found["resumedFromStep"] in (40, 50)  # 50 only if it was verified before the kill
    assert digest(path) == undisturbed


def test_leaving_with_ctrl_c_saves_and_the_same_command_goes_on(tmp_path: Path, undisturbed: str) -> None:
    path = job(tmp_path)
    with start(path) as run:
        run.wait_for("Running, workers 2/2")
        run.interrupt()
        assert run.end() == 130, run.output
    assert "its last checkpoint is that of step" in run.output
    assert f"go on with: rowlock run {path}" in run.output
    left = status(path)
    assert left["phase"] == "Suspended"
    assert 0 < left["lastCheckpoint"]["step"] < STEPS

    code, output = finish(path)
    assert code == 0, output
    after = status(path)
    assert after["resumedFromStep"] == left["lastCheckpoint"]["step"]
    assert (after["failures"]["count"], after["preemptions"]["count"]) == (0, 0)
    assert digest(path) == undisturbed


def test_a_flipped_byte_in_the_newest_checkpoint_is_noticed_and_costs_no_bit(tmp_path: Path, undisturbed: str) -> None:
    path = job(tmp_path)
    with start(path) as run:
        wait_for_status(run, path, lambda found: found.get("lastCheckpoint", {}).get("step", 0) >= 20)
        run.interrupt()
        assert run.end() == 130, run.output
    newest = status(path)["lastCheckpoint"]["name"]
    data = max((place(path) / "checkpoints" / newest).glob("*.bin"), key=lambda file: file.stat().st_size)
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)

    code, output = finish(path)
    assert code == 0, output
    assert "CheckpointRejected" in output
    assert data.name in output
    assert digest(path) == undisturbed


def test_a_runner_that_is_killed_leaves_nothing_running_and_the_next_goes_on(tmp_path: Path, undisturbed: str) -> None:
    path = job(tmp_path)
    with start(path) as run:
        run.wait_for("Running, workers 2/2")
        run.process.kill()
        run.end()
    # The lock is held by no one and the launchers have died with the runner, or the next run would be refused.
    code, output = finish(path)
    assert code == 0, output
    assert digest(path) == undisturbed
