"""The order of samples: a permutation of every epoch, the same for ever, and as quick at the end as at the start."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omni_ray.train.sampler import permute, rows_at, step_rows


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 3000), st.integers(0, 2**63), st.integers(0, 10**6))
def test_an_epoch_is_a_permutation(rows: int, seed: int, epoch: int) -> None:
    assert sorted(permute(np.arange(rows), rows, seed, epoch)) == list(range(rows))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(1, 60), st.integers(0, 99))
def test_steps_cut_one_stream(global_batch: int, rows: int, seed: int) -> None:
    """An epoch's remainder runs on into the next epoch's order: nothing is dropped, nothing comes twice."""
    stream = np.concatenate([step_rows(step, global_batch, rows, seed) for step in range(20)])
    assert np.array_equal(stream, rows_at(np.arange(20 * global_batch), rows, seed))
    for start in range(0, len(stream) - rows + 1, rows):
        assert sorted(stream[start : start + rows]) == list(range(rows))


def test_the_order_of_this_version() -> None:
    """Golden: a checkpoint of one version goes on in the next."""
    assert step_rows(0, 10, 100, 42).tolist() == [38, 53, 75, 62, 85, 94, 87, 56, 66, 34]
    assert step_rows(12, 10, 100, 42).tolist() == [71, 88, 72, 42, 46, 53, 89, 95, 11, 12]
    assert step_rows(10**12, 4, 5_000_000_000, 1).tolist() == [1926616063, 745122322, 2343935755, 3626689199]


def test_epochs_and_seeds_differ() -> None:
    orders = [tuple(permute(np.arange(50), 50, seed, epoch)) for seed in range(3) for epoch in range(3)]
    assert len(set(orders)) == 9


@pytest.mark.parametrize("rows", [10, 1000, 4097])
def test_places_are_spread_evenly(rows: int) -> None:
    """Where the first row comes to lie, over many epochs: chi-square over ten bins, 9 degrees of freedom."""
    places = np.array([permute(np.arange(1), rows, 5, epoch)[0] for epoch in range(2000)])
    counts = np.histogram(places, bins=10, range=(0, rows))[0]
    assert ((counts - 200) ** 2 / 200).sum() < 33.7  # exceeded once in 10,000
