"""Tables that are not lines: CSV, JSON arrays, Parquet. Each gives its record boundaries and reads from any of them."""

import csv
import json
import re
from collections.abc import Iterator, Sequence
from typing import IO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from omni_ray.prepare.readers.lines import JsonLines, without_bom
from omni_ray.prepare.readers.steps import Step, Task
from omni_ray.prepare.readers.streams import MAX_RECORD_BYTES, MIB, Damaged, Stream
from omni_ray.prepare.records import Bad, Raw

_READ = 256 << 10
_TOKENS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{},"]', re.DOTALL)
_SPACE = b" \t\r\n"


class _Lines:
    """Lines of a byte stream for csv.reader, with the offset behind the last one given."""

    def __init__(self, stream: Stream, at: int, encoding: str) -> None:
        stream.seek(at)
        self.at = at
        self._stream = stream
        self._encoding = encoding
        self._rest = b""

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        while (end := self._rest.find(b"\n")) < 0:
            data = self._stream.read(_READ)
            if not data:
                end = len(self._rest) - 1
                break
            self._rest += data
        line, self._rest = self._rest[: end + 1], self._rest[end + 1 :]
        if not line:
            raise StopIteration
        text = without_bom(line, self._encoding) if self.at == 0 else line
        self.at += len(line)
        return text.decode(self._encoding, "surrogateescape")


def csv_records(
    stream: Stream, task: Task, at: int, delimiter: str
) -> Iterator[tuple[int, int, list[str] | csv.Error]]:
    """Every record from the boundary `at` on: its start, its end, its cells or what is wrong with it."""
    csv.field_size_limit(MAX_RECORD_BYTES)
    lines = _Lines(stream, at, task.source.encoding)
    reader = csv.reader(lines, delimiter=delimiter, strict=False)
    while True:
        start = lines.at
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield start, lines.at, error
            reader = csv.reader(lines, delimiter=delimiter, strict=False)
            continue
        if cells:  # a blank line is no record
            yield start, lines.at, cells


def csv_header(stream: Stream, task: Task, delimiter: str) -> tuple[list[str], int]:
    """Column names, and where the first record begins."""
    for _, end, cells in csv_records(stream, task, 0, delimiter):
        return (cells if isinstance(cells, list) else []), end
    return [], 0


def read_csv(stream: Stream, task: Task, stop: int, at: int, delimiter: str) -> Iterator[Step]:
    """Records in [at, stop), both record boundaries."""
    header, first = csv_header(stream, task, delimiter)
    begun = at = max(at, first)
    records: list[Raw | Bad] = []
    if at >= stop:
        return
    for start, end, cells in csv_records(stream, task, at, delimiter):
        records.append(_csv_record(task, start, header, cells))
        at = end
        if at >= stop or at - begun >= task.step_bytes:
            yield Step(records, at - begun, at)
            records, begun = [], at
            if at >= stop:
                return
    yield Step(records, max(stop - begun, 0), stop)


def _csv_record(task: Task, start: int, header: Sequence[str], cells: list[str] | csv.Error) -> Raw | Bad:
    if isinstance(cells, csv.Error):
        return task.bad(start, "bad_csv", str(cells))
    if len(cells) != len(header):
        return task.bad(start, "bad_csv", f"{len(cells)} cells, the header has {len(header)}")
    value = dict(zip(header, cells, strict=True))
    for column in task.source.needed_columns() & value.keys():
        if not value[column].isascii():
            try:
                value[column].encode("utf-8")
            except UnicodeEncodeError:
                return task.bad(start, "undecodable", f"column {column} is not {task.source.encoding}")
    return task.raw(start, value)


def is_array(stream: Stream) -> bool:
    """Whether the first byte that is not white space is `[`; else a .json file holds JSON lines."""
    stream.seek(0)
    while head := stream.read(_READ):
        text = head.removeprefix(b"\xef\xbb\xbf").lstrip(_SPACE)
        if text:
            return text[:1] == b"["
    return False


def array_elements(stream: Stream, at: int) -> Iterator[tuple[int, int, bytes]]:
    """Elements of a JSON array from the boundary `at` on (0, or an end given before): start, end, text.

    An end lies behind the comma, so that the next element begins there. A file that ends inside the array, or an
    element too large to hold, is Damaged.
    """
    stream.seek(max(at - 1, 0))
    if at and stream.read(1) == b"]":  # the boundary is the end of the array
        return
    held, base, scan, depth = b"", at, 0, 0  # `held` begins at offset `base`, where an element (or the array) begins
    inside = at > 0
    while True:
        data = stream.read(_READ)
        if not data:
            raise Damaged("truncated", "the file ends inside the JSON array", base)
        held += data
        begun = 0
        for token in _TOKENS.finditer(held, scan):
            text = token.group()
            if text == b'"':  # a string that goes on in the next read
                break
            scan = token.end()
            if not inside:
                inside, begun = True, scan
            elif text in (b"[", b"{"):
                depth += 1
            elif depth and text in (b"]", b"}"):
                depth -= 1
            elif not depth and text in (b",", b"]"):
                yield base + begun, base + scan, held[begun : token.start()]
                begun = scan
                if text == b"]":
                    return
        held, base, scan = held[begun:], base + begun, scan - begun
        if len(held) > MAX_RECORD_BYTES:
            raise Damaged("record_too_large", "an element of the JSON array is larger than 128 MiB", base)


def read_json(stream: Stream, task: Task, stop: int, at: int) -> Iterator[Step]:
    """Elements in [at, stop), both boundaries."""
    records: list[Raw | Bad] = []
    begun = at
    decode = JsonLines(task)
    try:
        for start, end, text in array_elements(stream, at):
            if text.strip(_SPACE):
                records.append(decode.record(task, start, text))
            at = end
            if at >= stop or at - begun >= task.step_bytes:
                yield Step(records, at - begun, at)
                records, begun = [], at
                if at >= stop:
                    return
    except Damaged as damage:
        records.append(task.bad(damage.offset, damage.reason, damage.words))
    yield Step(records, max(stop - begun, 0), stop)


def read_parquet(stream: Stream, task: Task, stop: int, at: int, first_row: int) -> Iterator[Step]:
    """Rows of the row groups [at, stop); a group that cannot be decoded is one bad record for each of its rows."""
    file = open_parquet(stream)
    columns = [name for name in file.schema_arrow.names if name in task.source.needed_columns()]
    for group in range(at, stop):
        meta = file.metadata.row_group(group)
        records: list[Raw | Bad] = []
        try:
            for batch in file.iter_batches(batch_size=8192, row_groups=[group], columns=columns, use_threads=False):
                for value in _rows(batch):
                    records.append(task.raw(first_row + len(records), value))
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            rows = range(len(records), meta.num_rows)
            records += [task.bad(first_row + row, "corrupt", f"row group {group}: {error}") for row in rows]
        first_row += meta.num_rows
        yield Step(records, meta.total_byte_size, group + 1)


def open_parquet(stream: Stream) -> pq.ParquetFile:
    """Raises Damaged for a file that is no Parquet or ends early."""
    try:
        return pq.ParquetFile(cast(IO[bytes], stream), pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise Damaged("truncated", f"not a whole Parquet file: {error}") from error


def _rows(batch: pa.RecordBatch) -> list[dict[str, object]]:
    try:
        return cast(list[dict[str, object]], batch.to_pylist())
    except UnicodeDecodeError as error:
        raise pa.ArrowInvalid(f"a string column is not UTF-8: {error}") from error


def delimiter_of(format_: str) -> str:
    return "\t" if format_ == "tsv" else ","


def first_record_columns(stream: Stream, task: Task, format_: str) -> frozenset[str] | None:
    """Columns of the first records of a table; None where the head cannot tell."""
    if format_ == "parquet":
        return frozenset(open_parquet(stream).schema_arrow.names)
    if format_ in ("csv", "tsv"):
        return frozenset(csv_header(stream, task, delimiter_of(format_))[0]) or None
    stream.seek(0)
    if format_ == "json" and is_array(stream):
        text = next((text for _, _, text in array_elements(stream, 0) if text and text.strip(_SPACE)), None)
    else:
        stream.seek(0)
        head = without_bom(stream.read(4 * MIB), task.source.encoding)
        text = next((line for line in head.split(b"\n") if line.strip()), None)
    try:
        value = json.loads(text.decode(task.source.encoding)) if text else None
    except ValueError:
        return None
    return frozenset(value) if isinstance(value, dict) else None
