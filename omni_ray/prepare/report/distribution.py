"""Distributions, counted as a stream in exact bins that do not depend on what comes."""

from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from omni_ray.catalog import LONGEST_SECONDS
from omni_ray.prepare.transforms.audio import SAMPLE_RATE

MOST_BARS = 50
Values = npt.NDArray[np.integer]

_PREFERRED = (10, 13, 16, 20, 25, 32, 40, 50, 63, 80)  # ten steps of about equal ratio (the R10 series of ISO 3)


class Scale(NamedTuple):
    """Bins `[edges[n], edges[n + 1])`; the last one takes everything above, too.

    unit: what a value is divided by for people.
    merges: how many neighbours may be drawn as one bar, rising; empty where bins are few enough as they are.
    from_zero: whether a drawing begins at 0, whatever is empty there.
    """

    edges: npt.NDArray[np.int64]
    unit: int
    merges: tuple[int, ...]
    from_zero: bool


def _lengths() -> Scale:
    small = [0, 1, 2, 3, 4, 5, 6, 8]
    edges = [*small, *(step * 10**power for power in range(12) for step in _PREFERRED)]
    return Scale(np.array(edges, np.int64), 1, (), False)


def _seconds() -> Scale:
    """Frames of SAMPLE_RATE, so that bins are exact: a twentieth of a second each."""
    width = SAMPLE_RATE // 20
    bins = int(LONGEST_SECONDS) * 20
    merges = (1, 2, 4, 10, 20, 40, 100, 200, 400, 1200, 2400, 6000, 12_000)  # 0.05 s to 10 minutes
    return Scale(np.arange(bins + 1, dtype=np.int64) * width, SAMPLE_RATE, merges, True)


LENGTHS = _lengths()  # bytes, characters, pixels: on a logarithmic axis
SECONDS = _seconds()


class Bar(NamedTuple):
    """Values in `[start, stop)`, in the scale's own integers."""

    start: int
    stop: int
    holds: int


class Distribution:
    """Counts of integers on a scale; `total`, `least` and `most` are exact."""

    def __init__(self, scale: Scale) -> None:
        self.scale = scale
        self.counts = np.zeros(len(scale.edges) - 1, np.int64)
        self.count = 0
        self.total = 0
        self.least = 0
        self.most = 0

    def add(self, values: Values) -> None:
        """Take in values, none of them negative."""
        if not len(values):
            return
        bins = np.searchsorted(self.scale.edges, values, side="right") - 1
        found = np.bincount(np.minimum(bins, len(self.counts) - 1), minlength=len(self.counts))
        self._merge(found, len(values), int(values.sum(dtype=np.int64)), int(values.min()), int(values.max()))

    def join(self, other: Self) -> None:
        """Take in all that another one of the same scale has counted."""
        if other.count:
            self._merge(other.counts, other.count, other.total, other.least, other.most)

    def _merge(self, counts: npt.NDArray[np.int64], count: int, total: int, least: int, most: int) -> None:
        self.least = min(self.least, least) if self.count else least
        self.most = max(self.most, most)
        self.counts += counts
        self.count += count
        self.total += total

    def within(self, bar: "Bar") -> int:
        """How many values a bar holds, be it one of another distribution on the same scale."""
        first, stop = np.searchsorted(self.scale.edges, (bar.start, bar.stop))
        return int(self.counts[first:stop].sum())

    def bars(self) -> list[Bar]:
        """Bars from the first to the last that is not empty (from 0 on where the scale says so)."""
        filled = np.flatnonzero(self.counts)
        if not len(filled):
            return []
        first = 0 if self.scale.from_zero else int(filled[0])
        stop = int(filled[-1]) + 1
        merge = next((m for m in self.scale.merges if m * MOST_BARS >= stop - first), None)
        merge = merge or (self.scale.merges or (1,))[-1]
        edges, last = self.scale.edges, len(self.counts)
        return [
            Bar(int(edges[at]), int(edges[min(at + merge, last)]), int(self.counts[at : at + merge].sum()))
            for at in range(first, stop, merge)
        ]
