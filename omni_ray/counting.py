"""Counting samples in the three formats of training data: lines, CSV records, JSON array entries.

Each counter streams: one chunk in memory at a time, whatever the length of a line, and whatever the file's size. Each
is exact for every way in which chunk borders can fall, and refuses a file that is not what it should be.
"""

import csv
from collections.abc import Iterator
from typing import BinaryIO, NoReturn

import numpy as np
import numpy.typing as npt

from omni_ray.errors import DataError

CHUNK_BYTES = 1 << 20  # with its masks this stays in a cache, and the interpreter is not what limits
HEADER_BYTES = 1 << 12  # a header line is far shorter

Bytes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Words = npt.NDArray[np.uint64]
Positions = npt.NDArray[np.intp]

_NEWLINE, _RETURN, _QUOTE, _COMMA, _BACKSLASH = b'\n\r",\\'
_SHIFTS = tuple(np.uint64(1 << power) for power in range(6))
_TOP = np.uint64(63)
_JSON_SPACE = b" \t\r\n"
_BOMS = (
    (b"\xef\xbb\xbf", "a UTF-8 byte order mark"),
    (b"\xff\xfe", "a UTF-16 byte order mark"),
    (b"\xfe\xff", "a UTF-16 byte order mark"),
)


def count_lines(stream: BinaryIO, name: str, chunk_bytes: int = CHUNK_BYTES) -> int:
    r"""The lines that hold something, as a trainer reads them: split at `\n`, one `\r` before it taken off.

    Raises:
        DataError: naming `name`, where the file is empty, begins with a byte order mark or holds empty lines only.
    """
    lines = 0
    for window in _windows(stream, _begin(stream, name), chunk_bytes):
        data = np.frombuffer(window, np.uint8)
        newline = data == _NEWLINE
        lines += int(np.count_nonzero(newline[1:-1])) - _blank(window, data, newline)
    if not lines:
        raise DataError(f"{name}: holds empty lines only; prepare the data again")
    return lines


def count_csv_records(stream: BinaryIO, name: str, header: str, chunk_bytes: int = CHUNK_BYTES) -> int:
    r"""The records of an RFC 4180 CSV below its header; quoted fields may hold newlines, empty lines are no records.

    A quote opens a field only at its beginning and closes it only at its end, so that a newline lies in a field
    exactly where an odd number of quotes precedes it. What breaks that rule is refused, as it has no exact count.

    Raises:
        DataError: naming `name`, where the file is empty, begins with a byte order mark, has another header than
            `header` ("wav,text"), has no record, has a stray quote or carriage return, or ends inside a field.
    """
    line = _begin(stream, name) + stream.readline(HEADER_BYTES)
    found = next(csv.reader([line.decode("utf-8", "replace").rstrip("\r\n")]), [])
    if found != header.split(","):
        raise DataError(f"{name}: begins with {','.join(found)[:80]!r}; the first line must be the header {header!r}")
    counter = _CsvRecords(name)
    for window in _windows(stream, b"", chunk_bytes):
        counter.feed(window)
    return counter.finish()


def count_json_entries(stream: BinaryIO, name: str, chunk_bytes: int = CHUNK_BYTES) -> int:
    """The entries of one JSON array of objects.

    Brackets, strings and what stands between entries are checked; what is inside an entry is left to its reader.

    Raises:
        DataError: naming `name`, where the file is empty, begins with a byte order mark, is cut off, is not an array,
            has an entry that is no object, or holds no entry.
    """
    counter = _JsonEntries(name)
    chunk = _begin(stream, name)
    while chunk:
        counter.feed(chunk)
        chunk = stream.read(chunk_bytes)
    return counter.finish()


def _begin(stream: BinaryIO, name: str) -> bytes:
    """The first bytes of a file, after a look for what no data file begins with."""
    first = stream.read(3)
    if not first:
        raise DataError(f"{name}: is empty; prepare the data again, or remove the file")
    for mark, what in _BOMS:
        if first.startswith(mark):
            raise DataError(f"{name}: begins with {what}; write it again as UTF-8 without one")
    return first


def _windows(stream: BinaryIO, begun: bytes, chunk_bytes: int) -> Iterator[bytes]:
    r"""Cut a stream into windows of one byte that was seen, the bytes to look at, and one byte that is next.

    The file counts as following a newline; an unterminated last line is given its newline.
    """
    held = b"\n" + begun
    while chunk := stream.read(chunk_bytes):
        window = held + chunk
        if len(window) > 2:
            yield window
        held = window[-2:]
    if len(held) > 1:
        yield held + (b"\n" if held.endswith(b"\n") else b"\n\n")


def _blank(window: bytes, data: Bytes, newline: Mask) -> int:
    r"""How many line ends of a window end an empty line: `\n` after `\n`, or `\r\n` after `\n`."""
    blank = np.count_nonzero(newline[1:-1] & newline[:-2])
    if b"\r" in window:
        blank += np.count_nonzero((data[1:-1] == _RETURN) & newline[:-2] & newline[2:])
    return int(blank)


def _bits(mask: Mask) -> Words:
    """A mask as bits, the first byte's in the lowest bit of the first word; padded with zeros to whole words."""
    packed = np.packbits(mask, bitorder="little")
    if packed.size % 8:
        packed = np.concatenate((packed, np.zeros(-packed.size % 8, np.uint8)))
    return packed.view("<u8")


def _positions(bits: Words) -> Positions:
    return np.flatnonzero(np.unpackbits(bits.view(np.uint8), bitorder="little").view(np.bool_))


def _inside(quotes: Words, inside: bool) -> tuple[Words, bool]:
    """Which bytes lie behind an odd number of quotes, their own included, and whether the next one will.

    A prefix sum modulo two: within words by doubling shifts, over words by one scan (Langdale and Lemire,
    arXiv 1902.08318, section 3.1.1).
    """
    parity = quotes.copy()
    for shift in _SHIFTS:
        parity ^= parity << shift
    ends = np.bitwise_xor.accumulate(parity >> _TOP) ^ np.uint64(inside)
    parity[1:] ^= np.negative(ends[:-1])
    if inside:
        parity[0] = ~parity[0]
    return parity, bool(ends[-1])


class _CsvRecords:
    """The state between two windows: the records so far, and whether a quoted field is open."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._records = 0
        self._quoted = False

    def feed(self, window: bytes) -> None:
        data = np.frombuffer(window, np.uint8)
        newline = data == _NEWLINE
        returns = b"\r" in window
        if b'"' not in window:
            if self._quoted:
                return
            if returns:
                self._check_returns(_bits((data[1:-1] == _RETURN) & ~newline[2:]))
            self._records += int(np.count_nonzero(newline[1:-1])) - _blank(window, data, newline)
            return
        quote = data == _QUOTE
        border = newline | quote | (data == _COMMA)
        quotes = _bits(quote[1:-1])
        inside, self._quoted = _inside(quotes, self._quoted)
        ends = _bits(newline[1:-1] & ~newline[:-2]) & ~inside
        if returns:
            carriage = data == _RETURN
            border_after = (border | carriage)[2:]
            self._check_returns(_bits(carriage[1:-1] & ~newline[2:]) & ~inside)
            self._records -= _count(_bits(carriage[1:-1] & newline[:-2]) & ~inside)  # ends an empty line
        else:
            border_after = border[2:]
        stray = quotes & ((inside & ~_bits(border[:-2])) | (~inside & ~_bits(border_after)))
        if stray.any():
            self._records += _count_before(ends, stray)
            self._fail("has a quote inside a field; RFC 4180 puts such a field in quotes and doubles the quote")
        self._records += _count(ends)

    def finish(self) -> int:
        if self._quoted:
            self._fail("ends inside a quoted field: the file is cut off")
        if not self._records:
            raise DataError(f"{self._name}: holds its header and no record; prepare the data again")
        return self._records

    def _check_returns(self, stray: Words) -> None:
        if stray.any():
            self._fail("or one soon after it has a carriage return without a newline; end lines with a newline")

    def _fail(self, what: str) -> NoReturn:
        raise DataError(f"{self._name}: record {self._records + 1:,} {what}")


def _count(bits: Words) -> int:
    return int(np.bitwise_count(bits).sum())


def _count_before(bits: Words, mark: Words) -> int:
    """How many bits are set below the first one of `mark`."""
    return int(np.searchsorted(_positions(bits), _positions(mark)[0]))


class _JsonEntries:
    """The state between two chunks: how deep in brackets, in a string or not, and what was seen between entries."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._entries = 0
        self._depth = 0  # 1 in the array, 2 and more in an entry
        self._begun = False
        self._in_string = False
        self._escaped = False  # the next byte follows a backslash that escapes it
        self._between = b""  # since the last entry, without white space

    def feed(self, chunk: bytes) -> None:
        data = np.frombuffer(chunk, np.uint8)
        inside, self._in_string = _inside(_bits(self._quotes(chunk, data)), self._in_string)
        folded = data | np.uint8(0x20)  # makes [ and ] into { and }, and nothing else
        brackets = _positions(_bits((folded == 0x7B) | (folded == 0x7D)) & ~inside)
        step = np.where(folded[brackets] == 0x7B, 1, -1)
        depth = np.cumsum(step) + self._depth
        self._check_array(data, brackets, step, depth)
        opened = brackets[(step == 1) & (depth == 2)]
        closed = brackets[(step == -1) & (depth == 1)]
        if np.any(data[opened] != ord("{")):
            self._fail("is not an object")
        if np.any(data[closed] != ord("}")):
            self._fail("has brackets that do not fit")
        if self._depth < 2:  # the bytes up to the first entry are between entries too
            closed = np.concatenate(([-1], closed))
        self._check_between(chunk, data, opened, closed)
        if depth.size:
            self._depth = int(depth[-1])

    def finish(self) -> int:
        if self._depth or self._in_string:
            self._fail("is not whole: the file is cut off")
        if not self._entries:
            raise DataError(f"{self._name}: holds no entry; prepare the data again")
        return self._entries

    def _quotes(self, chunk: bytes, data: Bytes) -> Mask:
        """Where strings begin and end: quotes that no odd run of backslashes precedes."""
        quote: Mask = data == _QUOTE
        if self._escaped:
            quote[0] = False
        slash = data == _BACKSLASH
        if self._escaped or np.any(slash[1:] & slash[:-1]):
            self._escaped = self._drop_escaped(quote, np.flatnonzero(slash))
        else:
            quote[1:] &= ~slash[:-1]
            self._escaped = bool(slash[-1])
        return quote

    def _drop_escaped(self, quote: Mask, slashes: Positions) -> bool:
        """Clear the quotes behind odd runs of backslashes; whether the next chunk's first byte is behind one."""
        if not slashes.size:
            return False
        first = np.flatnonzero(np.diff(slashes, prepend=-2) != 1)  # of each run, as an index into `slashes`
        length = np.diff(first, append=slashes.size)
        following = slashes[first] + length
        if self._escaped and slashes[0] == 0:
            length[0] -= 1
        escaped = following[length & 1 == 1]
        beyond = bool(escaped.size and escaped[-1] == quote.size)
        quote[escaped[: escaped.size - beyond]] = False
        return beyond

    def _check_array(self, data: Bytes, brackets: Positions, step: Positions, depth: Positions) -> None:
        roots = brackets[(step == 1) & (depth == 1)]
        if not roots.size and not np.any(depth < 0):
            return
        if self._begun or roots.size > 1 or np.any(depth < 0):
            raise DataError(f"{self._name}: goes on after the end of its array; one array of objects is allowed")
        self._begun = True
        if data[roots[0]] != ord("["):
            raise DataError(f"{self._name}: is a JSON object; one array of objects is allowed: [{{...}}, ...]")

    def _check_between(self, chunk: bytes, data: Bytes, opened: Positions, closed: Positions) -> None:
        """What stands between entries must be one comma and white space, `[` before the first, `]` after the last."""
        if opened.size:
            self._extend(chunk[closed[0] + 1 : opened[0]] if closed.size else b"")
            if self._between != (b"," if self._entries else b"["):
                self._fail("is not set off by one comma")
            starts, ends = closed[1 : opened.size] + 1, opened[1:]
            lengths = ends - starts
            for length in np.unique(lengths) if np.any(lengths != lengths[:1]) else lengths[:1]:
                self._check_gaps(data, starts[lengths == length], int(length))
            self._entries += opened.size
            self._between = b""
        if closed.size > opened.size:
            self._extend(chunk[closed[-1] + 1 :])

    def _check_gaps(self, data: Bytes, starts: Positions, length: int) -> None:
        gaps = data[starts[:, None] + np.arange(length)]  # [gap, byte]
        if length and not np.any(gaps != gaps[0]):
            gaps = gaps[:1]
        commas = gaps == _COMMA
        space = (gaps == 0x20) | (gaps == 0x0A) | (gaps == 0x09) | (gaps == 0x0D)
        if not (np.all(commas | space) and np.all(np.count_nonzero(commas, axis=1) == 1)):
            self._fail("or one soon after it is not set off by one comma")

    def _extend(self, part: bytes) -> None:
        self._between += part.translate(None, _JSON_SPACE)
        begun = self._entries > 0
        if self._between not in ((b"", b",", b"]") if begun else (b"", b"[", b"[]")):
            if not begun and not self._between.startswith(b"["):
                raise DataError(f"{self._name}: is not a JSON array; one array of objects is allowed: [{{...}}, ...]")
            self._fail("is not an object set off by one comma")

    def _fail(self, what: str) -> NoReturn:
        raise DataError(f"{self._name}: entry {self._entries + 1:,} {what}; prepare the data again")
