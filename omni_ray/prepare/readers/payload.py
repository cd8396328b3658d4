"""The sound or picture of a record of a table: bytes, `{bytes, path}`, or the path of a file beside the table."""

from collections.abc import Callable, Collection, Iterator
from pathlib import PurePosixPath

from omni_ray.catalog import Source, template_names
from omni_ray.prepare.readers.ahead import Ahead
from omni_ray.prepare.readers.shelf import Shelf
from omni_ray.prepare.readers.streams import MAX_MEDIA_BYTES, MIB, Damaged
from omni_ray.prepare.records import Bad, InputFile, Raw, storable
from omni_ray.prepare.sources import read_beside
from omni_ray.prepare.transforms import fields

_TOLD = 200
MOST_NAME_BYTES, MOST_PATH_BYTES = 255, 1024  # no file system or store has a longer name or key


class Fetched(Collection[Raw | Bad]):
    """Records that are made when they are asked for, so that a batch does not hold all of their media."""

    def __init__(
        self, make: Callable[[Collection[Raw | Bad]], Iterator[Raw | Bad]], records: Collection[Raw | Bad]
    ) -> None:
        self._make = make
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Raw | Bad]:
        return self._make(self._records)

    def __contains__(self, record: object) -> bool:
        return any(record == one for one in self)


class Payloads:
    """Brings records what is left to be found: the media that a table names, and the values that `maps` replaces."""

    def __init__(
        self, source: Source, file: InputFile, shelf: Shelf, observe: Callable[[bytes], None], ahead: Ahead | None
    ) -> None:
        self._source = source
        self._file = file
        self._shelf = shelf
        self._inside = file.path.lower().endswith((".tar", ".tar.gz", ".tgz", ".zip", "/"))
        self._ahead = ahead if not self._inside or file.path.endswith("/") else None  # an archive is one stream
        self._observe = self._ahead.heard if self._ahead else observe
        template = source.media_template() if source.reader == "table" else ""
        names = template_names(template)
        self._column = names[0].split(".") if template and template == f"{{{names[0] if names else ''}}}" else None
        self._path_of = fields.renderer(template) if template and self._column is None else None

    def all(self, records: Collection[Raw | Bad]) -> Collection[Raw | Bad]:
        """The records with their media, each of which is read when its turn comes."""
        return Fetched(self.each, records)

    def each(self, records: Collection[Raw | Bad]) -> Iterator[Raw | Bad]:
        """The records with their media, in order."""
        if self._ahead and (self._column or self._path_of):
            return self._ahead.each(self.of, records)
        return map(self.of, records)

    def of(self, raw: Raw | Bad) -> Raw | Bad:
        """The record with its media, or why there is none."""
        if isinstance(raw, Bad):
            return raw
        try:
            if self._column is not None or self._path_of is not None:
                raw = raw._replace(data=self._data(raw))
        except KeyError as error:
            why = fields.missing(error)
            return Bad(raw.member, raw.row, why.reason, why.error)
        except Damaged as damage:
            return Bad(raw.member, raw.row, damage.reason, damage.words)
        maps = {name: table for name, table in self._source.maps.items() if name in raw.value}
        if not maps:
            return raw
        mapped = {name: table.get(str(raw.value[name]), raw.value[name]) for name, table in maps.items()}
        return raw._replace(value={**raw.value, **mapped})

    def _data(self, raw: Raw) -> bytes:
        cell = fields.lookup(raw.value, self._column) if self._column else self._path_of and self._path_of(raw.value)
        if isinstance(cell, dict):
            cell = cell["bytes"] if cell.get("bytes") is not None else cell.get("path")
            if cell is None:
                raise KeyError(".".join(self._column or ()))
        if isinstance(cell, str):
            cell = self._read(raw, cell)
        if not isinstance(cell, bytes | bytearray | memoryview):
            raise Damaged("unknown_format", f"bytes, {{bytes, path}} or a path are expected, not {type(cell).__name__}")
        if len(cell) > MAX_MEDIA_BYTES:
            raise Damaged(
                "record_too_large", f"{len(cell)} bytes; a sound or picture may have {MAX_MEDIA_BYTES // MIB} MiB"
            )
        return bytes(cell)

    def _read(self, raw: Raw, path: str) -> bytes:
        if storable(path) != path:
            raise Damaged("undecodable", f"{_told(path)}: a path that holds half of a character")
        pure = PurePosixPath(path.replace("\\", "/"))
        if pure.is_absolute() or ".." in pure.parts or "\0" in path or (pure.parts and pure.parts[0].endswith(":")):
            raise Damaged("unsafe_path", f"{_told(path)}: a path in a table leads below the table's own folder")
        try:
            if len(str(pure).encode()) > MOST_PATH_BYTES or any(len(p.encode()) > MOST_NAME_BYTES for p in pure.parts):
                raise KeyError(path)
            if self._inside:
                return self._shelf.content(str(PurePosixPath(raw.member).parent / pure))
            expect = self._ahead.expect if self._ahead else lambda size: None
            data = read_beside(self._source, self._file, str(pure), MAX_MEDIA_BYTES, expect)
        except KeyError:
            raise Damaged("missing_file", f"{_told(path)}: there is no such file beside the table") from None
        self._observe(data)
        return data


def _told(path: str) -> str:
    """A path for a message, in part where it may be the sound or picture itself, written as text."""
    return path if len(path) <= _TOLD else f"{path[:_TOLD]}... ({len(path):,} characters)"
