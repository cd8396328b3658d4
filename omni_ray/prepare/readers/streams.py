"""Byte streams that the formats read from, and the words for a stream that is broken."""

import io
from typing import NamedTuple, Protocol

MIB = 1 << 20
CHUNK_BYTES = MIB  # one read; also about what one batch of records holds
MAX_RECORD_BYTES = 128 * MIB


class Stream(Protocol):
    """Seekable bytes. `read` returns fewer bytes than asked only at the end or before a damaged place."""

    def seek(self, offset: int, /) -> int: ...

    def tell(self) -> int: ...

    def read(self, size: int = -1, /) -> bytes: ...


class Damaged(Exception):
    """The stream cannot be read from `offset` on. `reason` is that of the quarantine: truncated or corrupt."""

    def __init__(self, reason: str, words: str, offset: int = 0) -> None:
        super().__init__(f"{reason}: {words}")
        self.reason = reason
        self.words = words
        self.offset = offset


class Range(NamedTuple):
    """Bytes [start, start + size) of a stream."""

    start: int
    size: int


class Window(io.RawIOBase):
    """A part of a stream as a stream of its own; closing it leaves the stream open."""

    def __init__(self, stream: Stream, start: int, size: int) -> None:
        self._stream, self._start, self._size = stream, start, size
        self._at = 0
        stream.seek(start)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, origin + offset)
        return self._at

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._size - self._at)
        want = left if size < 0 else min(size, left)
        if self._stream.tell() != self._start + self._at:
            self._stream.seek(self._start + self._at)
        data = self._stream.read(want)
        if want and not data:
            raise Damaged("truncated", f"the file ends {left} bytes before the member does", self._at)
        self._at += len(data)
        return data

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def read_fully(stream: Stream, size: int) -> bytes:
    """`size` bytes, fewer only where the stream ends."""
    parts = []
    while size > 0 and (data := stream.read(min(size, 8 * MIB))):
        parts.append(data)
        size -= len(data)
    return b"".join(parts)
