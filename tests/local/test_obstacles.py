"""A machine that stands in the way is named, with the path and the way out; what was kept stays kept."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from rowlock.api.manifest import load_manifest
from rowlock.local.directory import JobDirectory
from rowlock.local.errors import LocalError
from rowlock.local.runner import RETRY_SECONDS
from tests.local.runs import finish, manifest, place, start_process, status


def test_a_full_disk_is_told_and_the_next_run_finds_no_half_file(tmp_path: Path) -> None:
    path = manifest(tmp_path, command=["true"])

    def no_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))

    process = start_process(path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=no_room)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2, output
    assert f"{place(path) / 'token'}: File too large; make room" in output
    assert "Traceback" not in output
    assert finish(path)[0] == 0


def test_an_empty_token_that_a_full_disk_left_is_made_anew(tmp_path: Path) -> None:
    path = manifest(tmp_path, command=["true"])
    place(path).mkdir(parents=True)
    (place(path) / "token").write_text("")
    code, output = finish(path)
    assert code == 0, output
    assert len((place(path) / "token").read_text()) >= 32


def test_a_record_that_cannot_be_kept_hides_no_result(tmp_path: Path) -> None:
    path = manifest(tmp_path, command=["true"])
    (place(path) / "recoveries.json").mkdir(parents=True)
    code, output = finish(path)
    assert code == 0, output
    assert "recoveries.json: Is a directory" in output
    assert "crew finished" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("named", [None, "shared"])
def test_a_place_for_checkpoints_that_cannot_be_made_is_named(tmp_path: Path, named: str | None) -> None:
    storage = {"claimName": named} if named else {}
    # The deadline ends a run that would wait for room for ever; it is longer than a refusal waits to be told.
    deadline = int(RETRY_SECONDS) + 2
    path = manifest(tmp_path, command=["true"], checkpoint={"storage": storage}, activeDeadlineSeconds=deadline)
    spot = place(path) / "checkpoints" if named is None else place(path).parent / ".claims" / named
    spot.parent.mkdir(parents=True)
    spot.write_text("in the way")
    code, output = finish(path)
    assert code != 0
    assert f"{spot}" in output
    assert "make room or choose another directory" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("state", ["x" * 300, "file/below", "file"])
def test_a_state_directory_that_cannot_be_is_named(tmp_path: Path, state: str) -> None:
    path = manifest(tmp_path, command=["true"])
    (tmp_path / "file").write_text("")
    code, output = finish(path, "--state-dir", state)
    assert code == 2
    assert "choose another directory with --state-dir" in output
    assert "Traceback" not in output


def test_what_cannot_be_moved_aside_is_named_and_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = JobDirectory(tmp_path, load_manifest(manifest(tmp_path, command=["true"])))
    directory.make()

    def full(self: Path, target: Path) -> None:
        raise OSError(28, os.strerror(28), str(self))

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(LocalError, match=r"default/crew: No space left on device; it cannot be moved aside"):
        directory.set_aside()
    assert directory.token_file.exists()


def test_the_lock_is_not_kept_by_a_child_that_outlives_the_run(tmp_path: Path) -> None:
    path = manifest(tmp_path, command=["true"])
    directory = JobDirectory(tmp_path / "state", load_manifest(path))
    directory.lock()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    os.close(reading)
    try:
        assert _can_lock(path) is False
        directory.unlock()
        assert _can_lock(path) is True
    finally:
        os.close(writing)
        os.waitpid(child, 0)


def _can_lock(path: Path) -> bool:
    code = (
        "import sys; from pathlib import Path\n"
        "from rowlock.api.manifest import load_manifest\n"
        "from rowlock.local.directory import JobDirectory\n"
        "from rowlock.local.errors import LocalError\n"
        "try: JobDirectory(Path(sys.argv[2]), load_manifest(Path(sys.argv[1]))).lock()\n"
        "except LocalError: sys.exit(3)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(path), str(path.parent / "state")], check=False)
    assert ended.returncode in (0, 3)
    return ended.returncode == 0


def test_names_in_different_namespaces_are_different_jobs(tmp_path: Path) -> None:
    path = manifest(tmp_path, command=["true"])
    assert finish(path)[0] == 0
    path.write_text(path.read_text().replace("name: crew", "name: crew\n  namespace: team"))
    code, output = finish(path)
    assert code == 0, output
    assert json.loads((tmp_path / "state/team/crew/job.json").read_text())["status"]["phase"] == "Succeeded"
    assert status(path)["phase"] == "Succeeded"
