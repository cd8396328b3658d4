"""Whether the data has the fields that the catalog names, told before any work."""

from collections.abc import Sequence

from omni_ray.catalog import Source
from omni_ray.errors import CatalogError, DataError, SourceFailed
from omni_ray.prepare.readers import tables
from omni_ray.prepare.readers.archives import Archive, tar_members, zip_members
from omni_ray.prepare.readers.layout import format_of, layout_of
from omni_ray.prepare.readers.opening import Content, opened
from omni_ray.prepare.readers.steps import Task
from omni_ray.prepare.readers.streams import Damaged
from omni_ray.prepare.records import InputFile, Member

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
    there = frozenset({"text"}) if source.reader != "table" else _columns(source, files[0]) if files else None
    if there is None:
        return
    for column in sorted(wanted - there):
        raise CatalogError(
            f"{source.defined_in}: source {source.name!r}: fields.text: {files[0].path if files else ''} has no "
            f"{column!r}; it has {', '.join(sorted(there)[:SHOWN])}" + (" ..." if len(there) > SHOWN else "")
        )


def _columns(source: Source, file: InputFile) -> frozenset[str] | None:
    layout = layout_of(source, file)
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
    return next((member for member in found if not member.refused), None)
