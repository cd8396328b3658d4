"""Parquet: row groups as cuts, rows in batches that fit in memory whatever the file says of itself."""

from collections.abc import Iterator, Sequence
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from omni_ray.catalog import Source, template_names
from omni_ray.prepare.readers.pages import LargePage, batch_rows
from omni_ray.prepare.readers.steps import Step, Task
from omni_ray.prepare.readers.streams import MAX_MEDIA_BYTES, MAX_RECORD_BYTES, MIB, Damaged, Stream
from omni_ray.prepare.records import Bad, Cut, Raw

_BUFFER_BYTES = MIB
_BAD_ROWS = 8192  # of one step
_MAX_GROUP_ROWS = 1 << 24  # a damaged group that claims more gives one bad record instead of one a row
_NAMED_ROWS = 8192  # of a cut of rows that name sounds or pictures, which take a minute or so
_ROW_BITS = 40  # a place is a row group, and the row in there in so many low bits
_ROW = (1 << _ROW_BITS) - 1


def open_parquet(stream: Stream) -> pq.ParquetFile:
    """Raises Damaged for a file that is no Parquet or ends early."""
    try:
        return pq.ParquetFile(cast(IO[bytes], stream), pre_buffer=False, buffer_size=_BUFFER_BYTES)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise Damaged("truncated", f"not a whole Parquet file: {error}") from error


def parquet_cuts(stream: Stream, source: Source) -> list[Cut]:
    """A cut for each row group, or for some thousand of its rows where these only name sounds or pictures. Raises
    Damaged as `open_parquet` does."""
    file = open_parquet(stream)
    named = _names_media(file.schema_arrow, source)
    cuts: list[Cut] = []
    first_row = 0
    for group in range(file.metadata.num_row_groups):
        meta = file.metadata.row_group(group)
        size, rows = max(0, meta.total_byte_size), meta.num_rows
        if named:
            begin = group << _ROW_BITS
            starts = range(0, rows, _NAMED_ROWS) if 0 < rows <= _MAX_GROUP_ROWS else range(1)
            for row in starts:
                count, last = min(_NAMED_ROWS, rows - row), row == starts[-1]
                stop = (group + 1) << _ROW_BITS if last else begin + row + count
                cuts.append(Cut("rows", begin + row, stop, "", size * count // max(1, rows), first_row + row))
        else:
            cuts.append(Cut("row_groups", group, group + 1, weight=size, first_row=first_row))
        first_row += rows
    return cuts


def _names_media(schema: pa.Schema, source: Source) -> bool:
    """Whether the sounds or pictures of a table are files of which it has the paths."""
    template = source.media_template()
    names = template_names(template)
    if not template or template != f"{{{names[0] if names else ''}}}":
        return bool(template)  # a path that is made of columns, or a table of text
    place = schema.get_field_index(names[0])
    kind = schema.field(place).type if place >= 0 else pa.null()
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def read_parquet(stream: Stream, task: Task, cut: Cut, at: int) -> Iterator[Step]:
    """Rows of a cut from the place `at` on (-1: all of them). Rows that cannot be decoded are one bad record each."""
    file = open_parquet(stream)
    start, stop = 0, file.metadata.num_row_groups << _ROW_BITS
    if cut.unit in ("row_groups", "rows"):
        bits = _ROW_BITS if cut.unit == "row_groups" else 0
        start, stop = cut.start << bits, cut.stop << bits
    begun = max(at, start)
    first_row = cut.first_row - (start & _ROW)
    for group in range(start >> _ROW_BITS, -(-stop >> _ROW_BITS)):
        meta = file.metadata.row_group(group)
        begin = group << _ROW_BITS
        if group >= begun >> _ROW_BITS:
            wanted = range(max(0, begun - begin), min(stop - begin, 1 << _ROW_BITS))
            for done, records in _group_records(file, stream, task, group, first_row, wanted):
                size = max(0, meta.total_byte_size) * len(records) // max(done, meta.num_rows)
                yield Step(records, size, begin + done)
        first_row += meta.num_rows


def _group_records(
    file: pq.ParquetFile, stream: Stream, task: Task, group: int, first_row: int, wanted: range
) -> Iterator[tuple[int, list[Raw | Bad]]]:
    """The records of the `wanted` rows of a row group, each time with the number of the row behind them.

    The group is read from its start in any case: so the records come in the same portions wherever reading begins.
    """
    meta = file.metadata.row_group(group)
    columns = [name for name in file.schema_arrow.names if name in task.source.needed_columns()]
    done, reason, problem = 0, "corrupt", f"row group {group} ends early"
    try:
        if columns or meta.num_rows <= _MAX_GROUP_ROWS:
            rows = min(batch_rows(stream, file, group, columns), task.step_records)
            for batch in file.iter_batches(rows, row_groups=[group], columns=columns, use_threads=False):
                for portion in _portions(_without_dictionaries(batch)):
                    begun, done = done, done + len(portion)
                    if part := range(max(begun, wanted.start), min(done, wanted.stop)):
                        rows_of_it = portion.slice(part.start - begun, len(part))
                        yield part.stop, _records(task, first_row + part.start, rows_of_it)
                if done >= wanted.stop:
                    return
    except LargePage as error:
        reason, problem = "record_too_large", f"row group {group}: {error}"
    except (pa.ArrowException, OSError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        problem = f"row group {group}: {error}"
    if not 0 <= meta.num_rows - done <= _MAX_GROUP_ROWS:
        if done in wanted:
            yield done + 1, [task.bad(first_row + done, reason, f"{problem}; it claims {meta.num_rows} rows")]
        return
    rest = range(max(done, wanted.start), min(meta.num_rows, wanted.stop))
    for start in range(rest.start, rest.stop, _BAD_ROWS):
        part = range(start, min(start + _BAD_ROWS, rest.stop))
        yield part.stop, [task.bad(first_row + row, reason, problem) for row in part]


def _without_dictionaries(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Every slice of a column with a dictionary would be as large as all of that."""
    for number, column in enumerate(batch.columns):
        if pa.types.is_dictionary(column.type):
            batch = batch.set_column(number, batch.schema.names[number], column.dictionary_decode())
    return batch


def _portions(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """A batch in parts that are as small as one record may be, or one row: records take more than columns do."""
    if len(batch) < 2 or batch.nbytes <= MAX_RECORD_BYTES:
        yield batch
        return
    half = len(batch) // 2
    yield from _portions(batch.slice(0, half))
    yield from _portions(batch.slice(half))


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
    most = MAX_RECORD_BYTES if task.source.modality == "text" else MAX_MEDIA_BYTES
    if batch.nbytes > most:
        return task.too_large(row, most)
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
