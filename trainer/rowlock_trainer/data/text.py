"""Text that every worker already has: the source of Python's standard library, as bytes.

Nothing is downloaded, and two workers with the same image have the same bytes. Two images with different
Python releases do not, which is why a job's workers must share one image (the resource sees to it).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from rowlock_trainer.data.errors import DataError
from rowlock_trainer.data.order import Ids

#: Bytes are the alphabet.
VOCABULARY = 256
#: Share of the bytes that is trained on; the rest is held out.
_TRAIN_SHARE = 0.95


@dataclass(frozen=True)
class Windows:
    """Windows of ``context + 1`` bytes; one ends where the next begins, so each byte is predicted once."""

    #: uint8 [bytes].
    text: torch.Tensor
    context: int

    def __len__(self) -> int:
        return max(0, len(self.text) - 1) // self.context

    def take(self, ids: Ids | range) -> torch.Tensor:
        """Return the windows `ids`, int64 [n, context + 1]."""
        starts = torch.from_numpy(np.asarray(ids, dtype=np.int64)) * self.context
        return self.text[starts[:, None] + torch.arange(self.context + 1)].long()


def load(context: int, folder: Path | None = None) -> tuple[Windows, Windows]:
    """Return the windows to train on and the held-out ones.

    Args:
        context: Bytes a prediction may look back on.
        folder: Where the ``.py`` files are; the standard library when None.

    Raises:
        DataError: There is too little text for one window on either side.
    """
    folder = folder or Path(os.__file__).parent
    text = b"".join(path.read_bytes() for path in sorted(folder.glob("*.py"), key=lambda path: path.name))
    cut = int(len(text) * _TRAIN_SHARE)
    # bytearray: torch wants memory that it may write to.
    train, held_out = (
        Windows(torch.frombuffer(bytearray(part), dtype=torch.uint8) if part else torch.empty(0), context)
        for part in (text[:cut], text[cut:])
    )
    if len(held_out) < 1:
        raise DataError(
            f"data python-text: {folder} holds {len(text)} bytes of .py files, too few for held-out windows of "
            f"model.gpt.context {context}; use an image with Python's standard library in source form"
        )
    return train, held_out
