"""How many rows of a Parquet row group may be read at once, told by the headers of its pages where rows may be uneven.

A header is a Thrift struct in the compact form (PageHeader of https://github.com/apache/parquet-format).
"""

from collections.abc import Collection
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from omni_ray.prepare.readers.streams import MIB, Stream

BATCH_ROWS = 8192
BATCH_BYTES = 64 * MIB  # of a batch of rows, at most where no single row is larger
EVEN_BYTES = 256 * MIB  # a row group of so few may come in one batch, so it does not matter how uneven its rows are
PAGE_BYTES = 320 * MIB  # a page is decoded in one piece and, of a dictionary, held twice
_SHARED_PREFIXES = "DELTA_BYTE_ARRAY"  # an encoding: of each value what differs from the one before
_DICTIONARY = 2  # the kind of a page that holds the values to which others refer
_HEADER_BYTES = (8 << 10, MIB)  # most are some tens of bytes; statistics may hold whole values


class LargePage(Exception):
    """A row group that has a page which is too large to be read."""


class _Page(NamedTuple):
    kind: int
    size: int  # decoded
    stored: int
    values: int
    begin: int


def batch_rows(stream: Stream, file: pq.ParquetFile, group: int, columns: Collection[str]) -> int:
    """Rows of one batch of `columns`, so that none has much more than `BATCH_BYTES`.

    Raises:
        LargePage: where a single page has too many.
    """
    meta = file.metadata.row_group(group)
    numbers = [n for n in range(meta.num_columns) if meta.column(n).path_in_schema.split(".")[0] in columns]
    even = sum(meta.column(number).total_uncompressed_size for number in numbers) <= EVEN_BYTES
    row = largest = 0
    for number in numbers:
        chunk = meta.column(number)
        if even and _SHARED_PREFIXES not in chunk.encodings:
            row += _dictionary_bytes(stream, chunk) + chunk.total_uncompressed_size // max(1, meta.num_rows)
            continue
        page, value = _extent(stream, chunk)
        largest += page
        lists = file.schema.column(number).max_repetition_level > 0  # a row of them may go on over many pages
        row += BATCH_BYTES if lists or page > BATCH_BYTES else value
    if largest > PAGE_BYTES:
        raise LargePage(
            f"{largest // MIB} MiB in one page of each column, and {PAGE_BYTES // MIB} are read; write the file anew "
            "with fewer rows in a group"
        )
    return max(1, min(BATCH_ROWS, BATCH_BYTES // max(1, row)))


def _extent(stream: Stream, chunk: pq.ColumnChunkMetaData) -> tuple[int, int]:
    """Bytes of the largest page, and of a value in the page in which these are largest; as much as a batch may have
    where a header cannot be read. Any value of a column with a dictionary may be as large as the whole dictionary."""
    at = chunk.dictionary_page_offset or chunk.data_page_offset
    stop = at + chunk.total_compressed_size
    largest = value = dictionary = seen = 0
    while at < stop and seen < chunk.num_values:
        page = _page(stream, at)
        if page is None:
            return largest, BATCH_BYTES
        largest = max(largest, page.size)
        if page.kind == _DICTIONARY:
            dictionary = page.size
        else:
            shared = _SHARED_PREFIXES in chunk.encodings  # any value may be as large as the page
            value = max(value, page.size if shared else page.size // max(1, page.values))
        seen += page.values if page.kind != _DICTIONARY else 0
        at = page.begin + page.stored
    return largest, dictionary + value


def _dictionary_bytes(stream: Stream, chunk: pq.ColumnChunkMetaData) -> int:
    """The size of a column's dictionary page; 0 where it begins with another page."""
    page = _page(stream, chunk.dictionary_page_offset or chunk.data_page_offset)
    return page.size if page and page.kind == _DICTIONARY else 0


def _page(stream: Stream, at: int) -> _Page | None:
    """The page whose header is at a place; None where there is none."""
    for size in _HEADER_BYTES if at >= 0 else ():
        stream.seek(at)
        try:
            fields, length = _struct(stream.read(size), 0)
        except (IndexError, ValueError, RecursionError):
            continue
        about = fields.get(5, fields.get(8, {}))  # of a data page, of the first version or of the second
        numbers = (*map(fields.get, (1, 2, 3)), about.get(1, 0) if isinstance(about, dict) else None, at + length)
        if all(isinstance(number, int) and number >= 0 for number in numbers):
            return _Page._make(numbers)
    return None


def _struct(data: bytes, at: int) -> tuple[dict[int, Any], int]:
    """The whole numbers and structs of a Thrift struct by the number of their field, and where it ends.

    Raises:
        IndexError: for one that is not all there.
        ValueError: for what no page header has.
    """
    fields: dict[int, Any] = {}
    number = 0
    while head := data[at]:
        delta, kind = head >> 4, head & 15
        number, at = (number + delta, at + 1) if delta else _integer(data, at + 1)
        if kind in (4, 5, 6):
            fields[number], at = _integer(data, at)
        elif kind == 8:
            size, at = _unsigned(data, at)
            at += size
        elif kind == 12:
            fields[number], at = _struct(data, at)
        elif kind not in (1, 2):  # true and false have no more bytes
            raise ValueError(f"a field of type {kind}")
    return fields, at + 1


def _integer(data: bytes, at: int) -> tuple[int, int]:
    value, at = _unsigned(data, at)
    return (value >> 1) ^ -(value & 1), at


def _unsigned(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 64:
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            return value, at
    raise ValueError("a number of more than 64 bits")
