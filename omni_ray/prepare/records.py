"""What flows through preparation: files, indexes, blocks, raw records, and what becomes of a record."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

Unit = Literal["bytes", "aligned", "row_groups", "rows", "members", "whole"]


def storable(text: str) -> str:
    """A text without what UTF-8 cannot hold, which is shown escaped: names of other encodings, halves of surrogates."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


class InputFile(msgspec.Struct, frozen=True):
    """A file of a source at its pinned revision.

    `path` is relative to the catalog's folder for local files (always with `/`), a URI otherwise.
    `revision` is what changes when the content does: mtime in ns for local files, an ETag or a commit elsewhere.
    """

    path: str
    size: int  # bytes
    revision: str


class Cut(msgspec.Struct, frozen=True):
    """A deterministic slice of one file; one block is one cut.

    unit: what `start` and `stop` count, in the stream of `member` (of the whole file where `member` is "").
        bytes       cut blind: a record belongs to the slice in which its first byte lies
        aligned     both ends are record boundaries
        row_groups  Parquet row groups
        rows        places of rows in a Parquet file: the number of the row group, in the low 40 bits that in the group
        members     positions in the archive's table of members
        whole       the stream from its start to its end, of `stop` bytes
    """

    unit: Unit
    start: int
    stop: int
    member: str = ""
    weight: int = 0  # input bytes, for balancing work; 0 where unknown
    first_row: int = 0  # of a row_groups or rows cut: number of the first row in the file


class Cuts(Protocol):
    """The cuts of a file, in order; made when asked for where there may be millions."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Cut: ...

    def __iter__(self) -> Iterator[Cut]: ...


class Member(msgspec.Struct, frozen=True):
    """A member of an archive, in stored order, or a file of a folder, in the order of names.

    `offset` is where its content begins in the (decompressed) tar stream; for zip the position in the central
    directory; for a file of a folder its time of change in ns, or 0 and the ETag in `revision`, for an object.
    `refused` is the reason for which it is never read ("" where it is). `twins` of the same name come before it.
    """

    name: str
    offset: int
    size: int
    refused: str = ""
    revision: str = ""
    twins: int = 0

    @property
    def label(self) -> str:
        """What tells its records from those of every other member."""
        return f"{self.name}~{self.twins}" if self.twins else self.name


class IndexPart(NamedTuple):
    """What one segment of an index pass found. `cursor` is where the pass goes on; None when the file is done.

    `seek_points` is what reading gzip from the middle needs, up to here; b"" for a file that is not gzip.
    """

    cuts: list[Cut]
    members: list[Member]
    seek_points: bytes
    cursor: str | None


class Raw(NamedTuple):
    """One input record. `row` is its number, or the byte offset at which it starts in a stream that is cut by bytes.

    `data` is the encoded sound or picture; `value` are the columns beside it.
    """

    member: str
    row: int
    value: Mapping[str, Any]
    data: bytes = b""


class Bad(NamedTuple):
    """A record that cannot be used: quarantined under `reason`, with `error` in words."""

    member: str
    row: int
    reason: str
    error: str

    @classmethod
    def of(cls, member: str, row: int, told: str, about: str = "") -> "Bad":
        """What is wrong as readers keep it, `reason: words`; `about` is the file that it was found in, if another."""
        reason, _, words = told.partition(": ")
        return cls(member, row, reason, f"{about}: {words}" if about else words)


class RawBatch(NamedTuple):
    """Records in canonical order, and the cursor at which reading goes on after them (None at the block's end)."""

    records: Collection[Raw | Bad]
    read_bytes: int  # of input consumed by this batch
    cursor: str | None


class TextSample(NamedTuple):
    """A kept record: its lines, each one sample of the corpus (more than one where an over-long text was split)."""

    lines: list[str]


class MediaSample(NamedTuple):
    """A kept sound or picture: the file to be written, its text, and what the index tells of it."""

    data: bytes  # the encoded file
    suffix: str  # of its name, with the dot: `.jpg`, `.flac`
    text: str  # transcript or caption, clean
    seconds: float | None = None  # of sound
    width: int | None = None  # pixels, of the picture in `data`
    height: int | None = None


class Drop(NamedTuple):
    """A record that a rule leaves out."""

    rule: str


class Unusable(NamedTuple):
    """A record of which no sample can be made: to be quarantined under `reason`."""

    reason: str
    error: str
