"""The digits are scikit-learn's, without its import."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from rowlock_trainer.data import digits
from rowlock_trainer.data.errors import DataError


def test_the_table_is_the_one_scikit_learn_loads() -> None:
    from sklearn.datasets import load_digits

    ours, theirs = digits.read_table(digits.digits_path()), load_digits()
    assert np.array_equal(ours[:, :64], theirs.data)
    assert np.array_equal(ours[:, 64], theirs.target)


def test_images_are_split_in_two_parts_that_share_none() -> None:
    train, held_out = digits.load()
    assert (len(train), len(held_out)) == (1437, 360)
    assert train.pixels.shape == (1437, 1, 8, 8)
    assert (train.pixels.dtype, train.labels.dtype) == (torch.float32, torch.int64)
    assert (float(train.pixels.min()), float(train.pixels.max())) == (0.0, 1.0)
    everything = torch.cat([train.labels, held_out.labels])
    assert torch.bincount(everything).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_the_split_is_always_the_same() -> None:
    assert torch.equal(digits.load()[1].pixels, digits.load()[1].pixels)
    assert digits.load()[1].labels[:8].tolist() == [5, 9, 0, 4, 4, 4, 3, 3]


def test_scikit_learn_itself_is_not_imported() -> None:
    code = "import sys; from rowlock_trainer.data import digits; digits.load(); sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_missing_package_is_told_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"scikit-learn.* is not installed; install rowlock"):
        digits.load()


@pytest.mark.parametrize("content", [b"not gzip", gzip.compress(b"1,2,3\n"), gzip.compress(b"a,b\n"), b""])
def test_a_broken_file_is_told_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "digits.csv.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"{path} cannot be read"):
        digits.read_table(path)
