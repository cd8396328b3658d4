"""Cuts of files whose content nobody has to look at."""

from collections.abc import Iterator

from omni_ray.catalog import Source
from omni_ray.prepare.readers.layout import layout_of
from omni_ray.prepare.records import Cut, InputFile


def plan_cuts(source: Source, file: InputFile) -> Iterator[Cut] | None:
    """The cuts of `file`, lazily and in order; None where `index_file` must find them.

    Raises:
        NotInThisVersion: for a compression that is not read.
        CatalogError: for a table whose format the name does not tell.
    """
    layout = layout_of(source, file)
    if layout.indexed:
        return None
    if layout.format == "document":
        return iter([Cut("whole", 0, file.size, weight=file.size)])
    return byte_cuts(file.size, source.block_bytes)


def byte_cuts(size: int, block_bytes: int, start: int = 0, member: str = "") -> Iterator[Cut]:
    """Slices of `block_bytes` of a stream, from `start` to `size`."""
    for at in range(start, size, block_bytes):
        stop = min(at + block_bytes, size)
        yield Cut("bytes", at, stop, member, stop - at)
