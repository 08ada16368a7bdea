"""Tensors as the plain bytes they are on disk: contiguous, row-major, in the machine's order."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import torch

from rowlock_trainer.checkpoint.errors import BadCheckpointError
from rowlock_trainer.checkpoint.layout import METADATA

if TYPE_CHECKING:
    from io import FileIO

    from rowlock_trainer.checkpoint.index import TensorRecord

_DTYPES = {str(d).removeprefix("torch."): d for d in vars(torch).values() if isinstance(d, torch.dtype)}


def dtype(key: str, record: TensorRecord) -> torch.dtype:
    """Return the dtype of tensor `key`. Raises BadCheckpointError when this torch has none of that name."""
    if record.dtype not in _DTYPES:
        raise BadCheckpointError(METADATA, f"{key} has dtype {record.dtype!r}, which this torch does not know")
    return _DTYPES[record.dtype]


def as_bytes(tensor: torch.Tensor) -> memoryview:
    """Return the memory of a contiguous tensor in host memory, without a copy."""
    return memoryview(tensor.view(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]  # numpy arrays are buffers


def read_box(file: FileIO, at: int, sizes: tuple[int, ...], kind: torch.dtype) -> torch.Tensor:
    """Return the contiguous tensor of shape `sizes` stored at byte `at`. Raises BadCheckpointError, OSError."""
    buffer = torch.empty(prod(sizes) * kind.itemsize, dtype=torch.uint8)
    view = as_bytes(buffer)
    file.seek(at)
    while view:
        length = file.readinto(view)
        if not length:
            raise BadCheckpointError(str(file.name), f"ends {len(view)} bytes early")
        view = view[length:]
    return buffer.view(kind).view(sizes)
