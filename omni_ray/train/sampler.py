"""Which rows a step sees: a pure function of (seed, step), in time and memory that do not depend on how far a run is.

The rows of an epoch are a pseudo-random permutation; epochs follow each other without a gap, so the positions of the
stream are 0, 1, 2, ... and step s takes `global_batch` of them from s * global_batch on. What an epoch has left over
runs on into the next one's order. The world size decides only which rank takes which part of a step.
"""

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

BLANK = -1  # a place in a micro-batch that no row is left for
_ROUNDS = 6
_MULTIPLY = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


def rows_at(positions: Rows, rows: int, seed: int) -> Rows:
    """The rows at these positions of the stream."""
    epochs, places = np.divmod(positions, rows)
    found = np.empty_like(positions)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        found[here] = permute(places[here], rows, seed, int(epoch))
    return found


def step_rows(step: int, global_batch: int, rows: int, seed: int) -> Rows:
    """The rows that step `step` sees, in the order of the stream."""
    start = step * global_batch
    return rows_at(np.arange(start, start + global_batch, dtype=np.int64), rows, seed)


def micro_batches(step: Rows, rank: int, world_size: int, batch_size: int) -> list[Rows]:
    """The part of a step that a rank takes, in micro-batches of exactly `batch_size`.

    Every rank has the same number of micro-batches; where the rows do not divide evenly, places are BLANK.
    """
    together = batch_size * world_size
    count = -(-len(step) // together)
    padded = np.full(count * together, BLANK, np.int64)
    padded[: len(step)] = step
    # Strided, so that the blanks of a last, partly filled micro-batch spread over the ranks.
    mine = padded.reshape(count, batch_size, world_size)[:, :, rank]
    return list(mine)


def permute(places: Rows, rows: int, seed: int, epoch: int) -> Rows:
    """Where `places` of [0, rows) come to lie in the order of an epoch: a bijection of [0, rows).

    A Feistel network over the next even power of two, walked until it lands inside (Black and Rogaway, "Ciphers with
    arbitrary finite domains", 2002). So any place costs the same, and nothing is held in memory.
    """
    half = max(1, ((rows - 1).bit_length() + 1) // 2)
    keys = _keys(seed, epoch)
    found = places.astype(np.uint64)
    outside = np.ones(len(found), np.bool_)
    while outside.any():
        found[outside] = _network(found[outside], keys, np.uint64(half))
        outside = found >= np.uint64(rows)
    return found.astype(np.int64)


def _network(values: Words, keys: Words, half: np.uint64) -> Words:
    mask = np.uint64((1 << int(half)) - 1)
    left, right = values >> half, values & mask
    for key in keys:
        left, right = right, left ^ (_mix(right + key) & mask)
    return (left << half) | right


def _mix(values: Words) -> Words:
    """The finaliser of splitmix64 (Steele, Lea and Flood, 2014)."""
    values = (values ^ (values >> np.uint64(30))) * _MULTIPLY[0]
    values = (values ^ (values >> np.uint64(27))) * _MULTIPLY[1]
    return values ^ (values >> np.uint64(31))


def _keys(seed: int, epoch: int) -> Words:
    first = _mix(np.array([(seed * _GOLDEN + 1) & _MASK], np.uint64)) + np.uint64((epoch * _GOLDEN) & _MASK)
    return _mix(first + np.arange(1, _ROUNDS + 1, dtype=np.uint64) * np.uint64(_GOLDEN))
