"""Interpolated Kneser-Ney language model over token ids: what `learn.py` measures the thinker against.

Modified Kneser-Ney with three discounts an order (Chen and Goodman, "An empirical study of smoothing techniques for
language modeling", 1998), interpolated down to the uniform distribution. Grams are numbers in base `vocabulary`; tables
are sorted arrays, so that millions of grams fit.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class _Order(NamedTuple):
    """The grams of one order, and of each of their contexts the total and how much is left for lower orders."""

    grams: Ints
    shares: Floats  # (count - discount) / total of the context
    contexts: Ints
    left: Floats


class KneserNey:
    """`documents`: arrays of token ids that begin with `begin`, which says that a document begins."""

    def __init__(self, documents: Sequence[Ints], order: int, vocabulary: int, begin: int) -> None:
        if vocabulary**order >= 2**63:
            raise ValueError(f"{vocabulary} tokens to the power of {order} do not fit 63 bits; take fewer")
        self._order, self._vocabulary = order, vocabulary
        self._tables: dict[int, _Order] = {}
        above: Ints | None = None
        for length in range(order, 0, -1):
            grams, counts = np.unique(_windows(documents, length, vocabulary), return_counts=True)
            if above is not None:  # how many different tokens come before a gram; nothing does before a beginning
                types, different = np.unique(above % vocabulary**length, return_counts=True)
                first = grams // vocabulary ** (length - 1)
                inside = first != begin
                counts[inside] = different[np.searchsorted(types, grams[inside])]
                if length == 1:  # the token that begins documents is never predicted by its own beginning
                    counts = np.where(inside, counts, len(documents))
            self._tables[length] = _table(grams, counts, vocabulary)
            above = grams

    def bits(self, document: Ints) -> float:
        """Bits that all tokens after the first cost."""
        probability = np.full(len(document) - 1, 1.0 / self._vocabulary)
        for length in range(1, self._order + 1):
            table = self._tables[length]
            grams = _windows([document], length, self._vocabulary)
            if length == 1:
                grams = grams[1:]
            found = _look_up(table.grams, table.shares, grams)
            context = grams // self._vocabulary
            known = _look_up(table.contexts, table.left, context)
            seen = _is_in(table.contexts, context)
            at = probability[len(probability) - len(grams) :]
            at[:] = np.where(seen, found + known * at, at)
        with np.errstate(divide="ignore"):  # with next to no data a discount may be 0: then what is new is impossible
            return float(-np.log2(probability).sum())


def _windows(documents: Sequence[Ints], length: int, vocabulary: int) -> Ints:
    """All grams of this length, as numbers; none crosses documents."""
    powers = vocabulary ** np.arange(length - 1, -1, -1, dtype=np.int64)
    parts = [
        np.lib.stride_tricks.sliding_window_view(document, length) @ powers
        for document in documents
        if len(document) >= length
    ]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _table(grams: Ints, counts: Ints, vocabulary: int) -> _Order:
    ones, twos, threes, fours = (int(np.count_nonzero(counts == number)) for number in (1, 2, 3, 4))
    share = ones / (ones + 2 * twos) if ones + twos else 0.0
    discounts = np.array(
        [
            0.0,
            1 - 2 * share * twos / ones if ones else 0.0,
            2 - 3 * share * threes / twos if twos else 0.0,
            3 - 4 * share * fours / threes if threes else 0.0,
        ]
    ).clip(min=0)
    taken = np.minimum(discounts[np.minimum(counts, 3)], counts)
    contexts, first = np.unique(grams // vocabulary, return_index=True)
    totals = np.add.reduceat(counts, first).astype(np.float64)
    left = np.add.reduceat(taken, first) / totals
    of = np.repeat(np.arange(len(contexts)), np.diff(np.append(first, len(grams))))
    return _Order(grams, (counts - taken) / totals[of], contexts, left)


def _look_up(keys: Ints, values: Floats, wanted: Ints) -> Floats:
    places = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    return np.where(keys[places] == wanted, values[places], 0.0)


def _is_in(keys: Ints, wanted: Ints) -> npt.NDArray[np.bool_]:
    places = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    found: npt.NDArray[np.bool_] = keys[places] == wanted
    return found
