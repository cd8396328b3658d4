"""Files that say what sounds and pictures are: transcripts, metadata, manifests, members of a webdataset sample."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from omni_ray.catalog import Source, template_names
from omni_ray.prepare.readers.layout import MEDIA_SUFFIXES
from omni_ray.prepare.readers.lines import without_bom
from omni_ray.prepare.readers.streams import MAX_RECORD_BYTES, Damaged
from omni_ray.prepare.records import Bad, Member, Raw
from omni_ray.prepare.transforms import fields

Columns = Mapping[str, Any]
Entries = dict[str, list[tuple[int, Columns | str]]]  # by path or name: rows with columns, or `reason: what is wrong`
Parse = Callable[[Source, bytes], Entries]
Media = Callable[[Member, Sequence[tuple[int, Columns]]], Iterator[Raw | Bad]]


def transcripts(source: Source, data: bytes) -> Entries:
    """LibriSpeech: `<id> <TRANSCRIPT>`, a line a clip."""
    return _lines(source, data, lambda line: dict(zip(("id", "text"), line.split(None, 1), strict=False)))


def ljspeech(source: Source, data: bytes) -> Entries:
    """LJ Speech: `<id>|<as written>|<as spoken>`, a line a clip; where nothing is spoken out, as written."""

    def columns(line: str) -> dict[str, str]:
        name, raw, *spoken = [*line.split("|"), ""][:3]
        return {"id": name, "raw": raw, "text": spoken[0].strip() if spoken and spoken[0].strip() else raw}

    return _lines(source, data, columns)


def _lines(source: Source, data: bytes, parse: Callable[[str], dict[str, str]]) -> Entries:
    entries: Entries = {}
    for row, line in enumerate(without_bom(data, source.encoding).splitlines()):
        if not line.strip():
            continue
        try:
            columns: Columns | str = parse(line.decode(source.encoding).strip("\r\n"))
        except UnicodeDecodeError as error:
            columns = str(error)
            name = line.replace(b"|", b" ").split(None, 1)[0].decode("ascii", "backslashreplace")
        else:
            name = str(columns["id"])  # type: ignore[index]
        entries.setdefault(name, []).append((row, columns))
    return entries


def manifest_parser(name: str) -> Parse:
    """A table whose rows say, by the source's `path`, which file each is about."""
    suffix = PurePosixPath(name.lower()).suffix
    return lambda source, data: _manifest(source, data, suffix)


def _manifest(source: Source, data: bytes, suffix: str) -> Entries:
    path_of = fields.renderer(source.path)
    needed = source.needed_columns()
    entries: Entries = {}
    for row, columns in enumerate(_table(source, data, suffix)):
        try:
            if isinstance(columns, str):
                raise ValueError(columns)
            path = path_of(columns).removeprefix("./")
        except KeyError as error:
            path, columns = f"row {row}", f"missing_field: the row has no {error.args[0]}"
        except ValueError:
            path = f"row {row}"
        kept = columns if isinstance(columns, str) else {name: columns[name] for name in needed & columns.keys()}
        entries.setdefault(path, []).append((row, kept))
    return entries


def _table(source: Source, data: bytes, suffix: str) -> Iterator[Columns | str]:
    """Rows of a manifest: columns, or what is wrong with one.

    Raises:
        Damaged: where it is no table at all.
    """
    if suffix in (".parquet", ".pq"):
        try:
            yield from pq.read_table(pa.BufferReader(data)).to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise Damaged("corrupt", f"not a whole Parquet file: {error}") from error
        return
    try:
        text = without_bom(data, source.encoding).decode(source.encoding)
    except UnicodeDecodeError as error:
        raise Damaged("undecodable", str(error)) from error
    if suffix in (".jsonl", ".ndjson", ".json"):
        yield from _json_rows(text)
        return
    csv.field_size_limit(MAX_RECORD_BYTES)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if suffix == ".tsv" else ",")
    try:
        header = next(rows, [])
        for cells in rows:
            if len(cells) == len(header):
                yield dict(zip(header, cells, strict=True))
            elif cells:
                yield f"bad_csv: {len(cells)} cells, the header has {len(header)}"
    except csv.Error as error:
        raise Damaged("bad_csv", str(error)) from error


def _json_rows(text: str) -> Iterator[Columns | str]:
    whole = text.lstrip()
    try:
        rows = json.loads(whole) if whole.startswith("[") else None
    except (ValueError, RecursionError) as error:
        raise Damaged("bad_json", str(error)) from error
    for row in rows if rows is not None else (line for line in text.splitlines() if line.strip()):
        try:
            value = json.loads(row) if isinstance(row, str) else row
        except (ValueError, RecursionError) as error:
            yield f"bad_json: {error}"
            continue
        yield value if isinstance(value, dict) else "bad_json: a JSON object is expected"


def webdataset_name(name: str) -> tuple[str, str]:
    """The key of a member's sample, and its ending: what lies behind the first dot of the last part of the path."""
    folder, slash, last = name.removeprefix("./").rpartition("/")
    stem, _, ending = last.partition(".")
    return folder + slash + stem, ending.lower()


def webdataset_sample(
    source: Source, first: Member, group: Mapping[str, Member], read: Callable[[Member], bytes], media: Media
) -> Iterator[Raw | Bad]:
    """The record of a sample: its sound or picture, and those of its other members that the source names."""
    wanted = source.media_template().strip("{}")
    found = group.get(wanted.lower()) if wanted else None
    if not wanted:
        suffixes = MEDIA_SUFFIXES[source.modality]
        found = next((one for ending, one in group.items() if f".{ending.rpartition('.')[2]}" in suffixes), None)
    if found is None:
        yield Bad(first.label, 0, "missing_file", f"the sample has no {wanted or source.modality} beside it")
        return
    value: dict[str, Any] = {"key": webdataset_name(first.name)[0]}
    names = {name.split(".")[0] for template in _templates(source) for name in template_names(template)}
    for ending in sorted(names & group.keys()):
        member = group[ending]
        if member.refused or member.size > MAX_RECORD_BYTES:
            reason, _, words = (member.refused or f"record_too_large: {member.size} bytes of text").partition(": ")
            yield Bad(found.label, 0, reason, f"{member.name}: {words}")
            return
        try:
            text = read(member).decode(source.encoding)
            value[ending] = json.loads(text) if ending == "json" else text
        except Damaged as damage:
            yield Bad(found.label, 0, damage.reason, f"{member.name}: {damage.words}")
            return
        except UnicodeDecodeError as error:
            yield Bad(found.label, 0, "undecodable", f"{member.name}: {error}")
            return
        except (ValueError, RecursionError) as error:
            yield Bad(found.label, 0, "bad_json", f"{member.name}: {error}")
            return
    if found.refused:
        reason, _, words = found.refused.partition(": ")
        yield Bad(found.label, 0, reason, words)
        return
    yield from media(found, [(0, value)])


def _templates(source: Source) -> list[str]:
    group = source.group_column()
    return [source.text_template(), source.fields.get("category", ""), f"{{{group}}}" if group else ""]
