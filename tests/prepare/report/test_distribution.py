"""Bins are exact, and drawing them loses nothing."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_ray.prepare.report.distribution import LENGTHS, MOST_BARS, SECONDS, Distribution, Scale

SCALES = {"lengths": LENGTHS, "seconds": SECONDS}
values = st.lists(st.integers(0, 3600 * 16_000), max_size=60)


def counted(scale: Scale, *lists: list[int]) -> Distribution:
    distribution = Distribution(scale)
    for numbers in lists:
        distribution.add(np.array(numbers, np.int64))
    return distribution


@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
@given(first=values, second=values)
def test_bars_hold_what_lies_between_their_edges(scale: Scale, first: list[int], second: list[int]) -> None:
    distribution = counted(scale, first, second)
    numbers = first + second
    bars = distribution.bars()
    assert distribution.count == len(numbers)
    assert distribution.total == sum(numbers)
    assert sum(bar.holds for bar in bars) == len(numbers)
    top = int(scale.edges[-1])
    for bar in bars:
        expected = sum(bar.start <= number < bar.stop or (number >= top == bar.stop) for number in numbers)
        assert bar.holds == distribution.within(bar) == expected
    for before, after in itertools.pairwise(bars):
        assert before.stop == after.start
    if numbers:
        assert (distribution.least, distribution.most) == (min(numbers), max(numbers))
        assert bars[0].start <= min(numbers)
        assert len(bars) <= MOST_BARS or scale is LENGTHS


@given(first=values, second=values)
def test_joining_is_counting_together(first: list[int], second: list[int]) -> None:
    joined, both = counted(LENGTHS, first), counted(LENGTHS, first, second)
    joined.join(counted(LENGTHS, second))
    assert joined.bars() == both.bars()
    assert (joined.count, joined.total, joined.least, joined.most) == (both.count, both.total, both.least, both.most)


def test_seconds_begin_at_zero_and_are_cut_at_round_places() -> None:
    bars = counted(SECONDS, [round(number * 16_000) for number in (0.25, 1.0, 29.99)]).bars()
    assert [(bar.start / 16_000, bar.stop / 16_000) for bar in bars[:2]] == [(0, 1), (1, 2)]
    assert [number for number, bar in enumerate(bars) if bar.holds] == [0, 1, 29]


def test_an_edge_belongs_to_the_bar_that_begins_there() -> None:
    (bar,) = counted(LENGTHS, [10, 12]).bars()
    assert (bar.start, bar.stop, bar.holds) == (10, 13, 2)
    assert [bar.holds for bar in counted(LENGTHS, [12, 13]).bars()] == [1, 1]
    assert [bar.start for bar in counted(LENGTHS, [0, 7, 8]).bars()] == [0, 1, 2, 3, 4, 5, 6, 8]


def test_nothing_has_no_bars() -> None:
    assert counted(LENGTHS).bars() == []
