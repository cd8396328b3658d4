"""Cuts of files whose content nobody has to look at."""

from collections.abc import Iterator

from omni_ray.catalog import Source
from omni_ray.prepare.readers.layout import layout_of
from omni_ray.prepare.records import Cut, Cuts, InputFile


def plan_cuts(source: Source, file: InputFile) -> Cuts | None:
    """The cuts of `file`, in order; None where `index_file` must find them.

    Raises:
        NotInThisVersion: for a compression that is not read.
        CatalogError: for a table whose format the name does not tell.
    """
    layout = layout_of(source, file)
    if layout.indexed:
        return None
    if layout.format == "document":
        return [Cut("whole", 0, file.size, weight=file.size)]
    return ByteCuts(file.size, source.block_bytes)


class ByteCuts:
    """Slices of `block_bytes` of a stream of `size` bytes."""

    def __init__(self, size: int, block_bytes: int, member: str = "") -> None:
        self._size = size
        self._block_bytes = block_bytes
        self._member = member

    def __len__(self) -> int:
        return -(-self._size // self._block_bytes)

    def __iter__(self) -> Iterator[Cut]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Cut:
        if not 0 <= index < len(self):
            raise IndexError(index)
        start = index * self._block_bytes
        stop = min(start + self._block_bytes, self._size)
        return Cut("bytes", start, stop, self._member, stop - start)
