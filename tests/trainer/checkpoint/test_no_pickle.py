"""Nothing from a checkpoint is ever unpickled."""

import io
import pickle
import pickletools

import pytest
import torch
from torch.distributed.checkpoint.metadata import MetadataIndex
from torch.distributed.checkpoint.planner import LoadItemType, LoadPlan, ReadItem, WriteItemType

from rowlock_trainer.checkpoint.index import parse
from rowlock_trainer.checkpoint.reader import CheckpointReader
from tests.trainer.checkpoint.builders import load, same, save, state


def test_no_file_of_a_checkpoint_is_a_pickle(root):
    for path in save(root, 1).iterdir():
        with pytest.raises((pickle.UnpicklingError, ValueError, EOFError)):
            pickletools.dis(path.read_bytes(), out=io.StringIO())


def test_loading_in_a_single_process_calls_no_unpickler(root, monkeypatch):
    save(root, 1)

    def refuse(*args, **kwargs):
        raise AssertionError("something was unpickled")

    for owner, name in [(pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")]:
        monkeypatch.setattr(owner, name, refuse)
    _, into = load(root)
    assert same(into, state(1.0))


def test_an_entry_that_is_no_tensor_is_refused_by_the_reader(root):
    directory = save(root, 1)
    reader = CheckpointReader(directory, parse((directory / "metadata.json").read_bytes()))
    nothing = torch.Size([])
    where = MetadataIndex("cursor", (0,))
    item = ReadItem(LoadItemType.BYTE_IO, where, nothing, where, nothing, nothing)
    with pytest.raises(TypeError, match="cursor is no tensor; data of a checkpoint is never unpickled"):
        reader.read_data(LoadPlan([item]), None)


def test_an_entry_that_is_no_tensor_is_refused_by_the_planner():
    from torch.distributed.checkpoint.planner import WriteItem

    from rowlock_trainer.checkpoint.staging import StagedPlanner, Staging

    item = WriteItem(MetadataIndex("thing"), WriteItemType.BYTE_IO)
    planner = StagedPlanner(Staging(), [item], {}, {})
    with pytest.raises(TypeError, match="thing is no tensor"):
        planner.create_global_plan([planner.create_local_plan()])
