"""What a file is, told by its name and the source's reader alone: container, compression, format of the records."""

import fnmatch
from pathlib import PurePosixPath
from typing import Literal, NamedTuple

from omni_ray.catalog import READERS, Source
from omni_ray.errors import CatalogError, NotInThisVersion
from omni_ray.prepare.readers.suffixes import is_media, suffix_of
from omni_ray.prepare.records import InputFile

Container = Literal["", "tar", "zip", "folder"]
Format = Literal["parquet", "jsonl", "json", "csv", "tsv", "lines", "document", "media", "label"]

TABLES: dict[str, Format] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
}
SHELVES = ("librispeech", "ljspeech", "imagefolder", "webdataset", "files")  # readers of folders and archives alone
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
    known = READERS[source.modality]
    if source.reader not in known:
        raise NotInThisVersion(
            f"{source.defined_in}: source {source.name!r}: reader: {source.reader!r} is not in this version for "
            f"{source.modality}; it has {', '.join(known)}"
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
    if name.endswith("/"):
        return Layout("folder", False, None)
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
    if source.reader in SHELVES:
        raise CatalogError(
            f"{where}: {source.reader} reads folders, tar, tar.gz and zip; give the folder in which the file lies, and "
            'members = "glob" where it holds more than is wanted'
        )
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
    table = TABLES.get(suffix_of(name.lower()))
    if source.modality == "text":
        return table
    if source.reader in SHELVES:
        return "media" if is_media(name, source.modality) else "label"
    return table or "media"  # whatever a table may name


def is_selected(source: Source, name: str) -> bool:
    """Whether a member of an archive holds records of `source`; directories never get here."""
    if source.members:
        plain = name.removeprefix("./")
        label = source.reader in SHELVES and source.reader != "webdataset" and _is_label(source, plain)
        return label or fnmatch.fnmatchcase(name, source.members) or fnmatch.fnmatchcase(plain, source.members)
    if _is_hidden(name):
        return False
    found = format_of(source, name)
    return _is_label(source, name) if found == "label" else found is not None or _is_packed_table(source, name)


def is_table(source: Source, name: str) -> bool:
    """Whether a member holds the rows of a `table` source, in whatever form."""
    return format_of(source, name) in TABLES.values() or _is_packed_table(source, name)


def _is_packed_table(source: Source, name: str) -> bool:
    """Whether a member is a table that is compressed by itself, which is not read inside a folder or archive."""
    suffix = suffix_of(name.lower())
    if source.reader != "table" or not (suffix == ".gz" or suffix in _UNREAD):
        return False
    return suffix_of(name.lower().removesuffix(suffix)) in TABLES


def _is_hidden(name: str) -> bool:
    if not (name.startswith(".") or "/." in name or "__MACOSX" in name):
        return False  # nearly all
    parts = PurePosixPath(name).parts
    return "__MACOSX" in parts or any(part.startswith(".") and part != ".." for part in parts)


def _is_label(source: Source, name: str) -> bool:
    """Whether a file that is no sound or picture is looked at all the same."""
    if source.reader == "librispeech":
        return name.endswith(".trans.txt")
    if source.reader == "ljspeech":
        return PurePosixPath(name).name == "metadata.csv"
    return source.reader == "webdataset" or bool(source.manifest)


def refused_name(source: Source, name: str) -> str:
    """Why a member of this name is never read ("" where it is), as `reason: words`."""
    if "\\" in name or ".." in name or ":" in name or name.startswith("/"):  # else there is nothing to look into
        path = PurePosixPath(name.replace("\\", "/"))
        if path.is_absolute() or path.parts[:1] == ("",) or (path.parts and path.parts[0].endswith(":")):
            return "unsafe_member: its path is absolute"
        if ".." in path.parts:
            return "unsafe_member: its path leads out of the archive"
    if _is_packed_table(source, name):
        return "unknown_format: a compressed table inside a folder or archive; name it by its own url, or unpack it"
    if format_of(source, name) is None:
        return f"unknown_format: its name tells no table format; known are {', '.join(TABLES)}"
    return ""
