"""Gzip that is read from the middle by seek points, with the exact place and kind of any damage.

indexed_gzip gives random access, but takes a stream that is cut off for one that ended, does not compare checksums,
and loses what lies before a damage in the same read. So where it fails or says that the stream ends, the standard
library's inflate has the last word: `ExactGzip` gives every byte before a damage, and always the same ones.
"""

import io
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple

import indexed_gzip
from indexed_gzip.indexed_gzip import CrcError

from omni_ray.errors import OmniRayError
from omni_ray.prepare.readers.streams import MIB, Damaged, Layer, Sequential
from omni_ray.prepare.sources import S3File

SEEK_SPACING = 4 * MIB
_INDEX_FAILED = (indexed_gzip.ZranError, indexed_gzip.NotCoveredError, CrcError, EOFError, zlib.error)
_FEED = 64 << 10  # compressed bytes at a time
_END = struct.Struct("<q")  # -1 where the end is not known
_GZIP = 31  # zlib's window bits for a gzip stream with header and checksum


class ExactGzip(Sequential):
    """A gzip stream inflated from its start."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        super().__init__()

    def _begin_again(self) -> None:
        self._stream.seek(0)
        self._feed = b""
        self._inflate = zlib.decompressobj(_GZIP)
        self._last: Damaged | None = None  # what follows the last bytes before a damage

    def _next_piece(self) -> bytes:
        while self._last is None:
            if self._inflate.eof:
                if not self._find_next_member():
                    return b""
                continue
            self._feed = self._feed or self._stream.read(_FEED)
            ending = not self._feed
            if piece := self._inflate_feed():
                return piece
            if ending:
                self._last = Damaged("truncated", "the gzip stream ends early")
        raise self._last

    def _inflate_feed(self) -> bytes:
        before = self._inflate.copy()
        try:
            piece = self._inflate.decompress(self._feed, MIB)
        except zlib.error as error:
            self._last = Damaged("corrupt", f"gzip: {error}")
            return _before_error(before, self._feed)
        self._feed = self._inflate.unconsumed_tail or self._inflate.unused_data
        return piece

    def _find_next_member(self) -> bool:
        """A file may hold several gzip streams; zeros behind the last one are padding."""
        while not self._feed.strip(b"\0"):
            self._feed = self._stream.read(_FEED)
            if not self._feed:
                return False
        self._inflate = zlib.decompressobj(_GZIP)
        return True


def _before_error(inflate: "zlib._Decompress", feed: bytes) -> bytes:
    """What comes out before the byte at which inflating fails."""
    parts: list[bytes] = []
    try:
        for at in range(len(feed)):
            parts.append(inflate.decompress(feed[at : at + 1]))
    except zlib.error:
        pass
    return b"".join(parts)


class Checksum(NamedTuple):
    """CRC-32 of the first `length` bytes of a stream."""

    length: int
    crc: int


class Gzip(Layer):
    """A gzip file read at random.

    With a checksum of what was read before, the whole is checked: everything up to each place that is read goes into
    it, and at the end it is compared. The seek points tell where a checked stream ends; any other end is what
    `ExactGzip` says it is.
    """

    def __init__(self, path: Path | S3File, seek_points: bytes, checksum: Checksum | None) -> None:
        super().__init__()
        self.checksum = checksum
        self._raw = path.open("rb")
        self._remote = None if isinstance(path, Path) else path.open("rb")  # it reads paths by itself, and faster
        self._exact: ExactGzip | None = None
        self._packed: indexed_gzip.IndexedGzipFile | None = None
        self._end, self._points = _unpack(seek_points)  # `_points` counts once there is no index
        try:
            place = {"filename": str(path)} if self._remote is None else {"fileobj": self._remote}
            self._packed = indexed_gzip.IndexedGzipFile(**place, spacing=SEEK_SPACING, skip_crc_check=True)
            if self._points:
                self._packed.import_index(fileobj=io.BytesIO(self._points))
        except _INDEX_FAILED as error:
            _raise_what_may_pass(error)
            self._give_up_index()

    def close(self) -> None:
        if not self.closed:
            self._give_up_index()
            self._raw.close()
            if self._remote is not None:
                self._remote.close()
        super().close()

    def seek_points(self) -> bytes:
        """The seek points found so far, and the end of the stream where it was reached and proven."""
        return _END.pack(self._end) + self._export()

    def _export(self) -> bytes:
        if self._packed is None:
            return self._points
        sink = io.BytesIO()
        try:
            self._packed.export_index(fileobj=sink)
        except _INDEX_FAILED:
            return b""
        return sink.getvalue()

    def _read_at(self, at: int, size: int) -> bytes:
        while self.checksum is not None and self.checksum.length < at:
            if not self._indexed(self.checksum.length, min(MIB, at - self.checksum.length)):
                break
        if 0 <= self._end <= at:
            return b""
        data = self._indexed(at, size)
        if data is not None:
            return data
        if self._exact is None:
            self._exact = ExactGzip(self._raw)
        self._exact.seek(at)
        data = self._exact.read(size)
        if size and not data:
            self._end = self._exact.reached
        return data

    def _length(self) -> int:
        at = 0 if self.checksum is None else self.checksum.length
        while self._end < 0:
            at += len(self._read_at(at, MIB))
        return self._end

    def _indexed(self, at: int, size: int) -> bytes | None:
        """What indexed_gzip gives; None, and it is not asked again, where that cannot be relied on."""
        if self._packed is None:
            return None
        try:
            if self._packed.tell() != at:
                self._packed.seek(at)
            data = bytes(self._packed.read(size))
        except _INDEX_FAILED as error:
            _raise_what_may_pass(error)
            data = b""
        if data:
            self._check(at, data)
        elif size and self._is_proven(at):
            self._end = at
        elif size:
            self._give_up_index()
            return None
        return data

    def _check(self, at: int, data: bytes) -> None:
        if self.checksum is not None and at <= self.checksum.length < at + len(data):
            fresh = memoryview(data)[self.checksum.length - at :]
            self.checksum = Checksum(at + len(data), zlib.crc32(fresh, self.checksum.crc))

    def _is_proven(self, length: int) -> bool:
        """Whether everything was read and checksum and length are those at the end of the file, as they are in a
        whole file of one gzip stream."""
        if self.checksum is None or self.checksum.length != length or not length:
            return False  # nothing at all would also fit a file that ends in zeros
        self._raw.seek(-8, io.SEEK_END)
        recorded = self._raw.read(8)
        return recorded == self.checksum.crc.to_bytes(4, "little") + (length & 0xFFFFFFFF).to_bytes(4, "little")

    def _give_up_index(self) -> None:
        if self._packed is not None:
            self._points = self._export()
            self._packed.close()
            self._packed = None


def _raise_what_may_pass(error: Exception) -> None:
    """A network or a permission that failed below indexed_gzip says nothing about the file."""
    if isinstance(error.__cause__, OmniRayError):
        raise error.__cause__


def _unpack(seek_points: bytes) -> tuple[int, bytes]:
    return (*_END.unpack_from(seek_points), seek_points[_END.size :]) if seek_points else (-1, b"")
