"""metadata.json: which tensor lies where, as plain values that need no torch to be read.

This is the part of torch.distributed.checkpoint's `Metadata` that loading and resharding need, spelled in
JSON instead of a pickle: for every tensor its dtype, its global size and its chunks, for every chunk its
place in the tensor and its place on disk. Entries that are no tensors do not exist here: they are in the
manifest, as JSON.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

from rowlock_trainer.checkpoint.errors import BadCheckpointError
from rowlock_trainer.checkpoint.layout import METADATA


@dataclass(frozen=True)
class ChunkRecord:
    """One stored box of a tensor. Its bytes are contiguous, row-major, in the machine's order."""

    #: Where the box begins in the tensor, one number a dimension.
    offsets: tuple[int, ...]
    #: Extent of the box, one number a dimension.
    sizes: tuple[int, ...]
    file: str
    #: Byte at which it begins in `file`.
    at: int
    #: Its length, in bytes.
    bytes: int


@dataclass(frozen=True)
class TensorRecord:
    """One tensor, whole."""

    #: As torch spells it, without the ``torch.``: ``bfloat16``.
    dtype: str
    size: tuple[int, ...]
    chunks: tuple[ChunkRecord, ...]


Index = dict[str, TensorRecord]


def render(index: Index) -> bytes:
    """Return the text of `index`."""
    return json.dumps({key: asdict(record) for key, record in index.items()}, sort_keys=True).encode()


def parse(text: bytes) -> Index:
    """Return the index that `text` holds. Raises BadCheckpointError when it is not one."""
    try:
        return {key: _tensor(fields) for key, fields in json.loads(text).items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BadCheckpointError(METADATA, f"is no index of tensors: {error}") from None


def _tensor(fields: dict[str, Any]) -> TensorRecord:
    size = _numbers(fields["size"])
    chunks = tuple(_chunk(chunk) for chunk in fields["chunks"])
    if not all(_within(chunk, size) for chunk in chunks):
        raise ValueError("a chunk lies outside its tensor")
    if sum(prod(chunk.sizes) for chunk in chunks) != prod(size):
        raise ValueError("the chunks do not fill their tensor")
    return TensorRecord(str(fields["dtype"]), size, chunks)


def _chunk(fields: dict[str, Any]) -> ChunkRecord:
    at, length = _numbers([fields["at"], fields["bytes"]])
    return ChunkRecord(_numbers(fields["offsets"]), _numbers(fields["sizes"]), str(fields["file"]), at, length)


def _within(chunk: ChunkRecord, size: tuple[int, ...]) -> bool:
    box = zip(chunk.offsets, chunk.sizes, size, strict=True)
    return all(offset + extent <= whole for offset, extent, whole in box)


def _numbers(values: list[int]) -> tuple[int, ...]:
    if not all(type(value) is int and value >= 0 for value in values):
        raise ValueError(f"expected whole numbers, got {values!r}")
    return tuple(values)
