"""Crews of several ranks: everyone writes a share, everyone learns the outcome, any other crew can load it."""

import json
import threading

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from rowlock_trainer.checkpoint import CheckpointError, PeerLostError, list_checkpoints, verify, weights_digest
from rowlock_trainer.checkpoint.disk import Disk
from tests.trainer.checkpoint import crew
from tests.trainer.checkpoint.builders import Log, checkpointer, load, same

#: Odd sizes, so that no crew divides them evenly.
ROWS = torch.arange(7 * 3, dtype=torch.float32).reshape(7, 3)
COLUMNS = torch.arange(5 * 9, dtype=torch.bfloat16).reshape(5, 9)


def sharded(rank, group, *, blank=False):
    """A state with tensors cut by row and by column, replicated ones and one of each rank's own."""

    def laid_out(tensor, placement):
        tensor = torch.zeros_like(tensor) if blank else tensor.clone()
        if group is None:
            return tensor
        return distribute_tensor(tensor, init_device_mesh("cpu", (dist.get_world_size(),)), [placement])

    return {
        "model": {
            "rows": laid_out(ROWS, Shard(0)),
            "columns": laid_out(COLUMNS, Shard(1)),
            "everywhere": laid_out(ROWS + 1, Replicate()),
            "plain": torch.zeros(4, 4) if blank else torch.full((4, 4), 8.0),
        },
        "optimizer": {"step": torch.tensor(0 if blank else 3), "betas": (0.0, 0.0) if blank else (0.9, 0.95)},
        "rng": {str(rank): torch.zeros(4, dtype=torch.uint8) if blank else torch.full((4,), rank, dtype=torch.uint8)},
    }


def whole(state):
    """The state as a single process would hold it."""
    if isinstance(state, dict):
        return {key: whole(value) for key, value in state.items()}
    return state.full_tensor() if isinstance(state, DTensor) else state


def without_rng(rank):
    return {key: value for key, value in sharded(rank, None).items() if key != "rng"}


def save_sharded(rank, group, root):
    log = Log()
    saver = checkpointer(root, group=group, log=log)
    saver.save(1, sharded(rank, group), {"by": rank})
    saver.wait()
    return log


def load_sharded(rank, group, root):
    into = sharded(rank, group, blank=True)
    loaded = checkpointer(root, group=group, generation=2).load_newest(into)
    found = whole(into)
    own = found.pop("rng")[str(rank)].tolist()
    return loaded, same(found, without_rng(rank)), own


def test_what_four_wrote_is_loaded_by_four_two_and_one(root):
    logs = crew.results(4, save_sharded, root)
    assert all(log.verified == logs[0].verified and len(log.verified) == 1 for log in logs)
    name = logs[0].verified[0].name
    assert verify(root, name) == []

    for size in (4, 2, 1):
        for rank, (loaded, equal, own) in enumerate(crew.results(size, load_sharded, root)):
            assert equal
            assert own == [rank] * 4
            assert loaded.extra == {"by": 0}
            assert loaded.left_alone == ()
    crew.results(1, save_sharded, root)
    alone, together = list_checkpoints(root)
    assert alone.name != together.name
    assert weights_digest(root, alone.name) == weights_digest(root, together.name)


def test_a_larger_crew_is_told_which_ranks_have_no_entry_of_their_own(root):
    crew.results(1, save_sharded, root)
    (first, *_), (second, equal, own) = crew.results(2, load_sharded, root)
    assert first.left_alone == ()
    assert second.left_alone == ("rng.1",)
    assert equal
    assert own == [0, 0, 0, 0]


def save_replicated_twice(rank, group, root):
    class Counting(Disk):
        written = 0

        def write(self, file, data):
            self.written += len(data)
            super().write(file, data)

    state = {"model": {f"layer{i}": torch.full((100, 100), float(i)) for i in range(8)}}
    disk = Counting()
    saver = checkpointer(root, group=group, disk=disk)
    staged = []
    for step in (1, 2):
        saver.save(step, state, {})
        saver.wait()
        staged.append(sum(buffer.numel() for buffer in saver._staging._buffers.values()))
        for tensor in state["model"].values():
            tensor.add_(1)
    return staged


def test_replicated_tensors_are_spread_over_the_ranks_and_staged_by_their_writers_only(root):
    size = 8 * 100 * 100 * 4
    assert crew.results(4, save_replicated_twice, root) == [[size // 4, size // 4]] * 4
    newest = root / list_checkpoints(root)[0].name
    assert [path.stat().st_size for path in sorted(newest.glob("rank-*.bin"))] == [size // 4] * 4
    into = {"model": {f"layer{i}": torch.zeros(100, 100) for i in range(8)}}
    load(root, into=into)
    assert all(torch.equal(into["model"][f"layer{i}"], torch.full((100, 100), i + 1.0)) for i in range(8))


def save_growing(rank, group, root):
    """The state of rank 1 alone changes its make-up between two saves."""
    saver = checkpointer(root, group=group)
    state = {"model": {f"layer{i}": torch.full((10,), 1.0) for i in range(6)}}
    saver.save(1, state, {})
    if rank == 1:
        state["model"]["more"] = torch.full((1000,), 5.0)
    for tensor in state["model"].values():
        tensor.add_(1)
    saver.save(2, state, {})
    saver.wait()


def test_a_state_that_changes_on_one_rank_only_is_planned_anew_by_all(root):
    crew.results(2, save_growing, root)
    into = {"model": {f"layer{i}": torch.zeros(10) for i in range(6)} | {"more": torch.zeros(1000)}}
    assert load(root, into=into)[0].step == 2
    assert all(torch.equal(into["model"][f"layer{i}"], torch.full((10,), 2.0)) for i in range(6))
    assert torch.equal(into["model"]["more"], torch.full((1000,), 6.0))


def load_with_damage(rank, group, root):
    log = Log()
    into = sharded(rank, group, blank=True)
    loaded = checkpointer(root, group=group, generation=2, log=log).load_newest(into)
    return loaded.note.name, same(whole(into), sharded(rank, None)), log.kinds


@pytest.mark.parametrize("file", ["rank-00003.bin", "metadata.json", "manifest.json"])
def test_all_ranks_pass_over_a_bad_one_together_and_one_of_them_tells(root, file):
    good = crew.results(4, save_sharded, root)[0].verified[0].name
    bad = crew.results(4, save_sharded, root)[0].verified[0].name
    data = bytearray((root / bad / file).read_bytes())
    data[-5] ^= 4
    (root / bad / file).write_bytes(data)
    for rank, (name, equal, kinds) in enumerate(crew.results(2, load_with_damage, root)):
        assert name == good
        assert equal
        assert kinds == (["CheckpointRejected"] if rank == 0 else [])
    assert (root / f"rejected-{bad}").is_dir()


def save_and_fail(rank, group, root):
    class Full(Disk):
        def create(self, path):
            return open("/dev/full", "wb", buffering=0)

    log = Log()
    saver = checkpointer(root, group=group, log=log, disk=Full() if rank == 1 else None)
    saver.save(1, sharded(rank, group), {})
    try:
        saver.wait()
    except CheckpointError as error:
        return error.storage_full, str(error), log.kinds
    return None


def test_what_one_rank_cannot_write_every_rank_hears_of(root):
    outcomes = crew.results(2, save_and_fail, root)
    assert [(full, kinds) for full, _, kinds in outcomes] == [(True, ["CheckpointFailed"]), (True, [])]
    assert all("rank 1" in words and "ENOSPC" in words for _, words, _ in outcomes)
    assert list(root.iterdir()) == []


def save_apart(rank, group, root):
    saver = checkpointer(root / str(rank), group=group)
    try:
        saver.save(1, {"a": torch.ones(3), "b": torch.ones(3)}, {})
        saver.wait()
    except CheckpointError as error:
        return str(error)
    return None


def test_a_volume_that_is_not_shared_is_named_at_the_first_save(root):
    words = crew.results(2, save_apart, root)
    assert all("rank 1" in line and "No such file or directory" in line for line in words)


def load_apart(rank, group, root):
    try:
        checkpointer(root if rank == 0 else root / "elsewhere", group=group, generation=2).load_newest(
            sharded(rank, group, blank=True)
        )
    except CheckpointError as error:
        return str(error)
    return None


def test_a_volume_that_is_not_shared_costs_no_good_checkpoint_at_load(root):
    name = crew.results(2, save_sharded, root)[0].verified[0].name
    words = crew.results(2, load_apart, root)
    assert words[0] == words[1]
    assert "rank 1 does not see" in words[0]
    assert "same volume" in words[0]
    assert verify(root, name) == []


def disagree(rank, group, root):
    saver = checkpointer(root, group=group)
    saver.save(1, {"model": torch.ones(1), "lr": float(rank)}, {})
    try:
        saver.wait()
    except CheckpointError as error:
        return str(error)
    return None


def test_a_value_that_differs_between_ranks_is_named(root):
    assert all("state['lr'] is 1.0 on rank 1 and 0.0" in words for words in crew.results(2, disagree, root))


class StandsStill(Disk):
    """Says so and stands still when the data is to be written."""

    def create(self, path):
        crew.say("reached")
        threading.Event().wait()


def save_among_the_dying(rank, group, root):
    saver = checkpointer(root, group=group, disk=StandsStill() if rank == 1 else None)
    saver.save(1, sharded(rank, group), {})
    try:
        saver.wait()
    except PeerLostError:
        return "peer lost"
    return "saved"


def test_a_peer_killed_in_the_middle_of_a_save_is_told_from_a_broken_disk(root):
    with crew.crew(3, save_among_the_dying, root) as ranks:
        assert ranks[1].hear() == "reached"
        ranks[1].kill()
        assert [ranks[0].hear(), ranks[2].hear()] == ["peer lost"] * 2
    assert list_checkpoints(root) == []


def leave_a_save_behind(rank, group, root):
    saver = checkpointer(root, group=group, disk=StandsStill())
    saver.save(1, sharded(rank, group), {})
    crew.hear()
    return "leaving"


def test_a_save_that_hangs_does_not_keep_a_rank_from_ending(root):
    with crew.crew(2, leave_a_save_behind, root) as ranks:
        for rank in ranks:
            assert rank.hear() == "reached"
        for rank in ranks:
            rank.line.send("go")
            assert rank.hear() == "leaving"
            rank.line.close()
        assert [rank.ended() for rank in ranks] == [0, 0]


def test_the_manifest_says_who_wrote_what(root):
    name = crew.results(2, save_sharded, root)[0].verified[0].name
    fields = json.loads((root / name / "manifest.json").read_text())
    assert fields["world_size"] == 2
    assert [file["name"] for file in fields["files"]] == ["metadata.json", "rank-00000.bin", "rank-00001.bin"]
    assert fields["bytes"] == sum(file["bytes"] for file in fields["files"])
