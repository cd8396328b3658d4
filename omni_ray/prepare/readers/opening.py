"""Opening the content of a file: plain, or gzip that can be read from the middle by its seek points."""

import functools
import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import indexed_gzip
from indexed_gzip.indexed_gzip import CrcError

from omni_ray.catalog import Source
from omni_ray.prepare.readers.layout import layout_of
from omni_ray.prepare.readers.streams import MIB, Damaged, Stream
from omni_ray.prepare.records import InputFile
from omni_ray.prepare.sources import local_path

SEEK_SPACING = 4 * MIB
_DAMAGE = (indexed_gzip.ZranError, indexed_gzip.NotCoveredError, CrcError, EOFError, zlib.error)

Observe = Callable[[bytes], None]


def unobserved(_data: bytes) -> None:
    """For a caller that does not care what was read."""


class Content(io.RawIOBase):
    """The content of a file; tells `observe` every byte that is read, and says Damaged where gzip is broken."""

    def __init__(self, stream: Stream, observe: Observe, packed: Path | None = None) -> None:
        self._stream = stream
        self._observe = observe
        self._packed = packed

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._stream.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        try:
            return self._stream.seek(offset, whence)  # type: ignore[call-arg]
        except _DAMAGE as error:
            raise Damaged("corrupt", f"gzip: {error}", offset) from error

    def read(self, size: int = -1) -> bytes:
        at = self._stream.tell()
        try:
            data = self._stream.read(size)
        except _DAMAGE as error:
            raise Damaged("corrupt", f"gzip: {error}", at) from error
        if size and not data and self._packed is not None and not is_whole_gzip(self._packed, at):
            raise Damaged("truncated", "the gzip stream ends early", at)
        self._observe(data)
        return data

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


@contextmanager
def opened(
    source: Source, file: InputFile, seek_points: bytes = b"", observe: Observe = unobserved
) -> Iterator[Content]:
    """The (decompressed) content of a file."""
    path = local_path(source, file)
    if not layout_of(source, file).gzipped:
        with path.open("rb") as stream:
            yield Content(stream, observe)
        return
    try:
        packed = indexed_gzip.IndexedGzipFile(str(path), spacing=SEEK_SPACING)
    except _DAMAGE as error:
        raise Damaged("corrupt", f"gzip: {error}") from error
    with packed:
        if seek_points:
            packed.import_index(fileobj=io.BytesIO(seek_points))
        yield Content(packed, observe, path)


@functools.lru_cache(maxsize=64)
def is_whole_gzip(path: Path, length: int) -> bool:
    """Whether a gzip file that inflates to `length` bytes ends where it should; indexed_gzip takes a stream
    that is cut off for one that ended.

    The length in the last four bytes tells for a file of one member; a file of several is inflated once more.
    """
    with path.open("rb") as stream:
        stream.seek(-4, io.SEEK_END)
        recorded = int.from_bytes(stream.read(4), "little")
    if length & 0xFFFFFFFF == recorded:
        return True
    try:
        with gzip.open(path) as whole:
            while whole.read(MIB):
                pass
    except (EOFError, gzip.BadGzipFile, zlib.error):
        return False
    return True


def export_seek_points(content: Content) -> bytes:
    """The gzip seek points found so far; b"" for a stream that is not gzip."""
    packed = content._stream
    if not isinstance(packed, indexed_gzip.IndexedGzipFile):
        return b""
    sink = io.BytesIO()
    packed.export_index(fileobj=sink)
    return sink.getvalue()
