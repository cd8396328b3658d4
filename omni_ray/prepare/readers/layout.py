"""What a file is, told by its name and the source's reader alone: container, compression, format of the records."""

import fnmatch
from pathlib import PurePosixPath
from typing import Literal, NamedTuple

from omni_ray.catalog import Source
from omni_ray.errors import CatalogError, NotInThisVersion
from omni_ray.prepare.records import InputFile

Container = Literal["", "tar", "zip"]
Format = Literal["parquet", "jsonl", "json", "csv", "tsv", "lines", "document"]

TABLES: dict[str, Format] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
}
READERS = ("table", "lines", "documents")
CUT_BLIND = ("jsonl", "lines")  # a newline ends a record wherever it stands
_UNREAD = frozenset({".bz2", ".xz", ".zst", ".lz4", ".7z", ".rar", ".br", ".tbz2", ".txz"})


class Layout(NamedTuple):
    """`format` is that of the whole file where it is no archive; members of an archive have their own."""

    container: Container
    gzipped: bool
    format: Format | None

    @property
    def indexed(self) -> bool:
        """Whether cuts are known only after the content was looked at."""
        return bool(self.container) or self.gzipped or self.format in ("parquet", "json", "csv", "tsv")


def known_reader(source: Source) -> None:
    """Refuse a reader that this version does not have.

    Raises:
        NotInThisVersion: naming source and reader.
    """
    if source.reader not in READERS:
        raise NotInThisVersion(
            f"{source.defined_in}: source {source.name!r}: reader: {source.reader!r} is not in this version; "
            f"it has {', '.join(READERS)}"
        )


def layout_of(source: Source, file: InputFile) -> Layout:
    """How `file` is read.

    Raises:
        NotInThisVersion: for a compression that is not read.
        CatalogError: for a table whose format the name does not tell.
    """
    known_reader(source)
    where = f"{source.defined_in}: source {source.name!r}: url: {file.path}"
    name = file.path.lower()
    if name.endswith(".tgz"):
        return Layout("tar", True, None)
    gzipped = name.endswith(".gz")
    name = name.removesuffix(".gz")
    suffix = PurePosixPath(name).suffix
    if suffix in _UNREAD:
        raise NotInThisVersion(f"{where}: {suffix} is not read by this version; unpack the file or compress it as .gz")
    if suffix == ".tar":
        return Layout("tar", gzipped, None)
    if suffix == ".zip" and not gzipped:
        return Layout("zip", False, None)
    format_ = format_of(source, name)
    if format_ is None:
        raise CatalogError(
            f"{where}: the name tells no table format; known are {', '.join(TABLES)}, also inside archives"
        )
    if format_ == "parquet" and gzipped:
        raise CatalogError(f"{where}: Parquet is compressed inside already; unpack the .gz")
    return Layout("", gzipped, format_)


def format_of(source: Source, name: str) -> Format | None:
    """The format of the records in a file or member; None for a table that the name does not tell."""
    if source.reader == "documents":
        return "document"
    if source.reader == "lines":
        return "lines"
    return TABLES.get(PurePosixPath(name.lower()).suffix)


def is_selected(source: Source, name: str) -> bool:
    """Whether a member of an archive holds records of `source`; directories never get here."""
    if source.members:
        return fnmatch.fnmatchcase(name, source.members) or fnmatch.fnmatchcase(name.removeprefix("./"), source.members)
    parts = PurePosixPath(name).parts
    if "__MACOSX" in parts or any(part.startswith(".") and part != ".." for part in parts):
        return False
    return format_of(source, name) is not None


def refused_name(source: Source, name: str) -> str:
    """Why a member of this name is never read ("" where it is), as `reason: words`."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or path.parts[:1] == ("",) or (path.parts and path.parts[0].endswith(":")):
        return "unsafe_member: its path is absolute"
    if ".." in path.parts:
        return "unsafe_member: its path leads out of the archive"
    if format_of(source, name) is None:
        return f"unknown_format: its name tells no table format; known are {', '.join(TABLES)}"
    return ""
