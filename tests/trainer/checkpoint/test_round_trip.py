"""What is saved comes back, in a single process."""

import threading

import pytest
import torch
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

from rowlock_trainer.checkpoint import CheckpointError, list_checkpoints, verify, weights_digest
from rowlock_trainer.checkpoint.disk import Disk
from tests.trainer.checkpoint.builders import Log, checkpointer, load, same, save, state


def test_an_empty_volume_has_nothing_to_load(root):
    loaded, into = load(root)
    assert loaded is None
    assert same(into, state())


def test_every_kind_of_leaf_comes_back_bit_by_bit(root):
    save(root, 7)
    loaded, into = load(root)
    assert loaded.step == 7
    assert loaded.extra == {"step": 7}
    assert same(into, state(7.0))


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(12.0).reshape(3, 4).t(),
        torch.tensor([True, False]),
        torch.tensor([1 + 2j]),
        torch.tensor([float("nan"), float("-inf")]),
        torch.arange(9, dtype=torch.float16)[::3],
        torch.tensor([1.5, -2.0]).to(torch.float8_e4m3fn),
        torch.empty(3, 0, dtype=torch.int8),
    ],
    ids=["transposed", "bool", "complex", "not-finite", "strided", "float8", "empty"],
)
def test_tensors_of_every_make_come_back(root, tensor):
    saver = checkpointer(root)
    saver.save(1, {"t": tensor}, {})
    saver.wait()
    _, into = load(root, into={"t": torch.zeros_like(tensor)})
    assert into["t"].contiguous().view(-1).view(torch.uint8).tolist() == (
        tensor.contiguous().view(-1).view(torch.uint8).tolist()
    )


def test_the_newest_of_several_is_loaded(root):
    save(root, 10, 20)
    assert load(root)[0].step == 20


def test_the_later_generation_wins_at_the_same_step(root):
    save(root, 20, generation=1)
    save(root, 20, generation=2)
    loaded, _ = load(root)
    assert (loaded.note.step, loaded.note.generation) == (20, 2)


def test_a_second_save_of_the_same_step_and_generation_touches_nothing_of_the_first(root):
    first = save(root, 5)
    before = {path.name: path.read_bytes() for path in first.iterdir()}
    second = save(root, 5)
    assert second != first
    assert {path.name: path.read_bytes() for path in first.iterdir()} == before
    assert load(root)[0].note.name == second.name


def test_a_model_and_its_optimizer_go_on_where_they_were(root):
    def trained(steps):
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 2)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        return advance(model, optimizer, steps)

    def advance(model, optimizer, steps):
        for _ in range(steps):
            optimizer.zero_grad()
            model(torch.ones(4, 3)).square().sum().backward()
            optimizer.step()
        return model, optimizer

    model, optimizer = trained(3)
    model_state, optimizer_state = get_state_dict(model, optimizer)
    saver = checkpointer(root)
    saver.save(3, {"model": model_state, "optimizer": optimizer_state}, {})
    saver.wait()

    other, other_optimizer = trained(0)
    model_state, optimizer_state = get_state_dict(other, other_optimizer)
    load(root, into={"model": model_state, "optimizer": optimizer_state})
    set_state_dict(other, other_optimizer, model_state_dict=model_state, optim_state_dict=optimizer_state)
    advance(other, other_optimizer, 2)
    assert same(other.state_dict(), trained(5)[0].state_dict())


def test_tensors_are_loaded_in_place_and_parameters_may_be_given(root):
    parameter = torch.nn.Parameter(torch.ones(2))
    saver = checkpointer(root)
    saver.save(1, {"p": parameter}, {})
    saver.wait()
    with torch.no_grad():
        parameter.zero_()
    load(root, into={"p": parameter})
    assert parameter.tolist() == [1.0, 1.0]


class Held(Disk):
    """A disk that lets nothing be created until it is released."""

    def __init__(self):
        self.reached = threading.Event()
        self.released = threading.Event()

    def create(self, path):
        self.reached.set()
        assert self.released.wait(60)
        return super().create(path)


def test_save_returns_before_the_data_is_on_disk_and_later_changes_do_not_reach_it(root):
    disk, log = Held(), Log()
    saver = checkpointer(root, log=log, disk=disk)
    live = state(1.0)
    extra = {"seen": [1]}
    saver.save(1, live, extra)
    assert disk.reached.wait(60)
    saver.poll()
    assert log.verified == []
    assert list_checkpoints(root) == []

    live["model"]["weight"].fill_(99.0)
    live["optimizer"]["param_groups"][0]["lr"] = 99.0
    extra["seen"].append(99)
    disk.released.set()
    saver.wait()

    loaded, into = load(root)
    assert loaded.extra == {"seen": [1]}
    assert same(into, state(1.0))


def test_a_save_waits_for_the_one_before_and_counts_the_time(root):
    disk, log = Held(), Log()
    saver = checkpointer(root, log=log, disk=disk)
    saver.save(1, state(1.0), {})
    assert disk.reached.wait(60)
    before = saver.stalled_seconds
    second = threading.Thread(target=saver.save, args=(2, state(2.0), {}))
    second.start()
    disk.released.set()
    second.join(60)
    saver.wait()
    assert [note.step for note in log.verified] == [1, 2]
    assert saver.stalled_seconds > before


def test_poll_tells_of_a_finished_save_once(root):
    log = Log()
    saver = checkpointer(root, log=log)
    saver.save(1, state(), {})
    saver.wait()
    saver.poll()
    saver.wait()
    assert [note.step for note in log.verified] == [1]


def test_notes_say_what_lies_on_the_volume(root):
    directory = save(root, 40, generation=3)
    assert directory.name == "step-00000040-gen-0003"
    (note,) = list_checkpoints(root)
    assert (note.step, note.generation, note.name) == (40, 3, directory.name)
    assert note.size_bytes == sum(p.stat().st_size for p in directory.iterdir() if p.name != "manifest.json")
    assert verify(root, directory.name) == []


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"a": {"b": object()}}, r"state\['a\.b'\] is of type object"),
        ({"a": {1, 2}}, r"state\['a'\] is of type set"),
        ({"a": [torch.ones(1), b"bytes"]}, r"state\['a\.1'\] is of type bytes"),
        ({"a": torch.ones(2, 2).to_sparse()}, r"state\['a'\] has layout torch.sparse_coo"),
        ({"a": torch.ones(2, device="meta")}, r"state\['a'\] is on the meta device"),
    ],
)
def test_a_leaf_that_needs_a_pickle_is_refused_by_name(root, entry, words):
    with pytest.raises(TypeError, match=words):
        checkpointer(root).save(1, entry, {})
    assert not root.exists()


def test_extra_that_is_no_json_is_refused_by_name(root):
    with pytest.raises(TypeError, match=r"extra\['when'\]"):
        checkpointer(root).save(1, {}, {"when": object()})


def test_two_entries_of_one_key_are_refused(root):
    with pytest.raises(ValueError, match=r"'a\.b'"):
        checkpointer(root).save(1, {"a": {"b": 1}, "a.b": 2}, {})


def test_fewer_than_two_cannot_be_kept(root):
    with pytest.raises(ValueError, match="keep is 1"):
        checkpointer(root, keep=1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s["model"].pop("bias"), r"not in this job: model\.bias"),
        (lambda s: s["model"].update(gate=torch.ones(1)), r"not in the checkpoint: model\.gate"),
        (
            lambda s: s["model"].update(weight=torch.ones(3, 5)),
            r"model\.weight \(float32\[5, 3\] there, float32\[3, 5\] here\)",
        ),
        (lambda s: s.update(cursor=torch.zeros(2)), r"cursor \(int64\[2\] there, float32\[2\] here\)"),
        (lambda s: s.update(cursor=3), r"cursor \(a tensor there, a value here\)"),
        (
            lambda s: s.update(model={f"m{i}": torch.ones(1) for i in range(5)}),
            r"model\.m0, model\.m1, model\.m2 and 2 more",
        ),
    ],
    ids=["extra", "missing", "shape", "dtype", "kind", "many"],
)
def test_a_good_checkpoint_that_does_not_fit_is_an_error_of_configuration(root, change, words):
    directory = save(root, 4)
    into = state()
    change(into)
    weight = into["model"].get("weight")
    before = None if weight is None else weight.clone()
    with pytest.raises(CheckpointError, match=words) as caught:
        load(root, into=into)
    assert caught.value.configuration
    assert directory.exists()
    assert weight is None or torch.equal(weight, before)


def test_the_digest_tells_weights_apart_and_nothing_else(root):
    saver = checkpointer(root, keep=3)
    other = state(1.0)
    other["cursor"] += 1
    for step, content in enumerate((state(1.0), other, state(2.0))):
        saver.save(step, content, {})
    saver.wait()
    third, second, first = (weights_digest(root, note.name) for note in list_checkpoints(root))
    assert first == second != third


def test_a_digest_of_nothing_is_an_error_that_names_what_there_is(root):
    name = save(root, 1).name
    with pytest.raises(CheckpointError, match="no tensor under 'modell'; it has cursor, model, nothing, optimizer"):
        weights_digest(root, name, "modell")
