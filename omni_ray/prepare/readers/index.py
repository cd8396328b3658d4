"""The index pass: finding cuts where they cannot be made blind. Resumable; its result does not depend on stops.

A pass goes on from `cursor`, a JSON list of numbers that says how far it came and which cut is open.
"""

import json
from collections.abc import Iterator
from typing import Any

from omni_ray.catalog import Source
from omni_ray.prepare.readers import tables
from omni_ray.prepare.readers.archives import tar_members, zip_members
from omni_ray.prepare.readers.gzips import Checksum
from omni_ray.prepare.readers.layout import CUT_BLIND, Layout, format_of, layout_of
from omni_ray.prepare.readers.opening import Content, opened
from omni_ray.prepare.readers.parquet import parquet_cuts
from omni_ray.prepare.readers.plan import ByteCuts
from omni_ray.prepare.readers.steps import Task
from omni_ray.prepare.readers.streams import CHUNK_BYTES, MIB, Damaged
from omni_ray.prepare.records import Cut, IndexPart, InputFile, Member, Unit
from omni_ray.prepare.sources import Tally, changed, check_unchanged, folder_members

INDEX_SEGMENT_BYTES = 256 * MIB
FOLDER_PART = 1 << 16  # files of a folder in one part: a second or so on disk, 66 requests to S3


def index_file(
    source: Source,
    file: InputFile,
    seek_points: bytes,
    cursor: str | None,
    segment_bytes: int = INDEX_SEGMENT_BYTES,
) -> Iterator[IndexPart]:
    """Look at a file's content and yield its cuts and members, a part for about every `segment_bytes` of it."""
    if layout_of(source, file).container == "folder":
        yield from _index_folder(source, file, cursor)
        return
    *state, length, crc = json.loads(cursor) if cursor else [0, 0, 0, 0, 0, 0]
    with opened(source, file, seek_points, checksum=Checksum(length, crc)) as content:
        for part in _parts(content, source, layout_of(source, file), state, segment_bytes):
            check_unchanged(source, file)
            yield part


def _index_folder(source: Source, file: InputFile, cursor: str | None) -> Iterator[IndexPart]:
    """Files are cut as members of a zip are. The listing is compared with what was planned with at its end.

    Raises:
        DataError: where it is another one.
    """
    state: list[Any] = json.loads(cursor) if cursor else ["", 0, 0]
    last, first, weight, tally = str(state[0]), int(state[1]), int(state[2]), Tally(*state[3:])
    cuts: list[Cut] = []
    members: list[Member] = []
    for member in folder_members(source, file, last):
        if len(members) == FOLDER_PART:  # at least one more follows
            yield IndexPart(cuts, members, b"", json.dumps([last, first, weight, *tally]))
            cuts, members = [], []
        last = member.name
        members.append(member)
        tally = tally.plus(member)
        weight += _weight(source, member)
        if weight >= source.block_bytes:
            cuts.append(Cut("members", first, tally.files, weight=weight))
            first, weight = tally.files, 0
    if tally.file(file.path) != file:
        raise changed(source, file.path)
    yield IndexPart(cuts + _closed(first, tally.files, weight), members, b"", None)


def _cursor(content: Content, *state: int) -> str:
    return json.dumps([*state, *content.checksum()])


def _parts(
    content: Content, source: Source, layout: Layout, state: list[int], segment_bytes: int
) -> Iterator[IndexPart]:
    if layout.container == "zip":
        members = zip_members(content, source)
        yield IndexPart(_zip_cuts(members, source), members, b"", None)
    elif layout.container == "tar":
        yield from _index_tar(content, source, state, segment_bytes)
    elif layout.format == "parquet":
        yield IndexPart(_parquet_cuts(content, source), [], b"", None)
    else:
        yield from _index_stream(content, source, layout.format or "", state, segment_bytes)


def _index_tar(content: Content, source: Source, state: list[int], segment_bytes: int) -> Iterator[IndexPart]:
    at, count, first, weight = state  # next header, members so far, and the open group: its first member and bytes
    begun = at
    cuts: list[Cut] = []
    members: list[Member] = []
    for member, after in tar_members(content, source, at):
        if member is not None:
            members.append(member)
            count += 1
            if _is_grouped(source, member):
                weight += _weight(source, member)
                if weight >= source.block_bytes:
                    cuts.append(Cut("members", first, count, weight=weight))
                    first, weight = count, 0
            else:
                cuts += _closed(first, count - 1, weight)
                cuts += _member_cuts(source, member, count - 1)
                first, weight = count, 0
        if after is None:
            continue  # the last one
        at = after
        if at - begun >= segment_bytes:
            cursor = _cursor(content, at, count, first, weight)
            yield IndexPart(cuts, members, content.seek_points(), cursor)
            cuts, members, begun = [], [], at
    cuts += _closed(first, count, weight)
    yield IndexPart(cuts, members, content.seek_points(), None)


def _zip_cuts(members: list[Member], source: Source) -> list[Cut]:
    """Members of a zip are read from their start, so each is whole; small ones share a cut."""
    cuts: list[Cut] = []
    first, weight = 0, 0
    for position, member in enumerate(members, 1):
        weight += _weight(source, member)
        if weight >= source.block_bytes:
            cuts.append(Cut("members", first, position, weight=weight))
            first, weight = position, 0
    return cuts + _closed(first, len(members), weight)


def _weight(source: Source, member: Member) -> int:
    """Bytes that a member adds to its cut. What a table may name is read where it is named, and weighs nothing here but
    what bounds the members of a cut."""
    return 1 if source.reader == "table" and format_of(source, member.name) == "media" else member.size


def _closed(first: int, stop: int, weight: int) -> list[Cut]:
    return [Cut("members", first, stop, weight=weight)] if stop > first else []


def _is_grouped(source: Source, member: Member) -> bool:
    """Whether a tar member shares a cut with its neighbours instead of being cut by bytes."""
    blind = format_of(source, member.name) in CUT_BLIND
    return bool(member.refused) or not blind or member.size <= source.block_bytes


def _member_cuts(source: Source, member: Member, position: int) -> Iterator[Cut]:
    yield from ByteCuts(member.size, source.block_bytes, member=str(position))


def _parquet_cuts(content: Content, source: Source) -> list[Cut]:
    try:
        return parquet_cuts(content, source)
    except Damaged:
        return [Cut("whole", 0, 1)]  # reading it says what is wrong, as a quarantined record


def _index_stream(
    content: Content, source: Source, format_: str, state: list[int], segment_bytes: int
) -> Iterator[IndexPart]:
    """Cuts of one stream at record boundaries, or blind ones up to an end that only reading tells."""
    at, begun, _, _ = state
    if format_ == "json" and not tables.is_array(content):
        format_ = "jsonl"
    unit: Unit = "bytes" if format_ in CUT_BLIND else "whole" if format_ == "document" else "aligned"
    segment = at
    cuts: list[Cut] = []
    try:
        for end in _ends(content, source, format_, at):
            at = end
            if at - begun >= source.block_bytes and unit != "whole":
                cuts.append(Cut(unit, begun, at, weight=at - begun))
                begun = at
            if at - segment >= segment_bytes:
                yield IndexPart(cuts, [], content.seek_points(), _cursor(content, at, begun, 0, 0))
                cuts, segment = [], at
    except Damaged as damage:
        at = max(at, damage.offset) + 1  # so that the last cut comes to the damage, and says so
    if at > begun or unit == "whole":
        cuts.append(Cut(unit, begun, at, weight=at - begun))
    yield IndexPart(cuts, [], content.seek_points(), None)


def _ends(content: Content, source: Source, format_: str, at: int) -> Iterator[int]:
    """Offsets at which a cut may end."""
    if format_ in ("csv", "tsv"):
        task = Task(source)
        yield from (end for _, end, _ in tables.csv_records(content, task, at, tables.delimiter_of(format_)))
    elif format_ == "json":
        yield from (end for _, end, _ in tables.array_elements(content, at))
    else:
        content.seek(at)
        step = min(CHUNK_BYTES, source.block_bytes)
        while data := content.read(step):
            at += len(data)
            yield at
