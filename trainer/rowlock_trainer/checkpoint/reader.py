"""The storage reader: boxes of tensors from the data files into whatever tensors now need them.

The planner has worked out which part of which stored chunk goes where; this room reads those bytes and
copies them. Nothing is ever unpickled: an entry that is no tensor is refused.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import LoadItemType
from torch.distributed.checkpoint.storage import StorageReader
from torch.futures import Future

from rowlock_trainer.checkpoint.errors import BadCheckpointError
from rowlock_trainer.checkpoint.layout import METADATA
from rowlock_trainer.checkpoint.raw import dtype, read_box

if TYPE_CHECKING:
    import os
    from io import FileIO
    from pathlib import Path

    from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner, ReadItem

    from rowlock_trainer.checkpoint.index import ChunkRecord, Index


class CheckpointReader(StorageReader):
    """Reads one checkpoint whose files have been verified."""

    def __init__(self, directory: Path, index: Index) -> None:
        """Read from `directory`, where `index` says what lies where. Raises BadCheckpointError."""
        self._directory = directory
        self._dtypes = {key: dtype(key, record) for key, record in index.items()}
        self._index = index
        self._chunks = {
            MetadataIndex(key, chunk.offsets): _checked(key, chunk, self._dtypes[key])
            for key, record in index.items()
            for chunk in record.chunks
        }

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Never chosen by the looks of a path."""
        return False

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Nothing to reset: a reader belongs to one checkpoint."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """Return the index in torch's terms."""
        return Metadata(
            {
                key: TensorStorageMetadata(
                    TensorProperties(dtype=self._dtypes[key]),
                    torch.Size(record.size),
                    [ChunkStorageMetadata(torch.Size(c.offsets), torch.Size(c.sizes)) for c in record.chunks],
                )
                for key, record in self._index.items()
            }
        )

    def set_up_storage_reader(self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Nothing to set up."""

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        """Return `plan`."""
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        """Return `plans`."""
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Read all items of `plan`. Raises OSError, and BadCheckpointError when a file is short."""
        by_file: dict[str, list[ReadItem]] = {}
        for item in plan.items:
            if item.type == LoadItemType.BYTE_IO:
                raise TypeError(f"{item.storage_index.fqn} is no tensor; data of a checkpoint is never unpickled")
            by_file.setdefault(self._chunks[item.storage_index].file, []).append(item)
        for name, items in by_file.items():
            with (self._directory / name).open("rb", buffering=0) as file:
                for item in sorted(items, key=lambda item: self._chunks[item.storage_index].at):
                    target = planner.resolve_tensor(item).detach()
                    target.copy_(self._read(file, item))
                    planner.commit_tensor(item, target)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def _read(self, file: FileIO, item: ReadItem) -> torch.Tensor:
        """Return the box that `item` asks for, of shape ``item.lengths``, in host memory."""
        chunk = self._chunks[item.storage_index]
        kind = self._dtypes[item.storage_index.fqn]
        if not _whole_rows(item, chunk):
            box = read_box(file, chunk.at, chunk.sizes, kind)
            for dim, (offset, length) in enumerate(zip(item.storage_offsets, item.lengths, strict=True)):
                box = box.narrow(dim, offset, length)
            return box
        begin = item.storage_offsets[0] * prod(chunk.sizes[1:]) * kind.itemsize if chunk.sizes else 0
        return read_box(file, chunk.at + begin, tuple(item.lengths), kind)


def _whole_rows(item: ReadItem, chunk: ChunkRecord) -> bool:
    """Whether the box is cut from the chunk along the first dimension only, and so is contiguous on disk."""
    return tuple(item.lengths[1:]) == chunk.sizes[1:]


def _checked(key: str, chunk: ChunkRecord, kind: torch.dtype) -> ChunkRecord:
    if chunk.bytes != prod(chunk.sizes) * kind.itemsize:
        raise BadCheckpointError(METADATA, f"{key} has {chunk.bytes} bytes for {chunk.sizes} of {kind}")
    return chunk
