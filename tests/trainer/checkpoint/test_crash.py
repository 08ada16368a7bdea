"""SIGKILL at any moment of a save: no bad checkpoint is ever taken for a good one, and none is lost."""

import threading

from rowlock_trainer.checkpoint import list_checkpoints, verify
from rowlock_trainer.checkpoint.disk import Disk
from tests.trainer.checkpoint import crew
from tests.trainer.checkpoint.builders import Log, checkpointer, load, same, save, state

OPERATIONS = ("make_directory", "create", "write", "sync", "sync_directory", "rename", "remove")


class StopsAt(Disk):
    """Says so and stands still for ever when it is asked for operation number `stop`; a write is half done."""

    def __init__(self, stop):
        self._stop = stop
        self._count = 0

    def _before(self, operation, args):
        self._count += 1
        if self._count <= self._stop:
            return
        if operation == "write":
            file, data = args
            Disk.write(self, file, data[: len(data) // 2])
        crew.say(operation)
        threading.Event().wait()


def _stopping(operation):
    def method(self, *args):
        self._before(operation, args)
        return getattr(Disk, operation)(self, *args)

    return method


for _operation in OPERATIONS:
    setattr(StopsAt, _operation, _stopping(_operation))


def save_third(rank, group, root, stop):
    saver = checkpointer(root, group=group, generation=2, disk=StopsAt(stop))
    saver.save(3, state(3.0), {})
    saver.wait()
    return "saved"


def test_a_save_killed_before_any_of_its_operations_leaves_a_good_newest_checkpoint(tmp_path):
    met = []
    while "saved" not in met:
        root = tmp_path / f"killed-{len(met)}"
        save(root, 1, 2)
        with crew.crew(1, save_third, root, len(met)) as (rank,):
            met.append(rank.hear())
            rank.kill()
        assert all(verify(root, note.name) == [] for note in list_checkpoints(root))
        log = Log()
        loaded, into = load(root, generation=3, log=log)
        # Once the manifest has its name the checkpoint counts; killed before that, the one before does.
        assert loaded.step == (3 if met.count("rename") and met[-1] != "rename" else 2)
        assert same(into, state(float(loaded.step)))
        assert len(list_checkpoints(root)) >= 2
        assert log.notices == []
        leftovers = [path for path in root.iterdir() if not (path / "manifest.json").exists()]
        assert leftovers == []
    assert set(OPERATIONS) < set(met), "every operation must have been met"
