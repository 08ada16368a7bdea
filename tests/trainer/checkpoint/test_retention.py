"""What stays and what goes."""

import os

import pytest

from rowlock_trainer.checkpoint import layout, list_checkpoints, manifest
from rowlock_trainer.checkpoint.disk import Disk
from rowlock_trainer.checkpoint.layout import Name
from rowlock_trainer.checkpoint.retention import Owner, retain
from tests.trainer.checkpoint.builders import Log, checkpointer, load, save, state


def begin(root, name, job_uid=""):
    """Leave a checkpoint as a writer leaves it that dies in the middle."""
    Disk().make_directory(root / str(name), layout.owner_mark(job_uid))
    (root / str(name) / "rank-00000.bin").write_bytes(b"half")
    return root / str(name)


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
    unfinished = begin(root, Name(2, 1))
    assert load(root, generation=2)[0].step == 1
    assert not unfinished.exists()


def test_what_this_or_a_later_generation_may_still_write_stays(root):
    save(root, 1, generation=1)
    for generation in (2, 3):
        begin(root, Name(5, generation))
    load(root, generation=2)
    save(root, 2, generation=2)
    assert (root / str(Name(5, 2))).exists()
    assert (root / str(Name(5, 3))).exists()


def test_a_crew_that_has_been_replaced_removes_nothing(root):
    save(root, 9, generation=7)
    save(root, 1, 2, 3, generation=2)
    assert steps(root) == [9, 3, 2, 1]


def run(root, job_uid, generation, *at):
    """Begin as a generation of a job does, save at these steps, and return where it went on from."""
    crew = checkpointer(root, generation=generation, job_uid=job_uid)
    loaded = crew.load_newest(state())
    for step in at:
        crew.save(step, state(float(step)), {})
    crew.wait()
    return loaded.step if loaded else 0


def test_a_new_job_on_a_kept_volume_counts_from_1_and_its_retention_works(root):
    run(root, "first", 7, 10, 20, 30)
    assert run(root, "second", 1, 40, 50, 60) == 30
    assert steps(root) == [60, 50]
    assert run(root, "second", 2, 70) == 60
    assert steps(root) == [70, 60]


def test_the_furthest_good_checkpoint_is_gone_on_from_whichever_job_and_generation_wrote_it(root):
    run(root, "first", 7, 10, 20)
    assert run(root, "second", 1, 30) == 20
    (root / str(Name(30, 1)) / "rank-00000.bin").write_bytes(b"bad")
    # The newest is bad: generation 2 goes on from the other job's, and takes the same step again.
    assert run(root, "second", 2, 25, 30) == 20
    assert run(root, "second", 3) == 30
    assert steps(root) == [30, 25]
    assert layout.rejected(root) == [f"rejected-{Name(30, 1)}"]


def test_a_checkpoint_says_which_job_wrote_it(root):
    run(root, "first", 1, 10)
    assert manifest.read(root / str(Name(10, 1))).job_uid == "first"


def test_a_copy_that_has_lost_its_mark_is_known_by_its_manifest(root):
    run(root, "job", 1, 10)
    (root / str(Name(10, 1)) / layout.owner_mark("job")).unlink()
    assert Owner(1, "job").wrote(root, Name(10, 1))
    assert not Owner(1, "another").wrote(root, Name(10, 1))


def test_what_a_dead_job_left_unfinished_goes_whatever_its_generation(root):
    run(root, "first", 7, 10)
    left = [begin(root, Name(20, 7), "first"), root / str(Name(30, 7))]
    left[1].mkdir()  # killed before it could mark it
    run(root, "second", 1)
    assert not any(path.exists() for path in left)


def test_what_another_job_writes_while_this_one_runs_is_not_touched(root):
    run(root, "old", 7, 10, 20)
    crew = checkpointer(root, generation=1, job_uid="new")
    assert crew.load_newest(state()).step == 20
    late = begin(root, Name(25, 7), "old")
    for step in (21, 22):
        crew.save(step, state(), {})
    crew.wait()
    assert late.exists()
    # The last pods of the old job get through their save, and do not take the new job's checkpoints with them.
    old = checkpointer(root, generation=7, job_uid="old")
    for step in (40, 41, 42):
        old.save(step, state(), {})
    old.wait()
    assert steps(root) == [42, 41, 22, 21]
    # Nor does the new job count them as its own two newest.
    crew.save(23, state(), {})
    crew.wait()
    assert steps(root) == [42, 41, 23, 22]


def test_a_crew_whose_own_job_has_a_later_generation_removes_nothing(root):
    run(root, "job", 2, 10)
    crew = checkpointer(root, generation=2, job_uid="job")
    begin(root, Name(15, 3), "job")
    for step in (20, 30, 40):
        crew.save(step, state(), {})
    crew.wait()
    assert steps(root) == [40, 30, 20, 10]


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
    assert retain(Disk(), root, 2, Owner(5), unusable=set(), inherited=set()) == []
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
