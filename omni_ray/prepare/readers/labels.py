"""Files that say what sounds and pictures are: transcripts, metadata, manifests, members of a webdataset sample."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from omni_ray.catalog import Source, template_names
from omni_ray.prepare.readers import tables
from omni_ray.prepare.readers.entries import Columns, Entry
from omni_ray.prepare.readers.formats import read_steps
from omni_ray.prepare.readers.layout import MEDIA_SUFFIXES, TABLES
from omni_ray.prepare.readers.lines import without_bom
from omni_ray.prepare.readers.steps import Task
from omni_ray.prepare.readers.streams import MAX_RECORD_BYTES, MIB, Damaged, Stream
from omni_ray.prepare.records import Bad, Cut, Member, Raw
from omni_ray.prepare.transforms import fields

Parse = Callable[[Source, Stream, Member], Iterator[Entry]]  # raises Damaged
Media = Callable[[Member, Sequence[tuple[int, Columns]]], Iterator[Raw | Bad]]


def transcripts(source: Source, stream: Stream, member: Member) -> Iterator[Entry]:
    """LibriSpeech: `<id> <TRANSCRIPT>`, a line a clip."""
    return _lines(source, stream, lambda line: dict(zip(("id", "text"), line.split(None, 1), strict=False)))


def ljspeech(source: Source, stream: Stream, member: Member) -> Iterator[Entry]:
    """LJ Speech: `<id>|<as written>|<as spoken>`, a line a clip; where nothing is spoken out, as written."""

    def columns(line: str) -> dict[str, str]:
        name, raw, *spoken = [*line.split("|"), ""][:3]
        return {"id": name, "raw": raw, "text": spoken[0].strip() if spoken and spoken[0].strip() else raw}

    return _lines(source, stream, columns)


def _lines(source: Source, stream: Stream, parse: Callable[[str], dict[str, str]]) -> Iterator[Entry]:
    for row, line in enumerate(_split(stream)):
        line = without_bom(line, source.encoding) if row == 0 else line
        if not line.strip():
            continue
        try:
            text = line.decode(source.encoding).strip("\r\n")
        except UnicodeDecodeError as error:
            name = line.replace(b"|", b" ").split(None, 1)[0].decode("ascii", "backslashreplace")
            yield Entry(name, row, str(error))
            continue
        if text.strip():  # there is white space that bytes do not know
            columns = parse(text)
            yield Entry(columns["id"], row, columns)


def _split(stream: Stream) -> Iterator[bytes]:
    """Lines with their ends, which are any of \\n, \\r\\n and \\r."""
    stream.seek(0)
    held = b""
    while data := stream.read(MIB):
        *lines, held = (held + data).splitlines(keepends=True)
        yield from lines
        if len(held) > MAX_RECORD_BYTES:
            raise Damaged("record_too_large", f"a line of more than {MAX_RECORD_BYTES // MIB} MiB")
    yield held


def manifest(source: Source, stream: Stream, member: Member) -> Iterator[Entry]:
    """A table whose rows say, by the source's `path`, which file each is about."""
    path_of = fields.renderer(source.path)
    format_ = TABLES.get(PurePosixPath(member.name.lower()).suffix, "csv")
    if format_ == "json" and not tables.is_array(stream):
        format_ = "jsonl"
    steps = read_steps(stream, Task(source), format_, Cut("whole", 0, member.size))
    for row, record in enumerate(record for step in steps for record in step.records):
        if isinstance(record, Bad):
            yield Entry("", row, f"{record.reason}: {record.error}")
            continue
        try:
            yield Entry(path_of(record.value).removeprefix("./"), row, record.value)
        except KeyError as error:
            yield Entry("", row, f"missing_field: the row has no {error.args[0]}")


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
