"""Opening the content of a file: plain, or gzip that can be read from the middle by its seek points."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from omni_ray.catalog import Source
from omni_ray.prepare.readers.gzips import Checksum, Gzip
from omni_ray.prepare.readers.layout import layout_of
from omni_ray.prepare.readers.streams import Layer, Stream
from omni_ray.prepare.records import InputFile
from omni_ray.prepare.sources import check_unchanged, source_file

Observe = Callable[[bytes], None]


def unobserved(_data: bytes) -> None:
    """For a caller that does not care what was read."""


class Content(Layer):
    """The (decompressed) content of a file; tells `observe` every byte that is read."""

    def __init__(self, stream: Stream, observe: Observe) -> None:
        super().__init__()
        self._stream = stream
        self._observe = observe

    def seek_points(self) -> bytes:
        """The gzip seek points found so far; b"" for a stream that is not gzip."""
        return self._stream.seek_points() if isinstance(self._stream, Gzip) else b""

    def checksum(self) -> Checksum:
        """Of what was read so far of a gzip stream that is checked; of nothing for any other."""
        found = self._stream.checksum if isinstance(self._stream, Gzip) else None
        return found or Checksum(0, 0)

    def _length(self) -> int:
        return self._stream.seek(0, io.SEEK_END)

    def _read_at(self, at: int, size: int) -> bytes:
        if self._stream.tell() != at:
            self._stream.seek(at)
        data = self._stream.read(size)
        self._observe(data)
        return data


@contextmanager
def opened(
    source: Source,
    file: InputFile,
    seek_points: bytes = b"",
    observe: Observe = unobserved,
    checksum: Checksum | None = None,
    region: tuple[int, int] = (0, 0),
) -> Iterator[Content]:
    """The (decompressed) content of a file.

    Args:
        region: from and to where the content is sure to be read, where it is not compressed.
        checksum: of what was read before, where a gzip stream is to be checked as a whole.

    Raises:
        DataError: where the file is no longer the one that was planned.
    """
    check_unchanged(source, file)
    gzipped = layout_of(source, file).gzipped
    path = source_file(source, file, (0, 0) if gzipped else region)
    with Gzip(path, seek_points, checksum) if gzipped else path.open("rb") as stream:
        yield Content(stream, observe)
