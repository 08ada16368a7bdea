"""Commands of one's own: what they are given, and what is said when they fail."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.local.runs import finish, logs, manifest, start, status


def script(directory: Path, text: str) -> list[str]:
    path = directory / "train.py"
    path.write_text(text)
    return [sys.executable, str(path)]


def test_a_command_runs_once_a_process_with_torchruns_environment(tmp_path: Path) -> None:
    command = script(
        tmp_path,
        "import os\n"
        "names = 'RANK LOCAL_RANK WORLD_SIZE LOCAL_WORLD_SIZE MASTER_ADDR ROWLOCK_GENERATION EXTRA'.split()\n"
        "print('HELLO', *(os.environ[name] for name in names), bool(int(os.environ['MASTER_PORT'])), flush=True)\n",
    )
    container = {"name": "trainer", "env": [{"name": "EXTRA", "value": "mine"}]}
    path = manifest(tmp_path, command=command, processesPerWorker=2, template={"spec": {"containers": [container]}})
    code, output = finish(path)
    assert code == 0, output
    for worker in range(2):
        for local in range(2):
            assert f"HELLO {2 * worker + local} {local} 4 2 127.0.0.1 1 mine True" in logs(path, worker)


def test_a_command_that_does_not_exist_fails_the_job_at_once_and_is_named(tmp_path: Path) -> None:
    code, output = finish(manifest(tmp_path, command=["trainx", "--fast"]))
    assert code == 1
    assert "trainx" in output
    assert "127" in output
    assert "not retried" in output


def test_a_command_that_fails_is_tried_again_and_then_given_up_with_its_last_words(tmp_path: Path) -> None:
    command = script(tmp_path, "raise SystemExit('the data is not there')\n")
    path = manifest(tmp_path, command=command, recovery={"maxFailures": 1})
    code, output = finish(path)
    assert code == 1
    assert "2 failures, recovery.maxFailures is 1" in output
    assert "the data is not there" in output
    assert status(path)["failures"]["count"] == 2


def test_a_command_that_recovers_finishes_in_its_second_generation(tmp_path: Path) -> None:
    command = script(
        tmp_path,
        "import os, sys\nsys.exit(3 if os.environ['RANK'] + os.environ['ROWLOCK_GENERATION'] == '11' else 0)\n",
    )
    path = manifest(tmp_path, command=command, recovery={"retryableExitCodes": [3]})
    code, output = finish(path)
    assert code == 0, output
    assert status(path)["generation"] == 2


def test_an_exit_code_that_is_not_retryable_ends_the_job(tmp_path: Path) -> None:
    command = script(tmp_path, "raise SystemExit(4)\n")
    code, output = finish(manifest(tmp_path, command=command, recovery={"retryableExitCodes": [3]}))
    assert code == 1
    assert "Exit code 4 is not retried" in output


def test_a_finished_job_is_not_run_over_unless_asked_and_then_kept(tmp_path: Path) -> None:
    path = manifest(tmp_path, command=[sys.executable, "-c", "pass"])
    assert finish(path)[0] == 0
    code, output = finish(path)
    assert code == 2
    assert "already succeeded" in output
    assert "--fresh" in output
    code, output = finish(path, "--fresh")
    assert code == 0
    assert "the last run was moved to" in output
    assert (tmp_path / "state" / "default" / "crew.1" / "job.json").exists()


def test_a_second_run_beside_the_first_is_refused(tmp_path: Path) -> None:
    path = manifest(tmp_path, command=["sleep", "1000"])
    with start(path) as first:
        first.wait_for("Running, workers 2/2")
        code, output = finish(path)
        assert code == 2
        assert "another `rowlock run` of this job is going on" in output
        first.interrupt()
        assert first.end() == 130


def test_a_deadline_ends_a_job_that_would_go_on_for_ever(tmp_path: Path) -> None:
    path = manifest(tmp_path, command=["sleep", "1000"], activeDeadlineSeconds=1)
    code, output = finish(path)
    assert code == 1
    assert "active for longer than 1 s" in output
