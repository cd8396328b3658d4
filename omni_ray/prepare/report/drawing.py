"""From counts to what a plot consists of: places in a box of WIDTH x HEIGHT units, and words."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from omni_ray.prepare.report.distribution import Bar, Distribution

WIDTH, HEIGHT = 360, 150
_LEFT, _RIGHT, _TOP, _BASE = 6.0, 354.0, 22.0, 122.0
MOST_TICKS = 7


class Box(NamedTuple):
    """A bar as it is drawn, or the part of it that a source has; `tip` says what it counts."""

    x: float
    y: float
    width: float
    height: float
    tip: str
    colour: int | None = None


class Tick(NamedTuple):
    x: float
    label: str
    anchor: str  # of the label, as SVG names it


class Plot(NamedTuple):
    """A histogram. `boxes` is empty where all values are one; `band` is a stretch of the axis that is pointed out."""

    title: str
    words: str
    boxes: list[Box]
    ticks: list[Tick]
    top: str  # count at the upper line
    band: Box | None


class Stretch(NamedTuple):
    """A part of a whole: `x` and `width` of a line of `WHOLE` units."""

    colour: int
    x: float
    width: float
    tip: str


WHOLE = 1000


class Quantity(NamedTuple):
    """What a plot is of. `number` writes a value; `unit` follows it ("" where it is part of the number)."""

    title: str
    noun: str  # what is counted, in the plural
    number: Callable[[float], str]
    unit: str = ""
    band: tuple[int, int] | None = None  # recommended values, in units of the scale
    band_name: str = ""


class Part(NamedTuple):
    """A source's part in a distribution."""

    name: str
    colour: int
    distribution: Distribution


def plot(quantity: Quantity, distribution: Distribution, parts: Sequence[Part] = ()) -> Plot | None:
    """The picture of a distribution, its bars made of `parts` where there are any; None of an empty one."""
    if not distribution.count:
        return None
    unit = distribution.scale.unit
    least, most = distribution.least / unit, distribution.most / unit
    mean = distribution.total / distribution.count / unit
    number, after = quantity.number, f" {quantity.unit}" if quantity.unit else ""
    if least == most:
        words = f"{number(least)}{after}, every one of {distribution.count:,} {quantity.noun}"
        return Plot(quantity.title, words, [], [], "", None)
    words = f"{number(least)} to {number(most)}{after}, {number(mean)} on average"
    bars = distribution.bars()
    top = nice_top(max(bar.holds for bar in bars))
    step = (_RIGHT - _LEFT) / len(bars)
    boxes = []
    for at, bar in enumerate(bars):
        if not bar.holds:
            continue
        height = max((_BASE - _TOP) * bar.holds / top, 1.0)  # one clip of a million is still seen
        place = Box(_LEFT + at * step, _BASE - height, max(step - 1.5, 1), height, "")
        where = f"{number(bar.start / unit)} to {number(bar.stop / unit)}{after}"
        boxes += list(_pieces(place, bar, where, quantity.noun, parts))
    return Plot(quantity.title, words, boxes, _ticks(bars, unit), compact(top), _band(quantity, bars))


def _pieces(place: Box, bar: Bar, where: str, noun: str, parts: Sequence[Part]) -> Iterator[Box]:
    """A bar, from the bottom up."""
    counted: list[tuple[str, int | None, int]]
    counted = [(f"{part.name}, ", part.colour, part.distribution.within(bar)) for part in parts]
    bottom = place.y + place.height
    for name, colour, holds in counted or [("", None, bar.holds)]:
        height = place.height * holds / bar.holds
        bottom -= height
        if holds:
            x, y, width, height = (round(value, 2) for value in (place.x, bottom, place.width, height))
            yield Box(x, y, width, height, f"{name}{where}: {holds:,} {noun}", colour)


def stacked(parts: Sequence[tuple[int, int, str]]) -> list[Stretch]:
    """Parts of a whole (colour, size, what to say), side by side."""
    total = sum(size for _, size, _ in parts)
    made, begun = [], 0
    for colour, size, tip in parts:
        if size:
            made.append(Stretch(colour, round(WHOLE * begun / total, 2), round(WHOLE * size / total, 2), tip))
        begun += size
    return made


def nice_top(count: int) -> int:
    """The least round number of two digits, and zeros, that is not below `count` and can be halved."""
    power = int(10 ** max(len(str(count)) - 2, 0))
    steps: tuple[int, ...] = (2, 4, 6, 8, 10, 12, 14, 16, 20, 24, 30, 40, 50, 60, 80, 100)
    return next(step * power for step in steps if step * power >= count)


def compact(value: float) -> str:
    """1234 -> `1.2k`, 20000 -> `20k`, 0.25 -> `0.25`."""
    for letter, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= factor:
            return f"{value / factor:.3g}{letter}"
    return f"{value:.3g}"


def _ticks(bars: Sequence[Bar], unit: int) -> list[Tick]:
    edges = [bar.start for bar in bars] + [bars[-1].stop]
    step = (_RIGHT - _LEFT) / len(bars)
    ticks = []
    for number in _marked(edges, unit):
        x = round(_LEFT + number * step, 2)
        anchor = "start" if number == 0 else "end" if number == len(bars) else "middle"
        ticks.append(Tick(x, compact(edges[number] / unit), anchor))
    return ticks


def _marked(edges: Sequence[int], unit: int) -> list[int]:
    """Numbers of the edges that get a label: round ones, and not more than MOST_TICKS."""
    if len(edges) <= MOST_TICKS:
        return list(range(len(edges)))
    if unit > 1:  # equal steps from 0 on
        width = edges[1] / unit
        for power in range(-2, 5):
            for lead in (1, 2, 5):
                every = round(lead * 10.0**power / width)
                if every >= 1 and math.isclose(every * width, lead * 10.0**power) and len(edges) / every <= MOST_TICKS:
                    return list(range(0, len(edges), every))
    for leads in ((1, 2, 5), (1, 3), (1,)):
        found = [number for number, edge in enumerate(edges) if edge // 10 ** (len(str(edge)) - 1) in leads]
        exact = [number for number in found if set(str(edges[number])[1:]) <= {"0"}]
        if 2 <= len(exact) <= MOST_TICKS:
            return exact
    return [0, len(edges) - 1]


def _band(quantity: Quantity, bars: Sequence[Bar]) -> Box | None:
    """Where on the axis the recommended values lie, as far as it reaches."""
    if quantity.band is None:
        return None
    low, high = (max(bars[0].start, min(value, bars[-1].stop)) for value in quantity.band)
    if low == high:
        return None
    scale = (_RIGHT - _LEFT) / (bars[-1].stop - bars[0].start)
    left, right = (_LEFT + (value - bars[0].start) * scale for value in (low, high))
    return Box(round(left, 2), _TOP, round(right - left, 2), _BASE - _TOP, quantity.band_name)
