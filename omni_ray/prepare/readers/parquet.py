"""Parquet: row groups as cuts, rows in batches that fit in memory whatever the file says of itself."""

from collections.abc import Iterator, Sequence
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from omni_ray.prepare.readers.steps import Step, Task
from omni_ray.prepare.readers.streams import MAX_RECORD_BYTES, MIB, Damaged, Stream
from omni_ray.prepare.records import Bad, Cut, Raw

_BATCH_ROWS = 8192
_BATCH_BYTES = 64 * MIB  # of a batch of rows, at most where no single row is larger
_BUFFER_BYTES = MIB
_MAX_GROUP_ROWS = 1 << 24  # a damaged group that claims more gives one bad record instead of one a row
_ROW_BITS = 40  # a place in a cut is its row group, and the row in there in so many low bits
_DICTIONARY_PAGE = 2


def open_parquet(stream: Stream) -> pq.ParquetFile:
    """Raises Damaged for a file that is no Parquet or ends early."""
    try:
        return pq.ParquetFile(cast(IO[bytes], stream), pre_buffer=False, buffer_size=_BUFFER_BYTES)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise Damaged("truncated", f"not a whole Parquet file: {error}") from error


def row_group_cuts(stream: Stream) -> list[Cut]:
    """One cut for each row group. Raises Damaged as `open_parquet` does."""
    metadata = open_parquet(stream).metadata
    cuts, row = [], 0
    for group in range(metadata.num_row_groups):
        meta = metadata.row_group(group)
        cuts.append(Cut("row_groups", group, group + 1, weight=max(0, meta.total_byte_size), first_row=row))
        row += meta.num_rows
    return cuts


def read_parquet(stream: Stream, task: Task, groups: range | None, at: int, first_row: int) -> Iterator[Step]:
    """Rows of the row groups `groups` (None: all) from `at` on, the first of them being row `first_row` of the file.

    Rows that cannot be decoded are one bad record each.
    """
    file = open_parquet(stream)
    groups = range(file.metadata.num_row_groups) if groups is None else groups
    begun, skip = (groups.start, 0) if at < 0 else (at >> _ROW_BITS, at & ((1 << _ROW_BITS) - 1))
    for group in groups:
        meta = file.metadata.row_group(group)
        if group >= begun:
            rows = 0
            for records in _group_records(file, stream, task, group, first_row):
                rows += len(records)
                if group > begun or rows > skip:
                    size = max(0, meta.total_byte_size) * len(records) // max(rows, meta.num_rows)
                    yield Step(records, size, (group << _ROW_BITS) + rows)
        first_row += meta.num_rows


def _group_records(
    file: pq.ParquetFile, stream: Stream, task: Task, group: int, first_row: int
) -> Iterator[list[Raw | Bad]]:
    """The records of a row group, in batches that are the same every time."""
    meta = file.metadata.row_group(group)
    columns = [name for name in file.schema_arrow.names if name in task.source.needed_columns()]
    row, problem = first_row, f"row group {group} ends early"
    try:
        if columns or meta.num_rows <= _MAX_GROUP_ROWS:
            batch_rows = min(_batch_rows(stream, meta, columns), task.step_records)
            for batch in file.iter_batches(batch_rows, row_groups=[group], columns=columns, use_threads=False):
                yield _records(task, row, batch)
                row += len(batch)
    except (pa.ArrowException, OSError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        problem = f"row group {group}: {error}"
    end = first_row + meta.num_rows
    if not 0 <= end - row <= _MAX_GROUP_ROWS:
        yield [task.bad(row, "corrupt", f"{problem}; it claims {meta.num_rows} rows")]
        return
    for start in range(row, end, _BATCH_ROWS):
        yield [task.bad(one, "corrupt", problem) for one in range(start, min(start + _BATCH_ROWS, end))]


def _records(task: Task, row: int, batch: pa.RecordBatch) -> list[Raw | Bad]:
    """The rows of a batch; `row` is the number of the first."""
    if batch.nbytes <= MAX_RECORD_BYTES:
        try:
            values = cast(list[dict[str, Any]], batch.to_pylist())
        except (ValueError, OverflowError, LookupError):
            pass  # some value has no Python form; which, the rows tell one by one
        else:
            binary = _binary_columns(task, batch)
            return [_record(task, row + number, value, binary) for number, value in enumerate(values)]
    return [_single_record(task, row + number, batch.slice(number, 1)) for number in range(len(batch))]


def _single_record(task: Task, row: int, batch: pa.RecordBatch) -> Raw | Bad:
    if batch.nbytes > task.max_record_bytes:
        return task.too_large(row)
    try:
        (value,) = batch.to_pylist()
    except UnicodeDecodeError as error:
        return task.bad(row, "undecodable", f"a string column is not UTF-8: {error}")
    except (ValueError, OverflowError, LookupError) as error:
        return task.bad(row, "corrupt", str(error))
    return _record(task, row, value, _binary_columns(task, batch))


def _binary_columns(task: Task, batch: pa.RecordBatch) -> list[str]:
    media = task.source.media_template()  # that column stays bytes
    return [
        field.name
        for field in batch.schema
        if (
            pa.types.is_binary(field.type)
            or pa.types.is_large_binary(field.type)
            or pa.types.is_binary_view(field.type)
        )
        and f"{{{field.name}}}" != media
    ]


def _record(task: Task, row: int, value: dict[str, Any], binary: Sequence[str]) -> Raw | Bad:
    """Text in a column that is not marked as text is in the source's encoding."""
    for column in binary:
        if value[column] is not None:
            try:
                value[column] = value[column].decode(task.source.encoding)
            except UnicodeDecodeError as error:
                return task.bad(row, "undecodable", f"column {column}: {error}")
    return task.raw(row, value)


def _batch_rows(stream: Stream, meta: pq.RowGroupMetaData, columns: Sequence[str]) -> int:
    """Rows of one batch. Each value of a column with a dictionary may be as large as the whole dictionary."""
    row_bytes = 1
    for number in range(meta.num_columns):
        column = meta.column(number)
        if column.path_in_schema.split(".")[0] in columns:
            row_bytes += _dictionary_bytes(stream, column) + column.total_uncompressed_size // max(1, meta.num_rows)
    return max(1, min(_BATCH_ROWS, _BATCH_BYTES // max(1, row_bytes)))


def _dictionary_bytes(stream: Stream, column: pq.ColumnChunkMetaData) -> int:
    """The size of a column's dictionary page, as the page's header gives it (Thrift compact: two zigzag numbers);
    0 where it begins with another page."""
    start = column.dictionary_page_offset or column.data_page_offset
    if start < 0:
        return 0
    stream.seek(start)
    header = stream.read(16)
    kind, at = _thrift_i32(header, 0)
    size, _ = _thrift_i32(header, at)
    return max(0, size) if kind == _DICTIONARY_PAGE else 0


def _thrift_i32(data: bytes, at: int) -> tuple[int, int]:
    """A field of type i32 whose id follows that of the field before it: its value, and where the next field begins."""
    if data[at : at + 1] != b"\x15":
        return -1, at
    value, shift, at = 0, 0, at + 1
    while at < len(data) and shift < 35:
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            break
    return (value >> 1) ^ -(value & 1), at
