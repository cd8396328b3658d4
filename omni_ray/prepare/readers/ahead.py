"""Many small objects of a bucket at once, in order: what is waited for is the network, not the CPU."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

AT_ONCE = 16  # requests; at 30 ms each some 500 objects a second, which is more than two cores decode
HELD_BYTES = 64 << 20  # of objects that were fetched and not yet taken, beside the one whose turn it is

T = TypeVar("T")
R = TypeVar("R")
Observe = Callable[[bytes], None]


class Room:
    """Memory for what is fetched ahead. Who wants more than is left waits until its own turn has come."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._sizes: dict[int, int] = {}
        self._turn = 0

    def enter(self, number: int, size: int) -> None:
        """Wait for room for `size` bytes more of the thing of this number."""
        with self._changed:
            self._changed.wait_for(lambda: number <= self._turn or sum(self._sizes.values()) + size <= HELD_BYTES)
            self._sizes[number] = self._sizes.get(number, 0) + size

    def turn(self, number: int) -> None:
        """Everything before this number was taken, and it is wanted now."""
        with self._changed:
            self._turn = number
            self._sizes = {one: size for one, size in self._sizes.items() if one >= number}
            self._changed.notify_all()


class Ahead:
    """Calls a function for things in threads and gives what comes out in their order; what they read is told to
    `observe` in that order too."""

    def __init__(self, observe: Observe) -> None:
        self._observe = observe
        self._here = threading.local()

    def heard(self, data: bytes) -> None:
        """To be told what is read, in whatever thread."""
        parts: list[bytes] | None = getattr(self._here, "parts", None)
        if parts is None:
            self._observe(data)
        else:
            parts.append(data)

    def expect(self, size: int) -> None:
        """To be told how many bytes will be read, in whatever thread; waits until there is room for them."""
        enter: Callable[[int], None] | None = getattr(self._here, "enter", None)
        if enter is not None:
            enter(size)

    def each(self, function: Callable[[T], R], things: Iterable[T]) -> Iterator[R]:
        """What `function` makes of each of the things; it may raise."""
        room = Room()
        waiting: deque[tuple[int, Future[tuple[R, list[bytes]]]]] = deque()
        pool = ThreadPoolExecutor(AT_ONCE, "ahead")

        def call(thing: T, number: int) -> tuple[R, list[bytes]]:
            parts: list[bytes] = []
            self._here.parts, self._here.enter = parts, partial(room.enter, number)
            return function(thing), parts

        def taken() -> R:
            number, future = waiting.popleft()
            room.turn(number)
            result, parts = future.result()
            for part in parts:
                self._observe(part)
            return result

        try:
            for number, thing in enumerate(things):
                waiting.append((number, pool.submit(call, thing, number)))
                if len(waiting) == AT_ONCE:
                    yield taken()
            while waiting:
                yield taken()
        finally:
            room.turn(1 << 62)
            pool.shutdown(cancel_futures=True)
