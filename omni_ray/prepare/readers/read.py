"""Reading one cut: batches of records in canonical order, each with the cursor behind it."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial

from omni_ray.catalog import Source
from omni_ray.prepare.readers import tables
from omni_ray.prepare.readers.ahead import Ahead
from omni_ray.prepare.readers.archives import Archive, Folder
from omni_ray.prepare.readers.formats import read_steps
from omni_ray.prepare.readers.layout import SHELVES, Layout, format_of, layout_of
from omni_ray.prepare.readers.members import MemberTable
from omni_ray.prepare.readers.opening import Content, Observe, opened, unobserved
from omni_ray.prepare.readers.payload import Payloads
from omni_ray.prepare.readers.shelf import Shelf
from omni_ray.prepare.readers.steps import Step, Task
from omni_ray.prepare.readers.streams import CHUNK_BYTES, Damaged, Stream, read_fully
from omni_ray.prepare.records import Bad, Cut, InputFile, Member, Raw, RawBatch
from omni_ray.prepare.sources import check_unchanged, is_remote, open_member


def read_cut(
    source: Source,
    file: InputFile,
    cut: Cut,
    members: Sequence[Member],
    seek_points: bytes,
    cursor: str | None,
    observe: Observe = unobserved,
    step_bytes: int = CHUNK_BYTES,
) -> Iterator[RawBatch]:
    """The records of a cut, from `cursor` on.

    Args:
        members: the archive's whole table of members, best as a MemberTable; empty for a file that is none.
        observe: told every byte that is read, in order.
        step_bytes: about what one batch holds.

    Raises:
        DataError: where the file is no longer the one that was planned.
    """
    position, at = (int(part) for part in cursor.split(":")) if cursor else (cut.start, -1)
    in_bytes = cut.unit in ("bytes", "aligned", "whole") and not cut.member
    region = (max(cut.start - 1, 0), cut.stop) if in_bytes else (0, 0)  # the byte before tells whether a line begins
    layout = layout_of(source, file)
    ahead = Ahead(observe) if is_remote(file) and source.modality != "text" else None
    with ExitStack() as stack:
        if layout.container == "folder":
            content: Content | None = None
            heard = ahead.heard if ahead else observe
            opener = partial(open_member, source, file)
            archive: Archive | Folder = Folder(opener, heard)
            labels_of: Archive | Folder = Folder(opener, unobserved)  # they are kept from block to block
        else:
            content = stack.enter_context(opened(source, file, seek_points, observe, region=region))
            archive = labels_of = Archive(content, layout.container)
        reading = _Reading(content, archive, source, layout, labels_of, members, step_bytes, ahead)
        if cut.unit != "members":
            batches = _batches(reading.stream(cut, at), cut.start)
        else:
            batches = reading.members(cut, position, at)
        payloads = Payloads(source, file, reading.shelf, observe, ahead) if source.modality != "text" else None
        for batch in batches:
            if content is not None:  # of a folder every file is checked when it is opened
                check_unchanged(source, file)
            yield batch._replace(records=payloads.all(batch.records)) if payloads else batch


def _batches(steps: Iterator[Step], position: int) -> Iterator[RawBatch]:
    """Steps with the cursor behind each; the last one's is None."""
    held: Step | None = None
    for step in steps:
        if held is not None:
            yield RawBatch(held.records, held.read_bytes, f"{position}:{held.at}")
        held = step
    yield RawBatch([], 0, None) if held is None else RawBatch(held.records, held.read_bytes, None)


class _Reading:
    """An open file and how it is read."""

    def __init__(
        self,
        content: Content | None,
        archive: Archive | Folder,
        source: Source,
        layout: Layout,
        labels_of: Archive | Folder,
        members: Sequence[Member],
        step_bytes: int,
        ahead: Ahead | None,
    ) -> None:
        self._content = content
        self._ahead = ahead
        self._members = MemberTable.of(members)
        self.shelf = Shelf(source, self._members, self._read, labels_of.member)
        self._source = source
        self._layout = layout
        self._step_bytes = step_bytes
        self._archive = archive

    def stream(self, cut: Cut, at: int) -> Iterator[Step]:
        """The records of a cut of one stream, from `at` on (-1: from its beginning)."""
        task = self._task("")
        if cut.member:
            member = self._members[int(cut.member)]
            with self._archive.member(member) as stream:
                yield from _steps(stream, self._task(member.label), format_of(self._source, member.name) or "", cut, at)
            return
        format_ = self._layout.format or ""
        assert self._content is not None
        yield from _steps(
            self._content, task, "jsonl" if format_ == "json" and cut.unit == "bytes" else format_, cut, at
        )

    def members(self, cut: Cut, position: int, at: int) -> Iterator[RawBatch]:
        """The records of the members of a cut, from `at` in the member at `position` on."""
        fetched = self._fetched(position, cut.stop, at)
        for number in range(position, cut.stop):
            records = next(fetched, None)
            size, most = self._members[number].size, self._task("").step_records
            steps = self._member(number, at) if records is None else _in_steps(iter(records), size, 0, most)
            for batch in _batches(steps, number):
                last = batch.cursor is None and number + 1 < cut.stop
                yield batch._replace(cursor=f"{number + 1}:-1") if last else batch
            at = -1

    def _fetched(self, position: int, stop: int, at: int) -> Iterator[list[Raw | Bad] | None]:
        """The records of the members of a remote folder, of many at once; None for one that is read when its turn
        comes."""
        if not self._ahead or self._content or self._source.reader not in SHELVES:
            return

        def records(number: int) -> list[Raw | Bad] | None:
            label = format_of(self._source, self._members[number].name) == "label"
            whole = self._source.reader == "webdataset" or not (label or (number == position and at > 0))
            return list(self.shelf.records(number)) if whole else None

        yield from self._ahead.each(records, range(position, stop))

    def _read(self, member: Member) -> bytes:
        if self._ahead:
            self._ahead.expect(member.size)
        with self._archive.member(member) as stream:
            data = read_fully(stream, member.size)
        if len(data) < member.size:
            raise Damaged("truncated", f"{len(data)} of {member.size} bytes are there")
        return data

    def _member(self, number: int, at: int) -> Iterator[Step]:
        """The records of one member of an archive, by its own format; a refused one is one bad record."""
        member = self._members[number]
        if self._source.reader in SHELVES:
            most = self._task("").step_records
            yield from _in_steps(self.shelf.records(number), member.size, max(at, 0), most)
            return
        if format_of(self._source, member.name) == "media" and not member.refused:
            return  # a table names it
        if member.refused:
            yield Step([Bad.of(member.label, 0, member.refused)], 0, 1)
            return
        task = self._task(member.label)
        format_ = format_of(self._source, member.name) or ""
        try:
            with self._archive.member(member) as stream:
                if format_ == "json" and not tables.is_array(stream):
                    format_ = "jsonl"
                yield from _steps(stream, task, format_, Cut("whole", 0, member.size), at)
        except Damaged as damage:
            yield Step([task.bad(damage.offset, damage.reason, damage.words)], 0, member.size)

    def _task(self, member: str) -> Task:
        return Task(self._source, member, self._step_bytes)


def _in_steps(records: Iterator[Raw | Bad], size: int, at: int, most: int) -> Iterator[Step]:
    """The records of one member of `size` bytes without the first `at`, `most` at a time: a manifest may give one for
    every row, and many rows may be about one file."""
    records = itertools.islice(records, at, None)
    chunk = list(itertools.islice(records, most))
    yield Step(chunk, 0 if at else size, at := at + len(chunk))
    while chunk := list(itertools.islice(records, most)):
        yield Step(chunk, 0, at := at + len(chunk))


def _steps(stream: Stream, task: Task, format_: str, cut: Cut, at: int) -> Iterator[Step]:
    """Records of a stream between two of its boundaries, from `at` on (-1: from the beginning).

    Where the stream turns out to be damaged, what was read counts, and one bad record says where it ends: that of the
    slice in which the damage lies.
    """
    try:
        yield from read_steps(stream, task, format_, cut, at)
    except Damaged as damage:
        records: list[Raw | Bad] = [task.bad(damage.offset, damage.reason, damage.words)]
        yield Step([] if cut.unit == "bytes" and damage.offset >= cut.stop else records, 0, cut.stop)
