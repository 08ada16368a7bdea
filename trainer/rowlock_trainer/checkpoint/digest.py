"""One number for the weights of a checkpoint, whatever crew wrote them and however they were cut up.

Two runs ended with bitwise equal weights exactly when their digests are equal.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from rowlock_trainer.checkpoint import index, layout
from rowlock_trainer.checkpoint.errors import CheckpointError
from rowlock_trainer.checkpoint.raw import as_bytes, dtype, read_box

if TYPE_CHECKING:
    from rowlock_trainer.checkpoint.index import TensorRecord


def weights_digest(root: Path, name: str, prefix: str = "model") -> str:
    """Return the SHA-256 over the tensors of checkpoint `name` whose key begins with `prefix` and a dot.

    For each, in the order of keys: a line of JSON ``[key, dtype, size]``, then its bytes, row-major. One
    tensor at a time is held in memory.

    Raises:
        CheckpointError: no tensor has such a key.
        BadCheckpointError: the checkpoint's index or a file is damaged; ask `verify` first.
        OSError: a file cannot be read.
    """
    directory = Path(root) / name
    content = index.parse((directory / layout.METADATA).read_bytes())
    keys = sorted(key for key in content if key.startswith(f"{prefix}."))
    if not keys:
        roots = ", ".join(sorted({key.split(".")[0] for key in content})) or "no tensor at all"
        raise CheckpointError(f"checkpoint {directory} has no tensor under {prefix!r}; it has {roots}")
    digest = hashlib.sha256()
    for key in keys:
        record = content[key]
        digest.update(json.dumps([key, record.dtype, record.size]).encode() + b"\n")
        digest.update(as_bytes(_assemble(directory, key, record)))
    return digest.hexdigest()


def _assemble(directory: Path, key: str, record: TensorRecord) -> torch.Tensor:
    """Return tensor `key`, put together from its chunks."""
    kind = dtype(key, record)
    whole = torch.empty(record.size, dtype=kind)
    for chunk in record.chunks:
        part = whole
        for dim, (offset, extent) in enumerate(zip(chunk.offsets, chunk.sizes, strict=True)):
            part = part.narrow(dim, offset, extent)
        with (directory / chunk.file).open("rb", buffering=0) as file:
            part.copy_(read_box(file, chunk.at, chunk.sizes, kind))
    return whole
