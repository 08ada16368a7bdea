"""Handwritten digits: 1797 images of 8 x 8 pixels, the file that scikit-learn ships.

The file is read with numpy. Importing scikit-learn for it would cost three seconds in every worker. Source:
E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from rowlock_trainer.data.errors import DataError
from rowlock_trainer.data.order import permutation

SIDE = 8
PIXELS = SIDE * SIDE
CLASSES = 10
#: Largest pixel value in the file.
_WHITE = 16.0
#: Share of the images that is trained on; the rest is held out.
_TRAIN_SHARE = 0.8
#: Seed of the split. It is fixed: the held-out images are the same in every job, whatever its own seed.
_SPLIT_SEED = 0


@dataclass(frozen=True)
class Images:
    """Images, float32 [n, 1, 8, 8] from 0 to 1, and their classes, int64 [n]."""

    pixels: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)


def load() -> tuple[Images, Images]:
    """Return the images to train on (1437) and the held-out ones (360).

    Raises:
        DataError: scikit-learn is not installed, or its file is not what it was.
    """
    table = read_table(digits_path())
    pixels = torch.from_numpy((table[:, :PIXELS] / np.float32(_WHITE)).reshape(-1, 1, SIDE, SIDE))
    labels = torch.from_numpy(table[:, PIXELS].astype(np.int64))
    order = torch.from_numpy(permutation(len(table), _SPLIT_SEED, epoch=0))
    cut = int(len(table) * _TRAIN_SHARE)
    train, held_out = order[:cut], order[cut:]
    return Images(pixels[train], labels[train]), Images(pixels[held_out], labels[held_out])


def digits_path() -> Path:
    """Return where scikit-learn keeps its digits. Raises `DataError` when it is not installed."""
    spec = find_spec("sklearn")
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            "data digits: the package scikit-learn, which ships the images, is not installed; "
            "install rowlock[trainer] or choose data python-text with model gpt"
        )
    return Path(spec.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"


def read_table(path: Path) -> npt.NDArray[np.float32]:
    """Return the file's rows, float32 [n, 65]: 64 pixels from 0 to 16, then the class.

    Raises:
        DataError: The file cannot be read or has another shape.
    """
    try:
        with gzip.open(path, "rb") as file:
            numbers = np.array(file.read().replace(b"\n", b",").strip(b",").split(b","), dtype=np.float32)
        return numbers.reshape(-1, PIXELS + 1)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"data digits: {path} cannot be read as rows of {PIXELS + 1} numbers ({error}); reinstall scikit-learn"
        ) from error
