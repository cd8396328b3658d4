"""Records that end with a newline: plain lines and JSON lines, read from any slice of a stream.

A record belongs to the slice in which its first byte lies, so that slices cut blind give every record once.
"""

import codecs
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypedDict

import msgspec

from omni_ray.prepare.readers.steps import Step, Task
from omni_ray.prepare.readers.streams import MAX_RECORD_BYTES, STEP_RECORDS, Damaged, Stream
from omni_ray.prepare.records import Bad, Raw

_TAIL_BYTES = 64 << 10  # one read beyond the end of a slice, for its last line

Decode = Callable[[Task, int, Sequence[bytes]], list[Raw | Bad]]


class Chunk(NamedTuple):
    """Whole lines at [start, end) of the stream; `data` is None for one line that is too large to hold."""

    start: int
    end: int
    data: bytes | None


def read_slice(stream: Stream, task: Task, start: int, stop: int, at: int | None, format_: str) -> Iterator[Step]:
    """The lines whose first byte lies in [start, stop); `at` is the first line not yet read, None at the beginning."""
    newline = "\n".encode(task.source.encoding)
    if at is None:
        at = _first_line(stream, start, stop, newline)
    decode = text_lines if format_ == "lines" else JsonLines(task).decode
    for chunk in line_chunks(stream, at, stop, newline, task.step_bytes, task.step_records):
        yield Step(_decode_chunk(task, chunk, newline, decode), chunk.end - chunk.start, chunk.end)


def line_chunks(
    stream: Stream, at: int, stop: int, newline: bytes, step_bytes: int, step_lines: int = STEP_RECORDS
) -> Iterator[Chunk]:
    """Split [at, stop) and the rest of its last line into chunks of whole lines; `at` is the start of a line."""
    stream.seek(at)
    parts: list[bytes] = []  # of the line that begins at `at`
    held = 0
    skipping = False
    ahead = b""  # read already, and not looked at since the last chunk
    while at < stop:
        left = stop - at - held
        room = step_bytes - held if held < step_bytes else step_bytes
        data = _read_on(stream, ahead, min(room, left) if left > 0 else _TAIL_BYTES)
        ahead = b""
        if not data:
            if held:
                yield Chunk(at, at + held, None if skipping else b"".join(parts))
            return
        one_line = left <= 0 or skipping
        cut = (data.find(newline) if one_line else data.rfind(newline)) + 1
        if cut == 0:
            held += len(data)
            skipping = skipping or held > MAX_RECORD_BYTES
            parts = [] if skipping else [*parts, data] if len(parts) < 64 else [b"".join(parts) + data]
            continue
        few = _place_behind(data, newline, step_lines, cut)
        end = at + held + few
        yield Chunk(at, end, None if skipping else b"".join(parts) + data[:few])
        if few < cut:
            at, parts, held, skipping, ahead = end, [], 0, False, data[few:]
        else:
            at, parts, held, skipping = end, [data[cut:]], len(data) - cut, False


def _read_on(stream: Stream, ahead: bytes, size: int) -> bytes:
    """`ahead`, which was read before, and what follows it: at most `size` bytes."""
    if not ahead:
        return stream.read(size)
    try:
        return ahead + stream.read(size - len(ahead))
    except Damaged:
        return ahead  # the next read comes to the damage again


def _place_behind(data: bytes, newline: bytes, count: int, stop: int) -> int:
    """The place behind the `count`-th newline of `data`; `stop` where there are fewer before it."""
    if data.count(newline, 0, stop) <= count:
        return stop
    return len(data) - len(data.split(newline, count)[-1])


def text_lines(task: Task, start: int, lines: Sequence[bytes]) -> list[Raw | Bad]:
    """One `{"text": line}` for every line that is not blank; lines that are not in the encoding are bad."""
    try:
        texts = b"\n".join(lines).decode(task.source.encoding).split("\n")
        if len(texts) != len(lines):  # an encoding in which newline is another byte
            texts = [line.decode(task.source.encoding) for line in lines]
    except UnicodeDecodeError:
        return _text_line_by_line(task, start, lines)
    records: list[Raw | Bad] = []
    for line, text in zip(lines, texts, strict=True):
        if text and not text.isspace():
            records.append(Raw(task.member, start, {"text": text}))
        start += len(line) + 1
    return records


class JsonLines:
    """Decodes JSON objects, one a line, keeping only the columns that the source needs."""

    def __init__(self, task: Task) -> None:
        columns = task.source.needed_columns()
        encoding = task.source.encoding
        decode = msgspec.json.Decoder(TypedDict("Columns", dict.fromkeys(columns, Any), total=False)).decode  # type: ignore[operator]
        self._decode = decode if is_utf8(encoding) else lambda line: decode(line.decode(encoding))
        self._columns = columns

    def decode(self, task: Task, start: int, lines: Sequence[bytes]) -> list[Raw | Bad]:
        """The objects of the lines that are not blank."""
        records: list[Raw | Bad] = []
        member, decode = task.member, self._decode
        for line in lines:
            try:
                records.append(Raw(member, start, decode(line)))
            except (ValueError, RecursionError):
                if line and not line.isspace():
                    records.append(self.record(task, start, line))
            start += len(line) + 1
        return records

    def record(self, task: Task, row: int, line: bytes) -> Raw | Bad:
        """The object in `line`."""
        try:
            return Raw(task.member, row, self._decode(line))
        except (ValueError, RecursionError):
            return self._second_look(task, row, line)

    def _second_look(self, task: Task, row: int, line: bytes) -> Raw | Bad:
        """Python's own parser takes NaN, Infinity and lone surrogates, and says what else is wrong."""
        try:
            value = json.loads(line.decode(task.source.encoding))
        except UnicodeDecodeError as error:
            return task.bad(row, "undecodable", str(error))
        except (ValueError, RecursionError) as error:
            return task.bad(row, "bad_json", str(error))
        if not isinstance(value, dict):
            return task.bad(row, "bad_json", f"a JSON object is expected, not {type(value).__name__}")
        return task.raw(row, {column: value[column] for column in self._columns & value.keys()})


def is_utf8(encoding: str) -> bool:
    return codecs.lookup(encoding).name == "utf-8"


def without_bom(data: bytes, encoding: str) -> bytes:
    """`data`, the beginning of a stream, without a UTF-8 byte order mark."""
    return data.removeprefix(codecs.BOM_UTF8) if is_utf8(encoding) else data


def _first_line(stream: Stream, start: int, stop: int, newline: bytes) -> int:
    """The start of the first line that begins at or after `start`; `stop` where none begins before it."""
    if start == 0:
        return 0
    at = start - 1  # a newline just before the slice lets its first line begin at once
    stream.seek(at)
    while at < stop:
        data = stream.read(min(_TAIL_BYTES, stop - at))
        if not data:
            break
        found = data.find(newline)
        if found >= 0:
            return at + found + 1
        at += len(data)
    return stop


def _decode_chunk(task: Task, chunk: Chunk, newline: bytes, decode: Decode) -> list[Raw | Bad]:
    if chunk.data is None:
        return [task.too_large(chunk.start)]
    data = without_bom(chunk.data, task.source.encoding) if chunk.start == 0 else chunk.data
    start = chunk.end - len(data)
    lines = data.split(newline)
    if not lines[-1]:
        lines.pop()
    if len(data) > MAX_RECORD_BYTES:
        lines_at = zip(lines, _starts(start, lines), strict=True)
        return [record for line, at in lines_at for record in _bounded(task, at, line, decode)]
    return decode(task, start, lines)


def _bounded(task: Task, at: int, line: bytes, decode: Decode) -> list[Raw | Bad]:
    return [task.too_large(at)] if len(line) > MAX_RECORD_BYTES else decode(task, at, [line])


def _starts(start: int, lines: Sequence[bytes]) -> Iterator[int]:
    for line in lines:
        yield start
        start += len(line) + 1


def _text_line_by_line(task: Task, start: int, lines: Sequence[bytes]) -> list[Raw | Bad]:
    records: list[Raw | Bad] = []
    for row, line in zip(_starts(start, lines), lines, strict=True):
        try:
            text = line.decode(task.source.encoding)
        except UnicodeDecodeError as error:
            records.append(task.bad(row, "undecodable", str(error)))
            continue
        if text and not text.isspace():
            records.append(task.raw(row, {"text": text}))
    return records
