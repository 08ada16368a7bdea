"""Whatever happens to a checkpoint's files is noticed, told, set aside, and the one before it is used."""

import dataclasses
import hashlib
import json

import pytest

from rowlock_trainer.checkpoint import BadCheckpointError, CheckpointError, list_checkpoints, manifest, verify
from rowlock_trainer.checkpoint.disk import Disk
from rowlock_trainer.checkpoint.errors import some
from rowlock_trainer.checkpoint.retention import set_aside
from tests.trainer.checkpoint.builders import Log, checkpointer, load, same, save, state

FILES = ["rank-00000.bin", "metadata.json", "manifest.json"]


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def grow(path):
    path.write_bytes(path.read_bytes() + b"\0")


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def blank(path):
    path.write_bytes(bytes(path.stat().st_size))


def empty(path):
    path.write_bytes(b"")


def delete(path):
    path.unlink()


def replace_by_garbage(path):
    path.write_bytes(b"\x80\x04garbage\xff")


DAMAGES = [flip, grow, cut, blank, empty, delete, replace_by_garbage]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", FILES)
def test_damage_of_any_kind_to_any_file_is_named_and_the_one_before_is_loaded(root, file, damage):
    save(root, 1)
    newest = save(root, 2)
    damage(newest / file)
    assert any(problem.startswith(file) for problem in verify(root, newest.name))

    log = Log()
    loaded, into = load(root, log=log)
    assert loaded.step == 1
    assert same(into, state(1.0))
    if (file, damage) == ("manifest.json", delete):
        # Without a manifest it was never a checkpoint: nothing to tell, and what is left of it goes.
        assert not newest.exists()
        assert log.notices == []
    else:
        assert not newest.exists()
        assert (root / f"rejected-{newest.name}").is_dir()
        assert log.kinds == ["CheckpointRejected"]
        assert file in log.words
        assert newest.name in log.words
    assert [note.step for note in list_checkpoints(root)] == [1]


def test_no_changed_byte_of_a_manifest_passes(root):
    text = (save(root, 1) / "manifest.json").read_bytes()
    assert manifest.parse(text).step == 1
    for position in range(len(text)):
        for mask in (0x01, 0x20, 0x80):
            changed = bytearray(text)
            changed[position] ^= mask
            with pytest.raises(BadCheckpointError):
                manifest.parse(bytes(changed))


def test_no_changed_byte_of_the_data_passes(root):
    directory = save(root, 1)
    path = directory / "rank-00000.bin"
    data = path.read_bytes()
    for position in range(len(data)):
        path.write_bytes(data[:position] + bytes([data[position] ^ 0x10]) + data[position + 1 :])
        assert verify(root, directory.name), position


def rewrite(path, **changes):
    """Change a manifest as a program of another version would have written it: its own checksum is right."""
    fields = {**json.loads(path.read_text()), **changes, "sha256": ""}
    digest = hashlib.sha256((json.dumps(fields, sort_keys=True, indent=1) + "\n").encode()).hexdigest()
    path.write_text(json.dumps({**fields, "sha256": digest}, sort_keys=True, indent=1) + "\n")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 2}, "of 'rowlock-checkpoint' version 2, and this program reads 'rowlock-checkpoint' version 1"),
        ({"format": "galley"}, "of 'galley' version 1"),
        ({"version": 2, "files": "elsewhere"}, "version 2"),
    ],
    ids=["version", "format", "other fields"],
)
def test_a_whole_checkpoint_of_another_version_is_no_damage_and_stays_as_it_is(root, change, words):
    save(root, 1)
    newest = save(root, 2)
    rewrite(newest / "manifest.json", **change)
    there = sorted(path.name for path in root.iterdir())
    log = Log()
    with pytest.raises(CheckpointError) as caught:
        load(root, log=log)
    assert caught.value.configuration
    assert words in str(caught.value)
    assert str(newest) in str(caught.value)
    assert "Use the release that wrote it, or another checkpoint directory" in str(caught.value)
    assert sorted(path.name for path in root.iterdir()) == there
    assert log.notices == []
    assert words in verify(root, newest.name)[0]
    assert [note.step for note in list_checkpoints(root)] == [1]


def test_a_version_that_a_flipped_bit_made_is_damage(root):
    save(root, 1)
    path = save(root, 2) / "manifest.json"
    path.write_text(path.read_text().replace('"version": 1', '"version": 3'))
    log = Log()
    assert load(root, log=log)[0].step == 1
    assert "does not match its own checksum" in log.words


def test_a_field_that_a_later_release_has_added_is_read_over(root):
    path = save(root, 2) / "manifest.json"
    rewrite(path, mood="good")
    assert load(root)[0].step == 2


def test_numbers_that_nobody_could_be_told_of_make_a_bad_manifest(root):
    save(root, 1)
    rewrite(save(root, 2) / "manifest.json", time=1e20)
    log = Log()
    assert load(root, log=log)[0].step == 1
    assert "time is 1e+20" in log.words


def test_a_rejection_names_three_files_and_counts_the_rest():
    assert some(["a", "b", "c"], "files") == "a; b; c"
    assert some([f"rank {rank}: No space" for rank in range(64)], "ranks") == (
        "rank 0: No space; rank 1: No space; rank 2: No space; ... and 61 more ranks"
    )


def test_a_checkpoint_copied_over_another_is_noticed(root):
    old, new = save(root, 1), save(root, 2)
    for path in old.iterdir():
        (new / path.name).write_bytes(path.read_bytes())
    log = Log()
    assert load(root, log=log)[0].step == 1
    assert "speaks of step 1" in log.words


def test_a_manifest_cannot_lead_out_of_its_directory(root):
    directory = save(root, 1)
    good = manifest.read(directory)
    outside = manifest.FileRecord("../../secret", 0, "")
    (directory / "manifest.json").write_bytes(manifest.render(dataclasses.replace(good, files=(outside,))))
    assert "'../../secret'" in verify(root, directory.name)[0]


def test_several_bad_ones_in_a_row_are_all_set_aside(root):
    for step in (1, 2, 3):
        directory = save(root, step, keep=3)
        if step > 1:
            flip(directory / "rank-00000.bin")
    log = Log()
    assert load(root, log=log)[0].step == 1
    assert log.kinds == ["CheckpointRejected"] * 2


def test_when_none_is_good_loading_fails_and_does_so_again_the_next_time(root):
    for step in (1, 2):
        flip(save(root, step) / "rank-00000.bin")
    with pytest.raises(
        CheckpointError, match=r"no checkpoint under .* is good: step-00000002.*step-00000001"
    ) as caught:
        load(root)
    assert not caught.value.configuration
    assert "remove the rejected-* directories" in str(caught.value)
    with pytest.raises(CheckpointError, match=r"rejected-step-00000001-gen-0001 \(set aside earlier\)"):
        load(root)


def test_a_bad_one_that_cannot_be_set_aside_is_passed_over_and_not_counted_among_the_kept(root):
    class NoRename(Disk):
        def rename(self, old, new):
            if new.name.startswith("rejected-"):
                raise PermissionError(13, "Permission denied", str(old))
            super().rename(old, new)

    save(root, 1)
    bad = save(root, 9)
    flip(bad / "rank-00000.bin")
    log = Log()
    crew = checkpointer(root, log=log, generation=2, disk=NoRename())
    assert crew.load_newest(state()).step == 1
    assert "could not be set aside" in log.words
    crew.save(2, state(2.0), {})
    crew.wait()
    assert {note.step for note in list_checkpoints(root)} == {1, 2, 9}


def test_names_of_set_aside_checkpoints_do_not_clash(root):
    names = [set_aside(Disk(), root, save(root, 1).name) for _ in range(2)]
    assert names == ["rejected-step-00000001-gen-0001", "rejected-step-00000001-gen-0001-2"]
