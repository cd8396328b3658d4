"""Files that say what sounds and pictures are: transcripts, metadata, manifests, members of a webdataset sample."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from omni_ray.catalog import Source, template_names
from omni_ray.prepare.readers import tables
from omni_ray.prepare.readers.entries import Columns, Entry
from omni_ray.prepare.readers.formats import read_steps
from omni_ray.prepare.readers.layout import TABLES
from omni_ray.prepare.readers.lines import without_bom
from omni_ray.prepare.readers.steps import Task
from omni_ray.prepare.readers.streams import MAX_RECORD_BYTES, MIB, Damaged, Stream
from omni_ray.prepare.readers.suffixes import MEDIA_SUFFIXES, READ_SUFFIXES
from omni_ray.prepare.records import Bad, Cut, Member, Raw
from omni_ray.prepare.transforms import fields

NAME_BYTES = 1024  # at the beginning of a line that is no text: what it is about lies in these

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
            text = _text_of(line, source.encoding)
        except Damaged as damage:
            beginning = line[:NAME_BYTES].decode(source.encoding, "backslashreplace").strip("\r\n")
            yield Entry(parse(beginning).get("id", ""), row, str(damage))
            continue
        if text.strip():  # there is white space that bytes do not know
            columns = parse(text)
            yield Entry(columns["id"], row, columns)


def _text_of(line: bytes, encoding: str) -> str:
    """A line without its end. Raises Damaged for one that is no text, or too much of it."""
    if len(line) > MAX_RECORD_BYTES:
        raise Damaged("record_too_large", f"a line may have {MAX_RECORD_BYTES // MIB} MiB and this one is larger")
    try:
        return line.decode(encoding).strip("\r\n")
    except UnicodeDecodeError as error:
        raise Damaged("undecodable", str(error)) from None


def _split(stream: Stream) -> Iterator[bytes]:
    """Lines with their ends, which are any of \\n, \\r\\n and \\r; of one that is too large no more than shows it."""
    stream.seek(0)
    held = b""
    while data := stream.read(MIB):
        *lines, held = (held + data).splitlines(keepends=True)
        yield from lines
        if len(held) > MAX_RECORD_BYTES:
            held = held[:MAX_RECORD_BYTES] + held[-1:]  # which may be the first half of \r\n
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
    there = _its_media(source, wanted.lower(), group)
    found = next((one for one in there if not one.refused), None)
    if found is None:
        if not there:  # else it is a bad record already
            yield Bad(first.label, 0, "missing_file", f"the sample has no {wanted or source.modality} beside it")
        return
    value: dict[str, Any] = {"key": webdataset_name(first.name)[0]}
    names = {name.split(".")[0] for template in _templates(source) for name in template_names(template)}
    for ending in sorted(names & group.keys()):
        member = group[ending]
        if member.refused or member.size > MAX_RECORD_BYTES:
            told = member.refused or f"record_too_large: {member.size} bytes of text"
            yield Bad.of(found.label, 0, told, about=member.name)
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
    yield from media(found, [(0, value)])


def _its_media(source: Source, wanted: str, group: Mapping[str, Member]) -> list[Member]:
    """The members of a sample that may be its sound or picture, those first that can be decoded."""
    if wanted:
        return [group[wanted]] if wanted in group else []
    last = {ending: f".{ending.rpartition('.')[2]}" for ending in group}
    known = [ending for ending in group if last[ending] in MEDIA_SUFFIXES[source.modality]]
    known.sort(key=lambda ending: last[ending] not in READ_SUFFIXES[source.modality])
    return [group[ending] for ending in known]


def _templates(source: Source) -> list[str]:
    group = source.group_column()
    return [source.text_template(), source.fields.get("category", ""), f"{{{group}}}" if group else ""]
