"""Seeded draws for synthetic data: every item has a stream of its own, so that none depends on another."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")
_POOL = 256  # integers drawn at once; one numpy call per draw would cost ten times as much


class Dice:
    """Draws from the stream that `seed` and the numbers of an item name (PCG64, never the global state)."""

    def __init__(self, seed: int, *item: int) -> None:
        self.generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=item)))
        self._pool: list[int] = []

    def below(self, stop: int) -> int:
        """A whole number in [0, stop)."""
        if not self._pool:
            self._pool = self.generator.integers(0, 1 << 32, _POOL, dtype=np.uint32).tolist()
        return self._pool.pop() * stop >> 32

    def number(self, low: int, high: int) -> int:
        """A whole number in [low, high], both included."""
        return low + self.below(high - low + 1)

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * self.below(1 << 24) / (1 << 24)

    def chance(self, percent: int) -> bool:
        return self.below(100) < percent

    def pick(self, options: Sequence[T]) -> T:
        return options[self.below(len(options))]

    def several(self, options: Sequence[T], count: int) -> list[T]:
        """`count` different options, in drawn order."""
        left = list(options)
        return [left.pop(self.below(len(left))) for _ in range(count)]
