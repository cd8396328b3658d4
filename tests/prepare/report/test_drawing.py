"""Where bars, ticks and stretches lie."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_ray.prepare.report import drawing
from omni_ray.prepare.report.distribution import LENGTHS, SECONDS, Distribution, Scale
from omni_ray.prepare.report.drawing import Part, Quantity, nice_top, plot, stacked

WHAT = Quantity("Length", "lines", lambda value: f"{value:g}", "bytes")
CLIPS = Quantity("Duration", "clips", lambda value: f"{value:g}", "s", (16_000, 160_000), "1-10 s")


def of(scale: Scale, *numbers: int) -> Distribution:
    distribution = Distribution(scale)
    distribution.add(np.array(numbers, np.int64))
    return distribution


@given(st.integers(1, 10**12))
def test_the_top_line_is_round_and_not_far_above(count: int) -> None:
    top = nice_top(count)
    assert count <= top <= max(2, count * 2)
    assert top % 2 == 0


def test_bars_stand_on_the_axis_as_high_as_they_count() -> None:
    drawn = plot(WHAT, of(LENGTHS, *[10] * 10, *[20] * 5))
    assert drawn is not None
    first, last = drawn.boxes
    assert first.height == 2 * last.height
    assert first.y + first.height == last.y + last.height
    assert (first.tip, last.tip) == ("10 to 13 bytes: 10 lines", "20 to 25 bytes: 5 lines")
    assert drawn.words == "10 to 20 bytes, 13.3333 on average"
    assert [tick.label for tick in drawn.ticks] == ["10", "13", "16", "20", "25"]


def test_a_bar_is_made_of_the_parts_of_its_sources() -> None:
    one, two = of(LENGTHS, 10, 10, 10), of(LENGTHS, 10, 50)
    both = of(LENGTHS, 10, 10, 10, 10, 50)
    drawn = plot(WHAT, both, [Part("one", 0, one), Part("two", 1, two)])
    assert drawn is not None
    below, above, other = drawn.boxes
    assert below.x == above.x != other.x
    assert above.y + above.height == pytest.approx(below.y)
    assert below.height == pytest.approx(3 * above.height)
    assert [box.colour for box in drawn.boxes] == [0, 1, 1]
    assert above.tip == "two, 10 to 13 bytes: 1 lines"


def test_the_recommended_seconds_are_where_the_axis_says() -> None:
    drawn = plot(CLIPS, of(SECONDS, 8_000, 32_000, 20 * 16_000 - 1))
    assert drawn is not None
    assert drawn.band is not None
    ticks = {tick.label: tick.x for tick in drawn.ticks}
    assert drawn.band.x + drawn.band.width == pytest.approx(ticks["10"], abs=0.02)
    assert 0 < drawn.band.x - ticks["0"] == pytest.approx((ticks["10"] - ticks["0"]) / 10, abs=0.02)


def test_a_short_axis_has_no_band() -> None:
    drawn = plot(CLIPS, of(SECONDS, 4_000, 8_000))
    assert drawn is not None
    assert drawn.band is None


@given(st.lists(st.integers(0, 10**7), min_size=2, max_size=50))
def test_ticks_are_few_and_in_the_box(numbers: list[int]) -> None:
    for scale in (LENGTHS, SECONDS):
        drawn = plot(WHAT, of(scale, *numbers))
        assert drawn is not None
        if drawn.boxes:
            places = [tick.x for tick in drawn.ticks]
            assert 2 <= len(places) <= drawing.MOST_TICKS
            assert places == sorted(places)
            assert 0 <= places[0] <= places[-1] <= drawing.WIDTH
            assert all(box.y >= 0 and box.y + box.height <= drawing.HEIGHT for box in drawn.boxes)


def test_what_is_all_the_same_is_said_and_not_drawn() -> None:
    drawn = plot(WHAT, of(LENGTHS, 224, 224, 224))
    assert drawn is not None
    assert (drawn.boxes, drawn.words) == ([], "224 bytes, every one of 3 lines")
    assert plot(WHAT, of(LENGTHS)) is None


def test_parts_fill_the_whole() -> None:
    parts = stacked([(0, 300, "a"), (1, 0, "b"), (2, 100, "c")])
    assert [(part.colour, part.x, part.width) for part in parts] == [(0, 0, 750), (2, 750, 250)]
    assert stacked([(0, 0, "a")]) == []
