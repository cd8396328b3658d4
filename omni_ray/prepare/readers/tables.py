"""Tables that are read through: CSV and JSON arrays. Each gives its record boundaries and reads from any of them."""

import codecs
import csv
import json
import re
from collections.abc import Iterator
from typing import NamedTuple

from omni_ray.prepare.readers.lines import JsonLines, without_bom
from omni_ray.prepare.readers.parquet import open_parquet
from omni_ray.prepare.readers.steps import Step, Task
from omni_ray.prepare.readers.streams import MAX_RECORD_BYTES, MIB, Damaged, Stream
from omni_ray.prepare.records import Bad, Raw

_READ = 256 << 10
_TOKENS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{},"]', re.DOTALL)
_IN_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_SPACE = b" \t\r\n"


class _TooLarge(Exception):
    """A record of more bytes than can be held."""


class _Unclosed(Exception):
    """A quoted cell that goes on up to the end of the file."""


Cells = list[str] | csv.Error | UnicodeDecodeError | _TooLarge | _Unclosed


class _Lines:
    """Lines of a byte stream for csv.reader, each with its end: \\n, \\r\\n or \\r."""

    def __init__(self, stream: Stream, at: int, encoding: str) -> None:
        stream.seek(at)
        self.at = at  # behind the last line given
        self.record = at  # where the record begins to which the next line belongs
        self.asked_beyond = False
        self._stream = stream
        self._encoding = encoding
        self._ready: list[bytes] = []  # whole lines, the next one last
        self._begun: list[bytes] = []  # of a line whose end was not read yet
        self._held = 0  # bytes of it in `_begun`
        self._lost = 0  # bytes of it that are no longer held, because it is too large anyway

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        while not self._ready:
            if not self._read():
                self.asked_beyond = True
                raise StopIteration
        line = self._ready.pop()
        start = self.at
        self.at += self._lost + len(line)
        self._lost = 0
        if self.at - self.record > MAX_RECORD_BYTES:
            raise _TooLarge
        if start == 0:
            line = without_bom(line, self._encoding)
        return line.decode(self._encoding, "surrogateescape")

    def _read(self) -> bool:
        """Read on; False where nothing is left."""
        data = self._stream.read(_READ)
        if data and b"\n" not in data and b"\r" not in data and not (self._begun and self._begun[-1].endswith(b"\r")):
            self._begun.append(data)
            self._held += len(data)
            if self._held > MAX_RECORD_BYTES:
                self._lost += self._held
                self._begun, self._held = [], 0
            return True
        lines = b"".join([*self._begun, data]).splitlines(keepends=True)
        if self._lost and not lines:
            lines = [b""]
        self._begun = [lines.pop()] if data and not lines[-1].endswith(b"\n") else []
        self._held = sum(map(len, self._begun))
        self._ready = lines[::-1]
        return bool(data or lines)


def csv_records(stream: Stream, task: Task, at: int, delimiter: str) -> Iterator[tuple[int, int, Cells]]:
    """Every record from the boundary `at` on: its start, its end, its cells or what is wrong with it."""
    csv.field_size_limit(MAX_RECORD_BYTES)
    lines = _Lines(stream, at, task.source.encoding)
    reader = csv.reader(lines, delimiter=delimiter, strict=False)
    while True:
        lines.record = start = lines.at
        cells: Cells
        try:
            cells = next(reader)
        except StopIteration:
            return
        except (csv.Error, UnicodeDecodeError, _TooLarge) as error:
            cells = error
            reader = csv.reader(lines, delimiter=delimiter, strict=False)
        if lines.asked_beyond:
            cells = _Unclosed()
        if not isinstance(cells, list) or cells:  # a blank line is no record
            yield start, lines.at, cells


def csv_header(stream: Stream, task: Task, delimiter: str) -> tuple[list[str], int]:
    """Column names, and where the first record begins."""
    for _, end, cells in csv_records(stream, task, 0, delimiter):
        return (cells if isinstance(cells, list) else []), end
    return [], 0


class _Record(NamedTuple):
    """What lies between two boundaries, the second of which is `end`; None for nothing."""

    record: Raw | Bad | None
    end: int


def read_csv(stream: Stream, task: Task, stop: int, at: int, delimiter: str) -> Iterator[Step]:
    """Records in [at, stop), both record boundaries."""
    header, first = csv_header(stream, task, delimiter)
    at = max(at, first)
    needed = task.source.needed_columns()
    columns = {name: position for position, name in enumerate(header) if name in needed}
    found = csv_records(stream, task, at, delimiter)
    records = (_Record(_csv_record(task, start, len(header), columns, cells), end) for start, end, cells in found)
    yield from _steps(records, task, stop, at)


def _csv_record(task: Task, start: int, width: int, columns: dict[str, int], cells: Cells) -> Raw | Bad:
    if isinstance(cells, _TooLarge):
        return task.too_large(start)
    if isinstance(cells, _Unclosed):
        return task.bad(start, "bad_csv", "a quoted cell is not closed before the file ends")
    if isinstance(cells, UnicodeDecodeError):
        return task.bad(start, "undecodable", str(cells))
    if isinstance(cells, csv.Error):
        return task.bad(start, "bad_csv", str(cells))
    if len(cells) != width:
        return task.bad(start, "bad_csv", f"{len(cells)} cells, the header has {width}")
    value = {column: cells[position] for column, position in columns.items()}
    for column, cell in value.items():
        if not cell.isascii():
            try:
                cell.encode("utf-8")
            except UnicodeEncodeError:
                return task.bad(start, "undecodable", f"column {column} is not {task.source.encoding}")
    return task.raw(start, value)


def _steps(records: Iterator[_Record], task: Task, stop: int, at: int) -> Iterator[Step]:
    """Records from the boundary `at` to the boundary `stop`, in steps; a damage on the way is the last of them."""
    held: list[Raw | Bad] = []
    begun = at
    try:
        while at < stop and (found := next(records, None)) is not None:
            if found.record is not None:
                held.append(found.record)
            at = found.end
            if at - begun >= task.step_bytes or len(held) >= task.step_records:
                yield Step(held, at - begun, at)
                held, begun = [], at
    except Damaged as damage:
        held.append(task.bad(damage.offset, damage.reason, damage.words))
    if begun < stop:
        yield Step(held, stop - begun, stop)


def is_array(stream: Stream) -> bool:
    """Whether the first byte that is not white space is `[`; else a .json file holds JSON lines."""
    stream.seek(0)
    try:
        while head := stream.read(_READ):
            text = head.removeprefix(codecs.BOM_UTF8).lstrip(_SPACE)
            if text:
                return text[:1] == b"["
    except Damaged:
        return False  # whoever reads on comes to it
    return False


def array_elements(stream: Stream, at: int) -> Iterator[tuple[int, int, bytes | None]]:
    """Elements of a JSON array from the boundary `at` on (0, or an end given before): start, end, text; None for the
    text of one that is too large to hold.

    An end lies behind the comma, so that the next element begins there. A file that ends inside the array, or goes on
    behind it, is Damaged.
    """
    stream.seek(max(at - 1, 0))
    if at and stream.read(1) == b"]":  # the boundary is the end of the array
        _refuse_more(stream, b"", at)
        return
    scanner = _ArrayScanner(at)
    while not scanner.ended:
        data = stream.read(_READ)
        if not data:
            raise Damaged("truncated", "the file ends inside the JSON array", scanner.begun)
        yield from scanner.feed(data)
    _refuse_more(stream, scanner.rest, scanner.begun)


class _ArrayScanner:
    """Finds where the elements of a JSON array end. Holds no more than one of them, and none that is too large."""

    def __init__(self, at: int) -> None:
        self.begun = at  # where the element (or the array) begins that is looked at
        self.ended = False
        self.rest = b""  # what was read behind the end of the array
        self._held = b""  # what was read from `begun` on, or less where the element is too large
        self._scan = 0  # place in `_held` up to which it was looked at
        self._depth = 0
        self._inside = at > 0
        self._in_string = False
        self._lost = 0  # bytes of the element that are not held any more

    def feed(self, data: bytes) -> Iterator[tuple[int, int, bytes | None]]:
        """The elements that end in `data`, which is what the stream gives next."""
        self._held += data
        first = 0  # place in `_held` where the element begins
        for token in self._tokens():
            if not self._inside:
                self._inside, first = True, self._scan
                self.begun += first
            elif token in (b"[", b"{"):
                self._depth += 1
            elif self._depth and token in (b"]", b"}"):
                self._depth -= 1
            elif not self._depth and token in (b",", b"]"):
                start = self.begun
                self.begun += self._lost + self._scan - first
                whole = self.begun - 1 - start <= MAX_RECORD_BYTES
                yield start, self.begun, self._held[first : self._scan - 1] if whole else None
                first, self._lost = self._scan, 0
                if token == b"]":
                    self.ended, self.rest = True, self._held[first:]
                    return
        self._held = self._held[first:]
        self._scan -= first
        if self._lost or len(self._held) > MAX_RECORD_BYTES:
            self._lost += self._scan
            self._held, self._scan = self._held[self._scan :], 0

    def _tokens(self) -> Iterator[bytes]:
        """Brackets, braces and commas outside strings; `_scan` is behind each when it is given, and at the end of
        what was looked at in the end."""
        if self._in_string and not self._string_ended():
            return
        for token in _TOKENS.finditer(self._held, self._scan):
            self._scan = token.end()
            text = token.group()
            if text == b'"':  # a string that goes on in the next read
                self._in_string = True
                self._string_ended()
                return
            if len(text) == 1:
                yield text
        self._scan = len(self._held)

    def _string_ended(self) -> bool:
        """Look for the end of the string that `_scan` is in; what is left is nothing, or a backslash."""
        found = _IN_STRING.match(self._held, self._scan)
        self._scan = found.end() if found else self._scan
        if self._held[self._scan : self._scan + 1] != b'"':
            return False
        self._scan += 1
        self._in_string = False
        return True


def _refuse_more(stream: Stream, rest: bytes, at: int) -> None:
    """Raise Damaged where anything but white space follows the end of an array at `at`."""
    while True:
        left = rest.lstrip(_SPACE)
        if left:
            raise Damaged("corrupt", "something follows the end of the JSON array", at + len(rest) - len(left))
        at += len(rest)
        rest = stream.read(_READ)
        if not rest:
            return


def read_json(stream: Stream, task: Task, stop: int, at: int) -> Iterator[Step]:
    """Elements in [at, stop), both boundaries."""
    decode = JsonLines(task)

    def record(start: int, text: bytes | None) -> Raw | Bad | None:
        if text is None:
            return task.too_large(start)
        return decode.record(task, start, text) if text.strip(_SPACE) else None

    found = array_elements(stream, at)
    yield from _steps((_Record(record(start, text), end) for start, end, text in found), task, stop, at)


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
    except (ValueError, RecursionError):
        return None
    return frozenset(value) if isinstance(value, dict) else None
