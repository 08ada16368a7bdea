"""What stays and what goes."""

import os

import pytest

from rowlock_trainer.checkpoint import layout, list_checkpoints
from rowlock_trainer.checkpoint.disk import Disk
from rowlock_trainer.checkpoint.layout import Name
from rowlock_trainer.checkpoint.retention import retain
from tests.trainer.checkpoint.builders import Log, checkpointer, load, save, state


def steps(root):
    return [note.step for note in list_checkpoints(root)]


@pytest.mark.parametrize("keep", [2, 3])
def test_the_newest_stay_and_the_rest_goes(root, keep):
    save(root, *range(1, 6), keep=keep)
    assert steps(root) == list(range(5, 5 - keep, -1))
    assert len(list(root.iterdir())) == keep


def test_the_one_a_run_was_resumed_from_stays_until_two_newer_ones_are_complete(root):
    save(root, 10)
    crew = checkpointer(root, generation=2)
    assert crew.load_newest(state()).step == 10
    seen = []
    for step in (20, 30):
        crew.save(step, state(), {})
        crew.wait()
        seen.append(steps(root))
    assert seen == [[20, 10], [30, 20]]


def test_what_an_earlier_generation_left_unfinished_goes_at_the_next_load(root):
    save(root, 1, generation=1)
    unfinished = root / str(Name(2, 1))
    unfinished.mkdir()
    (unfinished / "rank-00000.bin").write_bytes(b"half")
    assert load(root, generation=2)[0].step == 1
    assert not unfinished.exists()


def test_what_this_or_a_later_generation_may_still_write_stays(root):
    save(root, 1, generation=1)
    for generation in (2, 3):
        (root / str(Name(5, generation))).mkdir()
    load(root, generation=2)
    save(root, 2, generation=2)
    assert (root / str(Name(5, 2))).exists()
    assert (root / str(Name(5, 3))).exists()


def test_a_crew_that_has_been_replaced_removes_nothing(root):
    save(root, 9, generation=7)
    save(root, 1, 2, 3, generation=2)
    assert steps(root) == [9, 3, 2, 1]


def test_things_of_other_people_are_left_alone(root):
    root.mkdir()
    (root / "notes.txt").write_text("mine")
    (root / "step-1").mkdir()
    (root / "step-00000001-gen-0001-1").mkdir()
    save(root, 1, 2, 3, generation=9)
    assert {"notes.txt", "step-1", "step-00000001-gen-0001-1"} < {path.name for path in root.iterdir()}


def test_set_aside_checkpoints_do_not_pile_up(root):
    root.mkdir()
    for step in range(1, 5):
        (root / f"rejected-{Name(step, 1)}").mkdir()
    assert retain(Disk(), root, 2, 5, set()) == []
    assert layout.rejected(root) == [f"rejected-{Name(3, 1)}", f"rejected-{Name(4, 1)}"]


def test_an_old_one_that_cannot_be_removed_is_told_and_does_not_cost_the_new_one(root):
    class Sticky(Disk):
        def remove(self, directory):
            raise PermissionError(13, os.strerror(13), str(directory))

    log = Log()
    crew = checkpointer(root, log=log, disk=Sticky())
    for step in (1, 2, 3):
        crew.save(step, state(), {})
    crew.wait()
    assert [note.step for note in log.verified] == [1, 2, 3]
    assert log.kinds == ["Warning"]
    assert "step-00000001-gen-0001 could not be removed" in log.words
    assert "EACCES" in log.words


def test_names_sort_by_step_then_generation_then_attempt():
    ordered = [Name(1, 9), Name(2, 1), Name(2, 1, 2), Name(2, 2)]
    assert sorted(ordered, reverse=True) == ordered[::-1]
    assert [Name.parse(str(name)) for name in ordered] == ordered


@pytest.mark.parametrize("text", ["step-1-gen-1", "rejected-step-00000001-gen-0001", "step-00000001-gen-0001-0", "x"])
def test_what_is_no_name_is_no_checkpoint(text):
    assert Name.parse(text) is None
