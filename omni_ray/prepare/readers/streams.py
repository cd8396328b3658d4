"""Byte streams that the formats read from, and the words for a stream that is broken."""

import io
from typing import Protocol

MIB = 1 << 20
CHUNK_BYTES = MIB  # one read; also about what one batch of records holds
MAX_RECORD_BYTES = 8 * MIB  # a parsed record takes up to some 60 times its bytes, in a worker of 1 GB
MAX_MEDIA_BYTES = 128 * MIB  # of one sound or picture as it is published
STEP_RECORDS = 1 << 16  # about as many in one batch at most; one of a few bytes takes some 400


class Stream(Protocol):
    """Seekable bytes. `read` returns fewer bytes than asked only at the end or before a damaged place."""

    def seek(self, offset: int, whence: int = 0, /) -> int: ...

    def tell(self) -> int: ...

    def read(self, size: int = -1, /) -> bytes: ...


class Damaged(Exception):
    """The stream cannot be read from `offset` on. `reason` is that of the quarantine: truncated or corrupt."""

    def __init__(self, reason: str, words: str, offset: int = 0) -> None:
        super().__init__(f"{reason}: {words}")
        self.reason = reason
        self.words = words
        self.offset = offset


class Layer(io.RawIOBase):
    """A stream made of another one: the position is kept here, `_read_at` gives the bytes."""

    def __init__(self) -> None:
        self._at = 0

    def _read_at(self, at: int, size: int) -> bytes:
        """At most `size` bytes from `at` on (-1: all); fewer only at the end or before a damaged place."""
        raise NotImplementedError

    def _length(self) -> int:
        """For a seek from the end."""
        raise io.UnsupportedOperation("the length is known only after reading")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = 0 if whence == io.SEEK_SET else self._at if whence == io.SEEK_CUR else self._length()
        self._at = max(0, origin + offset)
        return self._at

    def read(self, size: int = -1) -> bytes:
        data = self._read_at(self._at, size)
        self._at += len(data)
        return data

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class Window(Layer):
    """A part of a stream as a stream of its own; closing it leaves the stream open."""

    def __init__(self, stream: Stream, start: int, size: int) -> None:
        super().__init__()
        self._stream, self._start, self._size = stream, start, size

    def _length(self) -> int:
        return self._size

    def _read_at(self, at: int, size: int) -> bytes:
        left = max(0, self._size - at)
        want = left if size < 0 else min(size, left)
        try:
            if self._stream.tell() != self._start + at:
                self._stream.seek(self._start + at)
            data = self._stream.read(want)
        except Damaged as damage:
            raise Damaged(damage.reason, damage.words, max(0, damage.offset - self._start)) from damage
        if want and not data:
            raise Damaged("truncated", f"the file ends {left} bytes before the member does", at)
        return data


class Sequential(Layer):
    """A stream that comes piece by piece from its start, always in the same pieces; going back begins again.

    Where a piece cannot be had, everything before it can, however the stream is read, and Damaged says where it ends.
    """

    def __init__(self) -> None:
        super().__init__()
        self._rewind()

    def _begin_again(self) -> None:
        """Make the first piece the next one. Raises Damaged where there is no beginning."""
        raise NotImplementedError

    def _next_piece(self) -> bytes:
        """The next piece; b"" at the end. Raises Damaged; its offset is not looked at."""
        raise NotImplementedError

    @property
    def reached(self) -> int:
        """How far the pieces go that were had so far."""
        return self._begin + len(self._held)

    def _rewind(self) -> None:
        self._begin, self._held = 0, b""  # the piece last given, and where it begins
        self._damage: Damaged | None = None
        self._begin_again()

    def _read_at(self, at: int, size: int) -> bytes:
        if at < self._begin:
            self._rewind()
        parts: list[bytes] = []
        want = size if size >= 0 else 1 << 62
        while want > 0:
            skip = at - self._begin
            if skip >= len(self._held):
                if not self._advance():
                    break
                continue
            part = self._held[skip : skip + want]
            parts.append(part)
            at += len(part)
            want -= len(part)
        if want > 0 and not parts and self._damage is not None:
            raise Damaged(self._damage.reason, self._damage.words, self.reached)
        return b"".join(parts)

    def _advance(self) -> bool:
        """Hold the next piece; False, and what is held stays, where there is none."""
        if self._damage is not None:
            return False
        try:
            piece = self._next_piece()
        except Damaged as damage:
            self._damage = damage
            return False
        if piece:
            self._begin, self._held = self.reached, piece
        return bool(piece)


def read_fully(stream: Stream, size: int) -> bytes:
    """`size` bytes, fewer only where the stream ends."""
    parts = []
    while size > 0 and (data := stream.read(min(size, 8 * MIB))):
        parts.append(data)
        size -= len(data)
    return b"".join(parts)
