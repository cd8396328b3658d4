"""Which committed samples enter the production files: the budget's cut and exact deduplication, as one pure step.

Sources come in catalog order, the samples of each in canonical order. A sample whose hash is already in the cut (of an
earlier source, or of its own) is skipped and costs nothing; another is taken while the source's bytes stay at or under
its quota; the first that does not fit is the source's position, and all from there on is beyond the cut, small or not.
A source that ends before its quota gives the difference away (`budget.quotas`), which repeats until nothing changes.

Why the result is one and the same whatever the order of events, and why it only grows: let a state be all positions.
Moving one source's position forward can only turn samples of later sources into duplicates. That lowers their bytes up
to every point, so that their positions move forward too, and lowers the use of exhausted ones, so that the quotas of
others rise (they are monotone). More committed samples, a source found complete, and a larger budget act the same way.
Hence one pass maps larger states to larger states; repeated from the empty state it climbs to the least fixpoint, which
does not depend on the order of steps (Knaster-Tarski), and which rises with samples and budget. This is also why
`_Cuts` never starts over: a position goes on from where it stood.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from omni_ray.errors import DataError, UsageError
from omni_ray.prepare.budget import Share, check_shares, quotas

Sizes = NDArray[np.uint32] | NDArray[np.uint64]
Hashes = NDArray[np.uint64]
State = Literal["filled", "dry", "needs_more"]

PARTITION_SAMPLES = 1 << 22  # hashes sorted at once: about 150 MB, and twice that where most repeat
CHUNK_SAMPLES = 1 << 20
FIRST_WINDOW = 1 << 10  # samples looked at in one step of a cut; grows while all of them fit
UNLIMITED = int(np.iinfo(np.int64).max)


class Samples(NamedTuple):
    """The committed samples of one source, in canonical order.

    sizes: `[n]` bytes, of text with its newline.
    hashes: `[n, 2]`, 128 bits of each sample's content; or a function that gives them anew on every call as chunks
        `[m, 2]`, so that they need not be in memory together. It is called once per partition of hashes.
    complete: no more will come. False for a source that is unfinished or cannot be reached.
    """

    sizes: Sizes
    hashes: Hashes | Callable[[], Iterable[Hashes]]
    complete: bool


class Counts(NamedTuple):
    """What became of a source's committed samples; the three add up to all of them."""

    in_output: int
    duplicate: int
    beyond: int


@dataclass(frozen=True)
class Cut:
    """Where one source is cut.

    quota: bytes it may use; None without a budget.
    position: samples `[0, position)` were considered; each is in the output or a duplicate.
    duplicates: sorted numbers of the samples before `position` that are skipped.
    size: bytes in the output.
    kept: committed samples.
    state: "filled": the sample at `position` would exceed the quota. "dry": complete, all were considered.
        "needs_more": all were considered and more may come, be it only to show that nothing more fits.
    """

    quota: int | None
    position: int
    duplicates: NDArray[np.uint32]
    size: int
    kept: int
    state: State

    @property
    def counts(self) -> Counts:
        duplicate = len(self.duplicates)
        return Counts(self.position - duplicate, duplicate, self.kept - self.position)

    def mask(self, start: int, stop: int) -> NDArray[np.bool_]:
        """Which of the samples `[start, stop)` are in the output: `[stop - start]`."""
        chosen = np.arange(start, stop) < self.position
        first, last = np.searchsorted(self.duplicates, np.array([start, stop], np.uint32))
        chosen[self.duplicates[first:last].astype(np.int64) - start] = False
        return chosen


@dataclass(frozen=True)
class Selection:
    """The cut of every source, by name, in catalog order."""

    cuts: Mapping[str, Cut]

    @cached_property
    def size(self) -> int:
        """Bytes of all outputs."""
        return sum(cut.size for cut in self.cuts.values())

    @cached_property
    def needs_more(self) -> list[str]:
        """Sources whose next block could still change the output."""
        return [name for name, cut in self.cuts.items() if cut.state == "needs_more"]


def select(max_bytes: int | None, shares: Sequence[Share], samples: Mapping[str, Samples], dedup: bool) -> Selection:
    """Cut every source at its share of `max_bytes`.

    Args:
        max_bytes: the budget in bytes; None for no limit.
        shares: every source, in catalog order.
        samples: of every source; of one that has nothing committed, an empty one that is not complete.
        dedup: skip samples whose content is already in the cut; without it the hashes are not read.

    Raises:
        UsageError: for shares that contradict each other, or samples without a share or the reverse.
        DataError: where a source's hashes and sizes are not of the same samples.
    """
    check_shares(shares)
    names = [share.name for share in shares]
    for name in sorted(set(names) ^ samples.keys()):
        lacks = "samples but no share" if name in samples else "a share but no samples (not even an empty array)"
        raise UsageError(f"source {name!r}: it has {lacks}; select needs both")
    cuts = _Cuts({name: samples[name] for name in names}, dedup)
    used: dict[str, int] = {}
    while True:
        allowed: Mapping[str, int | None] = (
            dict.fromkeys(names) if max_bytes is None else quotas(max_bytes, shares, used)
        )
        for source, name in enumerate(names):
            cuts.advance(source, allowed[name])
        dry = {name: cuts.size(source) for source, name in enumerate(names) if cuts.state(source) == "dry"}
        if max_bytes is None or dry == used:
            return Selection({name: cuts.result(source, allowed[name]) for source, name in enumerate(names)})
        used = dry


class _Cuts:
    """How far each source has come. Positions only move forward, so all calls together read every sample about once.

    The first source in catalog order that has passed a content owns it; the same content is a duplicate in every later
    source. An earlier source that comes to pass it takes it over, and its bytes are given back to the later one.
    """

    def __init__(self, samples: Mapping[str, Samples], dedup: bool) -> None:
        self._samples = list(samples.values())
        self._offsets = np.cumsum([0, *(len(given.sizes) for given in self._samples)], dtype=np.int64)
        if self._offsets[-1] >= 1 << 32:
            raise DataError(f"{self._offsets[-1]} samples: one selection takes fewer than 2^32; split the catalog")
        self._rows, groups = _repeated(samples, self._offsets) if dedup else (np.empty(0, np.uint64), 1)
        nobody = len(samples)
        self._position = [0] * len(samples)
        self._size = np.zeros(nobody + 1, np.int64)
        self._owner = np.full(groups, nobody, np.int32)
        self._owner[0] = -1  # of group 0, the repetitions inside a source: duplicates for everyone
        self._owned_size = np.zeros(groups, np.result_type(np.uint32, *(given.sizes for given in self._samples)))

    def advance(self, source: int, quota: int | None) -> None:
        """Take what fits `quota`."""
        sizes = self._samples[source].sizes
        limit = UNLIMITED if quota is None else min(quota, UNLIMITED)
        window = FIRST_WINDOW
        while (start := self._position[source]) < len(sizes):
            cost = sizes[start : start + window].astype(np.int64)
            index, group = self._candidates(source, start, start + len(cost))
            cost[index[self._owner[group] < source]] = 0
            total = np.cumsum(cost)
            fit = int(np.searchsorted(total, limit - self._size[source], side="right"))
            if fit:
                self._size[source] += total[fit - 1]
                self._position[source] += fit
                passed = index < fit
                self._own(source, group[passed], cost[index[passed]])
            if fit < len(cost):
                return
            window = min(window * 4, CHUNK_SAMPLES)

    def size(self, source: int) -> int:
        return int(self._size[source])

    def state(self, source: int) -> State:
        if self._position[source] < len(self._samples[source].sizes):
            return "filled"
        return "dry" if self._samples[source].complete else "needs_more"

    def result(self, source: int, quota: int | None) -> Cut:
        position = self._position[source]
        duplicates = [np.empty(0, np.uint32)]
        for start in range(0, position, CHUNK_SAMPLES):
            index, group = self._candidates(source, start, min(start + CHUNK_SAMPLES, position))
            duplicates.append((index[self._owner[group] < source] + start).astype(np.uint32))
        kept = len(self._samples[source].sizes)
        return Cut(quota, position, np.concatenate(duplicates), self.size(source), kept, self.state(source))

    def _candidates(self, source: int, start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Samples of `[start, stop)` whose content repeats: their numbers from `start` on, and their groups."""
        first = int(self._offsets[source]) + start
        ends = np.array([first, first + stop - start], np.uint64) << _HALF
        low, high = np.searchsorted(self._rows, ends)
        rows = self._rows[low:high]
        return (rows >> _HALF).astype(np.int64) - first, (rows & _LOW).astype(np.int64)

    def _own(self, source: int, group: NDArray[np.int64], size: NDArray[np.int64]) -> None:
        mine = self._owner[group] > source
        group, size = group[mine], size[mine]
        np.subtract.at(self._size, self._owner[group], self._owned_size[group].astype(np.int64))
        self._owner[group] = source
        self._owned_size[group] = size


_HALF = np.uint64(32)
_LOW = np.uint64((1 << 32) - 1)


def _repeated(samples: Mapping[str, Samples], offsets: NDArray[np.int64]) -> tuple[NDArray[np.uint64], int]:
    """Samples that are or may become duplicates, as sorted rows `number << 32 | group`; and how many groups there are.

    `number` counts over all sources. A group is the first occurrence in each of the sources that share a content;
    group 0 holds every later occurrence inside one source, which is a duplicate whatever happens.
    """
    bits = max(int(offsets[-1]) // PARTITION_SAMPLES, 0).bit_length()
    found: list[NDArray[np.uint64]] = []
    groups = 1
    for partition in range(1 << bits):
        hashes, numbers, later = _partition(samples, offsets, bits, partition)
        rows, groups = _repeated_in(hashes, numbers, offsets, groups)
        found += [rows, later.astype(np.uint64) << _HALF]
    rows = np.empty(sum(map(len, found)), np.uint64)
    end = len(rows)
    while found:  # one by one, so that both copies are never in memory whole
        part = found.pop()
        rows[end - len(part) : end] = part
        end -= len(part)
    rows.sort()
    return rows, groups


def _partition(
    samples: Mapping[str, Samples], offsets: NDArray[np.int64], bits: int, partition: int
) -> tuple[Hashes, NDArray[np.int64], NDArray[np.int64]]:
    """The hashes `[m, 2]` whose low `bits` are `partition`, their numbers `[m]`, and the numbers of those left out.

    Different contents spread evenly over the partitions. What comes above that is repetition, and later occurrences
    inside a source are left out as soon as there is so much of it, so that no content makes a partition large.
    """
    hashes, numbers = [np.empty((0, 2), np.uint64)], [np.empty(0, np.int64)]
    later = [np.empty(0, np.int64)]
    wanted, low_bits = np.uint64(partition), np.uint64((1 << bits) - 1)
    limit = (int(offsets[-1]) >> bits) + CHUNK_SAMPLES
    for (name, given), start, end in zip(samples.items(), offsets, offsets[1:], strict=False):
        number = int(start)
        for chunk in _chunks(given):
            if chunk.dtype != np.uint64 or chunk.ndim != 2 or chunk.shape[1] != 2:
                raise DataError(f"source {name!r}: hashes are {chunk.dtype} {chunk.shape}; give uint64 [n, 2]")
            picked = np.flatnonzero(chunk[:, 0] & low_bits == wanted)
            hashes.append(chunk[picked])
            numbers.append(picked + number)
            number += len(chunk)
            if sum(map(len, numbers)) > limit:
                kept, left_out = _first_in_source(np.concatenate(hashes), np.concatenate(numbers), offsets)
                hashes, numbers = [kept[0]], [kept[1]]
                later.append(left_out)
                limit = max(limit, 2 * len(kept[1]))
        if number != end:
            raise DataError(f"source {name!r}: {end - start} sizes but {number - start} hashes; read both again")
    return np.concatenate(hashes), np.concatenate(numbers), np.concatenate(later)


def _chunks(given: Samples) -> Iterator[Hashes]:
    if callable(given.hashes):
        yield from given.hashes()
    else:
        yield from (given.hashes[at : at + CHUNK_SAMPLES] for at in range(0, len(given.hashes), CHUNK_SAMPLES))


def _first_in_source(
    hashes: Hashes, number: NDArray[np.int64], offsets: NDArray[np.int64]
) -> tuple[tuple[Hashes, NDArray[np.int64]], NDArray[np.int64]]:
    """Hashes and numbers of each content's first occurrence in each source, and the numbers of the others."""
    twins = _twins(hashes, number, offsets)
    left_out = twins.at[~twins.first]
    kept = np.ones(len(number), np.bool_)
    kept[left_out] = False
    return (hashes[kept], number[kept]), number[left_out]


def _repeated_in(
    hashes: Hashes, number: NDArray[np.int64], offsets: NDArray[np.int64], groups: int
) -> tuple[NDArray[np.uint64], int]:
    """Rows of the repeated contents among `hashes`, and how many groups there are now, of which `groups` before."""
    at, new, first = _twins(hashes, number, offsets)
    content = np.cumsum(new) - 1
    shared = np.bincount(content[first]) > 1
    group = np.where(first, groups - 1 + np.cumsum(shared)[content], 0)
    rows = (number[at].astype(np.uint64) << _HALF) | group.astype(np.uint64)
    return rows[~first | shared[content]], groups + int(shared.sum())


class _Twins(NamedTuple):
    """Where samples are whose content repeats, by content and number (which rises): `[m]`. `new` marks the first of a
    content, `first` the first in its source."""

    at: NDArray[np.intp]
    new: NDArray[np.bool_]
    first: NDArray[np.bool_]


def _twins(hashes: Hashes, number: NDArray[np.int64], offsets: NDArray[np.int64]) -> _Twins:
    order = np.argsort(hashes[:, 0])
    twin = np.zeros(len(order), np.bool_)
    same = np.diff(hashes[order, 0]) == 0
    twin[1:] |= same
    twin[:-1] |= same
    at = np.sort(order[twin])  # by number, which the stable sort by content leaves so
    at = at[np.lexsort((hashes[at, 1], hashes[at, 0]))]
    new = np.ones(len(at), np.bool_)
    new[1:] = (np.diff(hashes[at, 0]) != 0) | (np.diff(hashes[at, 1]) != 0)
    source = np.searchsorted(offsets, number[at], side="right")
    first = new.copy()
    first[1:] |= np.diff(source) != 0
    return _Twins(at, new, first)
