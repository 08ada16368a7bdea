"""Wrong inputs get a clear error that names the place and the way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.local.runs import finish, manifest, trainer


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--kill", "nonsense"), "give worker=INDEX,step=STEP"),
        (("--kill", "worker=7,step=3"), "the job has workers 0 to 1"),
        (("--kill", "worker=1,step=0"), "step must be at least 1"),
        (("--kill", "worker=1,step=3,when=now"), "when is not known"),
        (("--kill", "worker=1,step=11"), "the job ends at step 10"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(tmp_path: Path, option: tuple[str, ...], words: str) -> None:
    code, output = finish(manifest(tmp_path, trainer=trainer(10)), *option)
    assert code == 2
    assert words in output


def test_a_command_cannot_be_killed_at_a_step(tmp_path: Path) -> None:
    code, output = finish(manifest(tmp_path, command=["true"]), "--kill", "worker=1,step=3")
    assert code == 2
    assert "only the built-in trainer tells its steps" in output


def test_a_manifest_that_is_wrong_is_told_by_file_line_and_field(tmp_path: Path) -> None:
    path = manifest(tmp_path, trainer=trainer(10), workrs=3)
    code, output = finish(path)
    assert code == 2
    assert f"{path}:" in output
    assert "spec.workrs" in output
    assert "workers" in output
    assert "Traceback" not in output


def test_a_suspended_manifest_says_there_is_nothing_to_run(tmp_path: Path) -> None:
    code, output = finish(manifest(tmp_path, trainer=trainer(10), suspend=True))
    assert code == 2
    assert "spec.suspend is true" in output


def test_a_state_that_cannot_be_read_is_told_and_kept(tmp_path: Path) -> None:
    path = manifest(tmp_path, trainer=trainer(10))
    state = tmp_path / "state" / "default" / "crew"
    state.mkdir(parents=True)
    (state / "job.json").write_text("{ half")
    code, output = finish(path)
    assert code == 2
    assert "start over with --fresh" in output
    assert (state / "job.json").read_text() == "{ half"
