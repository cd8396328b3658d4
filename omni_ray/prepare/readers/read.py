"""Reading one cut: batches of records in canonical order, each with the cursor behind it."""

from collections.abc import Iterator, Sequence

from omni_ray.catalog import Source
from omni_ray.prepare.readers import tables
from omni_ray.prepare.readers.archives import member_stream
from omni_ray.prepare.readers.documents import read_document
from omni_ray.prepare.readers.layout import format_of, layout_of
from omni_ray.prepare.readers.lines import read_slice
from omni_ray.prepare.readers.opening import Content, Observe, opened, unobserved
from omni_ray.prepare.readers.steps import Step, Task
from omni_ray.prepare.readers.streams import Damaged, Stream
from omni_ray.prepare.records import Bad, Cut, InputFile, Member, Raw, RawBatch


def read_cut(
    source: Source,
    file: InputFile,
    cut: Cut,
    members: Sequence[Member],
    seek_points: bytes,
    cursor: str | None,
    observe: Observe = unobserved,
) -> Iterator[RawBatch]:
    """The records of a cut, from `cursor` on.

    Args:
        members: the archive's whole table of members; empty for a file that is none.
        observe: told every byte that is read, in order.
    """
    position, at = (int(part) for part in cursor.split(":")) if cursor else (cut.start, -1)
    with opened(source, file, seek_points, observe) as content:
        if cut.unit != "members":
            yield from _batches(_whole(content, source, file, cut, members, at), cut.start)
            return
        for number in range(position, cut.stop):
            steps = _member(content, source, file, members[number], at)
            for batch in _batches(steps, number):
                last = batch.cursor is None and number + 1 < cut.stop
                yield batch._replace(cursor=f"{number + 1}:-1") if last else batch
            at = -1


def _batches(steps: Iterator[Step], position: int) -> Iterator[RawBatch]:
    """Steps with the cursor behind each; the last one's is None."""
    held: Step | None = None
    for step in steps:
        if held is not None:
            yield RawBatch(held.records, held.read_bytes, f"{position}:{held.at}")
        held = step
    yield RawBatch([], 0, None) if held is None else RawBatch(held.records, held.read_bytes, None)


def _whole(
    content: Content, source: Source, file: InputFile, cut: Cut, members: Sequence[Member], at: int
) -> Iterator[Step]:
    """The records of a cut of one stream."""
    layout = layout_of(source, file)
    if cut.member:
        member = members[int(cut.member)]
        with member_stream(content, layout.container, member) as stream:
            task = Task(source, member.name)
            yield from _steps(stream, task, format_of(source, member.name) or "", cut.start, cut.stop, at, cut)
        return
    format_ = layout.format or ""
    if format_ == "json" and cut.unit == "bytes":
        format_ = "jsonl"
    yield from _steps(content, Task(source), format_, cut.start, cut.stop, at, cut)


def _member(content: Content, source: Source, file: InputFile, member: Member, at: int) -> Iterator[Step]:
    """The records of one member of an archive, by its own format; a refused one is one bad record."""
    if member.refused:
        reason, _, words = member.refused.partition(": ")
        yield Step([Bad(member.name, 0, reason, words)], 0, 1)
        return
    task = Task(source, member.name)
    try:
        with member_stream(content, layout_of(source, file).container, member) as stream:
            format_ = format_of(source, member.name) or ""
            if format_ == "json" and not tables.is_array(stream):
                format_ = "jsonl"
            stop = member.size
            if format_ == "parquet":
                stop = tables.open_parquet(stream).metadata.num_row_groups
            yield from _steps(stream, task, format_, 0, stop, at, Cut("whole", 0, stop))
    except Damaged as damage:
        yield Step([task.bad(damage.offset, damage.reason, damage.words)], 0, member.size)


def _steps(stream: Stream, task: Task, format_: str, start: int, stop: int, at: int, cut: Cut) -> Iterator[Step]:
    """Records of a stream between two of its boundaries, from `at` on (-1: from the beginning).

    Where the stream turns out to be damaged, what was read counts, and one bad record says where it ends.
    """
    begun = max(at, start)
    try:
        if format_ == "document":
            yield read_document(stream, task, stop)
        elif format_ == "parquet":
            if cut.unit == "whole" and cut.stop == 1 and not task.member:
                stop = tables.open_parquet(stream).metadata.num_row_groups
            first_row = cut.first_row if begun == start else _rows_before(stream, begun)
            yield from tables.read_parquet(stream, task, stop, begun, first_row)
        elif format_ in ("csv", "tsv"):
            yield from tables.read_csv(stream, task, stop, begun, tables.delimiter_of(format_))
        elif format_ == "json":
            yield from tables.read_json(stream, task, stop, begun)
        else:
            yield from read_slice(stream, task, start, stop, None if at < 0 else at, format_)
    except Damaged as damage:
        records: list[Raw | Bad] = [task.bad(damage.offset, damage.reason, damage.words)]
        yield Step(records, 0, stop)


def _rows_before(stream: Stream, group: int) -> int:
    metadata = tables.open_parquet(stream).metadata
    return sum(metadata.row_group(number).num_rows for number in range(group))
