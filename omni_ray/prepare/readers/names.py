"""Which of millions of things has a name: 20 bytes for each, where Python objects would take hundreds."""

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

Digests = NDArray[np.uint64]  # [n, 2]: 128 bits of each name, so that no two are taken for one


def digests(names: Iterable[str]) -> Digests:
    joined = b"".join([blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).digest() for name in names])
    return np.frombuffer(joined, np.uint64).reshape(-1, 2)


class Names:
    """Numbers of things by name; `numbers` [n] are those of the things whose digests are given, ascending.

    `parts` is emptied, as it may be large.
    """

    def __init__(self, parts: list[Digests], numbers: NDArray[np.integer[Any]] | None = None) -> None:
        every = np.concatenate(parts) if parts else np.empty((0, 2), np.uint64)
        parts.clear()
        order = np.lexsort((every[:, 1], every[:, 0])).astype(np.uint32)  # stable: twins stay in order
        self._high = every[order, 0]
        self._low = every[order, 1]
        self._numbers = order if numbers is None else numbers[order].astype(np.uint32)

    def numbers(self, name: str) -> list[int]:
        """The things of this name, in order."""
        ((high, low),) = digests([name])
        start, stop = np.searchsorted(self._high, high), np.searchsorted(self._high, high, "right")
        found: list[int] = self._numbers[start:stop][self._low[start:stop] == low].tolist()
        return found

    def known(self, names: Sequence[str]) -> list[bool]:
        """Whether each of the names is that of a thing."""
        wanted = digests(names)
        places = np.searchsorted(self._high, wanted[:, 0])
        inside = places < len(self._high)
        places[~inside] = 0
        if not len(self._high):
            return [False] * len(names)
        same = inside & (self._high[places] == wanted[:, 0])
        sure = same & (self._low[places] == wanted[:, 1])
        for place in np.flatnonzero(same & ~sure):  # another name begins with the same 64 bits
            sure[place] = bool(self.numbers(names[int(place)]))
        found: list[bool] = sure.tolist()
        return found

    def repeated(self) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """Things before which others of the same name come, ascending, and how many those are."""
        same = (self._high[1:] == self._high[:-1]) & (self._low[1:] == self._low[:-1])
        later = np.flatnonzero(same) + 1
        if not len(later):
            return np.empty(0, np.uint32), np.empty(0, np.uint32)
        starts = np.flatnonzero(~np.concatenate([[False], same]))
        ranks = later - starts[np.searchsorted(starts, later, "right") - 1]
        order = np.argsort(self._numbers[later])
        return self._numbers[later][order], ranks[order].astype(np.uint32)
