"""A volume that takes no more: the checkpoint before it stays, training goes on, and a person is told."""

import errno
import os
import subprocess

import pytest
import torch

from rowlock_trainer.checkpoint import CheckpointError, list_checkpoints
from rowlock_trainer.checkpoint.disk import Disk
from tests.trainer.checkpoint.builders import Log, checkpointer, load, same, save, state


class Full(Disk):
    """While `full`, everything is written to the kernel's full device."""

    full = False

    def create(self, path):
        return open("/dev/full", "wb", buffering=0) if self.full else super().create(path)


def test_a_full_volume_is_told_and_the_next_save_tries_again(root):
    disk, log = Full(), Log()
    saver = checkpointer(root, log=log, disk=disk)
    saver.save(1, state(1.0), {})
    saver.wait()
    disk.full = True
    saver.save(2, state(2.0), {})
    with pytest.raises(CheckpointError, match=r"No space left on device \(ENOSPC\)") as caught:
        saver.wait()
    assert caught.value.storage_full
    assert log.kinds == ["CheckpointFailed"]
    assert str(root) in log.words or "/dev/full" in log.words
    assert "enlarge its claim" in log.words
    assert saver.consecutive_failures == 1
    assert [path.name for path in root.iterdir()] == ["step-00000001-gen-0001"]

    saver.save(3, state(3.0), {})
    saver.save(4, state(4.0), {})
    with pytest.raises(CheckpointError):
        saver.wait()
    assert saver.consecutive_failures == 3
    disk.full = False
    saver.save(5, state(5.0), {})
    saver.wait()
    assert saver.consecutive_failures == 0
    assert [note.step for note in log.verified] == [1, 5]
    assert [notice.id for notice in log.notices] == [f"checkpoint-failed-1-{step}" for step in (2, 3, 4)]


def test_a_failure_is_no_reason_for_poll_to_raise(root):
    disk, log = Full(), Log()
    disk.full = True
    saver = checkpointer(root, log=log, disk=disk)
    saver.save(1, state(), {})
    saver._save.finished.wait(60)
    saver.poll()
    assert log.kinds == ["CheckpointFailed"]
    saver.wait()


@pytest.fixture
def small_volume(tmp_path):
    """A file system of 1 MiB."""
    point = tmp_path / "volume"
    point.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(point)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"mounting a small file system needs privileges: {mounted.stderr.strip()}")
    yield point
    subprocess.run(["umount", str(point)], check=True)


def test_a_volume_that_fills_up_in_the_middle_of_a_file_keeps_the_checkpoint_before(small_volume):
    root, log = small_volume / "checkpoints", Log()
    saver = checkpointer(root, log=log)
    small = {"model": {"weight": torch.arange(100_000, dtype=torch.float32)}}
    saver.save(1, small, {})
    saver.wait()
    saver.save(2, {"model": {"weight": torch.ones(1_000_000)}}, {})
    with pytest.raises(CheckpointError) as caught:
        saver.wait()
    assert caught.value.storage_full
    assert f"{root}/step-00000002-gen-0001/rank-00000.bin: No space left on device (ENOSPC)" in log.words
    assert [path.name for path in root.iterdir()] == ["step-00000001-gen-0001"]

    into = {"model": {"weight": torch.zeros(100_000)}}
    assert load(root, into=into)[0].step == 1
    assert same(into, small)
    # The room of the half-written one was given back: one more of the first size fits.
    saver.save(3, small, {})
    saver.wait()
    assert [note.step for note in list_checkpoints(root)] == [3, 1]


@pytest.mark.parametrize("operation", ["make_directory", "sync", "sync_directory", "rename"])
def test_a_disk_that_fails_at_any_operation_leaves_the_checkpoint_before(root, operation):
    class Broken(Disk):
        pass

    def fail(self, *args):
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(args[-1]))

    setattr(Broken, operation, fail)
    save(root, 1)
    log = Log()
    saver = checkpointer(root, log=log, generation=2, disk=Broken())
    saver.save(2, state(2.0), {})
    with pytest.raises(CheckpointError, match=r"Input/output error \(EIO\)") as caught:
        saver.wait()
    assert not caught.value.storage_full
    assert log.kinds == ["CheckpointFailed"]
    assert load(root, generation=3)[0].step == 1
