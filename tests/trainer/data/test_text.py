"""Windows over the standard library's source."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rowlock_trainer.data import text
from rowlock_trainer.data.errors import DataError


@pytest.fixture
def library(tmp_path: Path) -> Path:
    (tmp_path / "b.py").write_bytes(bytes(range(100, 200)))
    (tmp_path / "a.py").write_bytes(bytes(range(100)))
    (tmp_path / "c.txt").write_bytes(b"no source")
    return tmp_path


def test_files_are_read_in_the_order_of_their_names_and_cut_in_two(library: Path) -> None:
    train, held_out = text.load(3, library)
    assert train.text.tolist() == list(range(190))
    assert held_out.text.tolist() == list(range(190, 200))


def test_each_byte_but_the_first_is_predicted_once(library: Path) -> None:
    train, _ = text.load(3, library)
    windows = train.take(range(len(train)))
    assert windows.dtype == torch.int64
    assert windows.shape == (63, 4)
    assert windows[:, 1:].flatten().tolist() == list(range(1, 190))
    assert windows[:, :-1].flatten().tolist() == list(range(189))


def test_the_standard_library_is_there_and_long_enough_to_learn_from() -> None:
    train, held_out = text.load(64)
    assert len(train) > 20_000
    assert len(held_out) > 1_000


def test_too_little_text_is_told_with_the_way_out(library: Path) -> None:
    with pytest.raises(DataError, match=r"holds 200 bytes .* model\.gpt\.context 10; use an image"):
        text.load(10, library)


def test_no_text_at_all_is_told_too(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds 0 bytes"):
        text.load(10, tmp_path)
