"""The order of samples depends on the seed and the epoch, and on nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rowlock_trainer.data.order import derive, mix, permutation
from rowlock_trainer.data.sampler import Sampler

sizes = st.integers(1, 200)
seeds = st.integers(0, 2**31 - 1)


@given(size=sizes, seed=seeds, epoch=st.integers(0, 2**40))
def test_an_epoch_visits_each_sample_exactly_once(size: int, seed: int, epoch: int) -> None:
    assert sorted(permutation(size, seed, epoch)) == list(range(size))


def test_the_order_is_the_same_in_every_release() -> None:
    # Written down once: a change of the arithmetic would make resumed jobs repeat and miss samples.
    assert permutation(10, seed=0, epoch=0).tolist() == [0, 1, 8, 6, 4, 7, 5, 3, 2, 9]
    assert permutation(10, seed=0, epoch=1).tolist() == [2, 6, 5, 3, 1, 4, 8, 7, 9, 0]


@given(
    size=sizes,
    seed=seeds,
    each=st.integers(1, 5),
    worlds=st.permutations([(12, 1), (6, 2), (4, 3), (3, 1), (2, 3), (1, 1), (1, 12)]),
    start=st.integers(0, 1000),
)
def test_ranks_of_any_number_take_the_same_samples_in_the_same_order(
    size: int, seed: int, each: int, worlds: list[tuple[int, int]], start: int
) -> None:
    batch = 12 * each
    cursor = start
    sampler, line = Sampler(size, seed), Sampler(size, seed)
    for world_size, accumulation in worlds:  # the crew changes its size between any two steps
        taken = np.concatenate(
            [
                ids
                for rank in range(world_size)
                for ids in sampler.microbatches(
                    cursor, batch, rank=rank, world_size=world_size, accumulation=accumulation
                )
            ]
        )
        assert taken.tolist() == line.ids(cursor, batch).tolist()
        cursor += batch


@given(size=sizes, seed=seeds, batch=st.integers(1, 64))
def test_batches_that_straddle_epochs_lose_and_repeat_nothing(size: int, seed: int, batch: int) -> None:
    sampler = Sampler(size, seed)
    steps = -(-3 * size // batch)
    run = np.concatenate([sampler.ids(step * batch, batch) for step in range(steps)])[: 3 * size]
    for epoch in run.reshape(3, size):
        assert sorted(epoch) == list(range(size))


def test_epochs_and_seeds_shuffle_otherwise() -> None:
    orders = {tuple(permutation(100, seed, epoch)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_the_shuffle_favours_no_place() -> None:
    places = np.array([np.argsort(permutation(50, 0, epoch)) for epoch in range(2000)])
    # The mean place of each of 50 samples over 2000 shuffles: 24.5, with a standard error of 14.4 / sqrt(2000).
    assert np.abs(places.mean(axis=0) - 24.5).max() < 4.5 * 14.4 / 2000**0.5


@given(st.integers(0, 2**64 - 1))
def test_one_word_and_an_array_of_words_are_mixed_alike(word: int) -> None:
    golden = 0x9E3779B97F4A7C15
    (mixed,) = mix(np.array([(1 + word * golden + golden) % 2**64], dtype=np.uint64))
    assert derive(word) == int(mixed)


def test_derived_seeds_differ_with_each_part_and_their_order() -> None:
    assert len({derive(*parts) for parts in [(0,), (1,), (0, 0), (0, 1), (1, 0), (0, 0, 0), (-1, 0)]}) == 7


def test_a_batch_that_does_not_divide_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"globalBatchSize 10 is not a multiple of .* 4 x 1 = 4"):
        Sampler(100, 0).microbatches(0, 10, rank=0, world_size=4, accumulation=1)


def test_a_sampler_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one training sample"):
        Sampler(0, 0)
