"""Micro-batches of coming steps, made in a thread while the device works on the present one."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from omni_ray.train.task import Batch

Make = Callable[[int], Sequence[Batch]]


class Feed:
    """The batches of one step after the other, from `start` on."""

    def __init__(self, make: Make, start: int, stop: int, depth: int) -> None:
        self.waited = 0.0  # seconds that `next` has spent waiting
        self._make, self._at, self._stop = make, start, stop
        self._ready: queue.Queue[Sequence[Batch] | BaseException] = queue.Queue(max(1, depth))
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._fill, name="feed", daemon=True) if depth else None
        if self._thread is not None:
            self._thread.start()

    def next(self) -> Sequence[Batch]:
        """The micro-batches of the next step; an error of the thread is raised here."""
        began = time.perf_counter()
        found = self._make(self._at) if self._thread is None else self._ready.get()
        self._at += 1
        self.waited += time.perf_counter() - began
        if isinstance(found, BaseException):
            raise found
        return found

    def close(self) -> None:
        self._closed.set()
        while self._thread is not None and self._thread.is_alive():
            try:
                self._ready.get_nowait()
            except queue.Empty:
                self._thread.join(0.01)

    def _fill(self) -> None:
        for step in range(self._at, self._stop):
            try:
                made: Sequence[Batch] | BaseException = self._make(step)
            except BaseException as error:  # noqa: BLE001 - it is raised again where the batch is asked for
                made = error
            self._ready.put(made)
            if self._closed.is_set() or isinstance(made, BaseException):
                return


@contextmanager
def feeding(make: Make, start: int, stop: int, depth: int) -> Iterator[Feed]:
    """A feed for the length of a `with`. `depth` steps are made ahead; with 0 each is made when it is asked for."""
    feed = Feed(make, start, stop, depth)
    try:
        yield feed
    finally:
        feed.close()
