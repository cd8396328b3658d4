"""Whether the data has the fields that the catalog names, told before any work."""

import re
from collections.abc import Sequence

from omni_ray.catalog import Source, template_names
from omni_ray.errors import CatalogError, DataError, SourceFailed
from omni_ray.prepare.readers import tables
from omni_ray.prepare.readers.archives import Archive, tar_members, zip_members
from omni_ray.prepare.readers.layout import format_of, layout_of
from omni_ray.prepare.readers.opening import Content, opened
from omni_ray.prepare.readers.steps import Task
from omni_ray.prepare.readers.streams import Damaged
from omni_ray.prepare.records import InputFile, Member

_COLUMNS = {
    "lines": frozenset({"text"}),
    "documents": frozenset({"text"}),
    "imagefolder": frozenset({"class", "name", "path"}),
    "librispeech": frozenset({"id", "text", "speaker", "chapter"}),
    "ljspeech": frozenset({"id", "raw", "text"}),
}
SHOWN = 50  # columns, in a message


def check_fields(source: Source, files: Sequence[InputFile]) -> None:
    """Look at the first file's first records; what cannot be told there is left to the readers.

    Raises:
        CatalogError: naming source, key, the column that is lacking and those that there are.
        SourceFailed: where the file cannot be opened.
    """
    for file in files:
        layout_of(source, file)
    wanted = source.needed_columns()
    there = _known_columns(source) if source.reader != "table" else _columns(source, files[0]) if files else None
    if there is None:
        return
    for column in sorted(wanted - there):
        raise CatalogError(
            f"{source.defined_in}: source {source.name!r}: {_key_of(source, column)}: "
            f"{files[0].path if files else ''} has no {column!r}; it has {', '.join(sorted(there)[:SHOWN])}"
            + (" ..." if len(there) > SHOWN else "")
        )


def _known_columns(source: Source) -> frozenset[str] | None:
    """What a reader gives beside text, sound or picture; None where only the data tell."""
    if source.reader == "files":
        return frozenset({"name", "path", *re.compile(source.pattern).groupindex}) if source.pattern else None
    return _COLUMNS.get(source.reader)


def _key_of(source: Source, column: str) -> str:
    """The key of the catalog that names a column."""
    for field, template in source.fields.items():
        if column in {name.split(".")[0] for name in template_names(template)} or column == template.split(".")[0]:
            return f"fields.{field}"
    return "group" if column == source.group else "fields.text"


def _columns(source: Source, file: InputFile) -> frozenset[str] | None:
    layout = layout_of(source, file)
    if layout.container == "folder":
        return None
    try:
        with opened(source, file) as content:
            if not layout.container:
                return tables.first_record_columns(content, Task(source), layout.format or "")
            member = _first_table(content, layout.container, source)
            if member is None:
                return None
            with Archive(content, layout.container).member(member) as stream:
                return tables.first_record_columns(stream, Task(source), format_of(source, member.name) or "")
    except Damaged:
        return None  # the run quarantines it, with its reason
    except DataError:
        return None  # it changed since it was listed; the run says so
    except OSError as error:
        raise SourceFailed(
            f"{source.defined_in}: source {source.name!r}: {file.path}: {error.strerror}; make the file readable and "
            "run the same command again"
        ) from error


def _first_table(content: Content, container: str, source: Source) -> Member | None:
    if container == "zip":
        found = (member for member in zip_members(content, source))
    else:
        found = (member for member, _ in tar_members(content, source, 0) if member is not None)
    tables = (member for member in found if format_of(source, member.name) != "media")
    return next((member for member in tables if not member.refused), None)
