"""An append-only log on a store that cannot append: objects, each a stretch of the log named by where it lies in it.

`<key>/<start>-<stop>` holds the bytes [start, stop) of the log `key`. Every `sync` puts one object. When there are
SEGMENTS_APART of them, one object takes their place, so that a log is read with few requests however long it took to
write. Nothing is ever rewritten: a stretch holds the same bytes wherever it is found, so a reader takes the longest one
from where it is, and one that vanishes meanwhile is in a longer one.
"""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from omni_ray.errors import LedgerCorrupt, NotStored, StorageError
from omni_ray.storage.base import Appender, Log, Segment, Slice, Stat

if TYPE_CHECKING:
    from omni_ray.storage.s3 import S3Storage

SEGMENTS_APART = 64
JOIN_BYTES = 8 << 20  # joined earlier when they hold so much, which is what stays in memory for it
RELISTINGS = 5

_NAME = re.compile(r"(.*)/([0-9a-f]{16})-([0-9a-f]{16})")


class S3Appender(Appender):
    """Writes the log `key`, which must not exist; the only writer of it."""

    def __init__(self, storage: "S3Storage", key: str) -> None:
        self._storage = storage
        self._key = key
        self._buffer = bytearray()
        self._apart = bytearray()  # what lies in the objects that are not joined yet
        self._names: list[str] = []
        self._at = 0  # where the buffer begins in the log
        if any(True for _ in storage.list(key)):
            raise StorageError(f"{storage.uri_of(key)}: File exists; two runs wrote under one epoch")

    def write(self, data: bytes) -> None:
        self._buffer += data

    def sync(self) -> None:
        if not self._buffer:
            return
        data = bytes(self._buffer)
        name = _name(self._key, self._at, self._at + len(data))
        self._storage.put(name, data)
        self._names.append(name)
        self._apart += data
        self._at += len(data)
        self._buffer.clear()
        if len(self._names) >= SEGMENTS_APART or len(self._apart) >= JOIN_BYTES:
            self._join()

    def close(self) -> None:
        self._buffer.clear()

    def _join(self) -> None:
        if len(self._names) > 1:
            self._storage.put(_name(self._key, self._at - len(self._apart), self._at), bytes(self._apart))
            self._storage.delete_many(self._names)
        self._names.clear()
        self._apart.clear()


def to_logs(folder: str, stats: Iterable[Stat]) -> list[Log]:
    """The logs in `folder`, by key, from a listing of it. One without its beginning is one that was being deleted when
    a run was killed: as on disk, it is gone with its first deletion."""
    segments: dict[str, list[Segment]] = {}
    for stat in stats:
        match = _NAME.fullmatch(stat.key)
        if match and match[1].rpartition("/")[0] == folder:
            segments.setdefault(match[1], []).append(Segment(stat.key, int(match[2], 16), int(match[3], 16)))
    whole = {key: found for key, found in segments.items() if any(segment.start == 0 for segment in found)}
    return [Log(key, tuple(found)) for key, found in sorted(whole.items())]


def read_segments(storage: "S3Storage", log: Log, length: int | None) -> bytes:
    """The first `length` bytes of a log, all of it by default."""
    for attempt in range(1, RELISTINGS + 1):
        chosen = cover(log, length)
        try:
            data = b"".join(storage.read_ahead(Slice(one.key, 0, one.stop - one.start) for one in chosen))
        except NotStored:  # joined since it was listed: it is in a longer one now
            if attempt == RELISTINGS:
                raise
            log = next((found for found in storage.logs(log.key.rpartition("/")[0]) if found.key == log.key), log)
            continue
        return data if length is None else data[:length]
    raise AssertionError("unreachable")


def cover(log: Log, length: int | None) -> list[Segment]:
    """The fewest segments that hold the first `length` bytes.

    Raises:
        LedgerCorrupt: where one in the middle is missing.
    """
    longest: dict[int, Segment] = {}
    for segment in log.segments:
        if segment.start not in longest or longest[segment.start].stop < segment.stop:
            longest[segment.start] = segment
    chosen: list[Segment] = []
    at = 0
    while at in longest and (length is None or at < length):
        chosen.append(longest[at])
        at = longest[at].stop
    if any(start > at for start in longest) and (length is None or at < length):
        raise LedgerCorrupt(
            f"{log.key}: the object that holds its byte {at} is missing; restore it from a copy, or --reset the dataset"
        )
    return chosen


def _name(key: str, start: int, stop: int) -> str:
    return f"{key}/{start:016x}-{stop:016x}"
