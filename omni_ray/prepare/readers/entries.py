"""The rows of a file of labels by the name that each is about, packed: a manifest may have millions."""

import bisect
import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache, partial
from typing import Any, NamedTuple

import pyarrow as pa

from omni_ray.prepare.readers.names import Digests, Names, digests

CHUNK_ROWS = 128  # that are packed together; unpacking them for one row takes a tenth of a millisecond
CHUNK_BYTES = 1 << 20  # of a chunk at most, but for its last row
HELD_CHUNKS = 64
Columns = Mapping[str, Any]


class Entry(NamedTuple):
    """A row: what it is about ("" where it does not say), its number, and its columns, or `reason: what is wrong`."""

    name: str
    row: int
    value: Columns | str


class Entries:
    """All rows of a file of labels; made of them in order."""

    def __init__(self, rows: Iterable[Entry]) -> None:
        self._codec = pa.Codec("zstd", compression_level=1)
        self._chunks: list[tuple[int, bytes]] = []  # unpacked size, packed
        self._starts = [0]  # the first row of each chunk
        parts: list[Digests] = []
        for chunk in _in_chunks(rows):
            data = json.dumps(chunk, default=str, separators=(",", ":")).encode()
            self._chunks.append((len(data), self._codec.compress(data, asbytes=True)))
            self._starts.append(self._starts[-1] + len(chunk))
            parts.append(digests([entry.name for entry in chunk]))
        self._names = Names(parts)
        # Holds no `self`: that would be a cycle, and what is in one stays in memory until the collector runs.
        self._unpack = partial(_unpack, self._codec, threading.Lock(), self._chunks)
        self._unpacked = lru_cache(HELD_CHUNKS)(self._unpack)

    def of(self, name: str) -> list[Entry]:
        """The rows about this name, in order."""
        return [self._row(number) for number in self._names.numbers(name)]

    def chunks(self) -> Iterator[list[Entry]]:
        """All rows in order, some at a time."""
        return (self._unpack(number) for number in range(len(self._chunks)))

    def _row(self, number: int) -> Entry:
        chunk = bisect.bisect_right(self._starts, number) - 1
        small = self._chunks[chunk][0] <= 2 * CHUNK_BYTES  # larger ones are not held
        return (self._unpacked if small else self._unpack)(chunk)[number - self._starts[chunk]]


def _in_chunks(rows: Iterable[Entry]) -> Iterator[list[Entry]]:
    chunk: list[Entry] = []
    size = 0
    for entry in rows:
        chunk.append(entry)
        size += len(entry.value) if isinstance(entry.value, str) else sum(map(len, map(str, entry.value.values())))
        if len(chunk) == CHUNK_ROWS or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _unpack(codec: pa.Codec, lock: threading.Lock, chunks: list[tuple[int, bytes]], number: int) -> list[Entry]:
    size, packed = chunks[number]
    with lock:  # a codec is used by one thread at a time
        data = codec.decompress(packed, size, asbytes=True)
    return [Entry(*row) for row in json.loads(data)]
