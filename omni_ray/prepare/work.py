"""What a worker does with one task: an index pass or the decoding of a block, segment by segment.

A segment's outputs are written under temporary names, the lease is checked, they are renamed, and only then is the
receipt given back: a kill anywhere leaves either a receipt with its outputs or nothing that counts. Nothing but
`Report`s leaves this module.
"""

import functools
import gc
import random
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Literal

import msgspec

from omni_ray.catalog import Modality, Source
from omni_ray.errors import LeaseLost, OmniRayError, StorageError, Unwritten
from omni_ray.faults import stop_here
from omni_ray.lease import check_current
from omni_ray.ledger import Output, Receipt
from omni_ray.prepare import readers, store
from omni_ray.prepare.kinds import Segment, kind_of
from omni_ray.prepare.plan import file_id, output_tag
from omni_ray.prepare.readers.members import MemberTable
from omni_ray.prepare.records import Cut, InputFile, Member
from omni_ray.storage import Staged, open_storage

SEGMENT_BYTES = 64 << 20  # of input between two receipts of one block: a few seconds of work
SEGMENT_ROWS = 200_000  # the same where records are a few bytes each, of which a worker holds some 400
WAITING = b""  # in the place of a report: the task waits for the disk, and another may be begun (see `blocks`)
ATTEMPTS = 3  # for errors that can pass: network, disk, memory

_writer = ThreadPoolExecutor(1)


class Task(msgspec.Struct, frozen=True):
    """One block or index pass, from where its last receipt left it."""

    kind: Literal["index", "decode"]
    source: str
    block: str
    file: InputFile
    cut: Cut
    segment: int
    cursor: str | None
    index_segments: int  # finished segments of the file's index; 0 where the file has none
    seek_points: Output | None  # of the file's gzip stream, as far as its index came


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """A block that stays undone; `unwritten` where the output did not take what was made of it."""

    block: str
    error: str
    unwritten: bool = False


class Report(msgspec.Struct, frozen=True):
    source: str
    what: Receipt | Failed


class Work(msgspec.Struct, frozen=True):
    """What all tasks of a run share; called with an encoded Task in a worker process, gives encoded Reports."""

    out: str
    modality: Modality
    epoch: int
    sources: dict[str, store.AskedSource]
    settings: dict[str, str]  # fingerprint by source

    def __call__(self, encoded: bytes) -> Iterator[bytes]:
        task = msgspec.msgpack.decode(encoded, type=Task)
        with _collector_paused():
            for what in _attempts(self, task):
                yield WAITING if what is None else msgspec.msgpack.encode(Report(task.source, what))


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Records are many small objects without cycles; the collector would walk them again and again for nothing, which
    takes a tenth of the time of decoding text."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class _Context:
    """What the segments of one task share."""

    def __init__(self, work: Work, task: Task) -> None:
        self.work = work
        self.task = task
        bare = open_storage(work.out)
        self.storage = bare.fenced(lambda: check_current(bare, work.epoch))  # no cycle: the collector is paused
        self.source: Source = work.sources[task.source].source(self.storage)
        self.folder = store.SourceFolder(work.modality, task.source)
        self.settings = work.settings[task.source]
        self.tag = output_tag(self.settings, task.file)

    def commit(self, stem: str, data: Mapping[str, bytes], media: Mapping[str, bytes] = {}) -> dict[str, Output]:
        """Make the outputs visible, the media first; before each of them the lease is looked at.

        Raises:
            LeaseLost: the run does not hold the output any more.
            Unwritten: the storage failed.
        """
        objects, outputs = store.arrange(self.storage, stem, data)
        writers: list[Staged] = []
        try:
            if media:
                top = f"{kind_of(self.work.modality).folder}/{self.source.name}"
                writers.append(self.storage.staged_many(media, top))
            for key, content in objects.items():
                writers.append(self.storage.staged(key, content))
            stop_here("decoding" if self.task.kind == "decode" else "indexing")
            for writer in writers:
                writer.commit()
        except StorageError as error:
            raise Unwritten(str(error)) from error
        finally:
            for writer in writers:
                writer.abort()
        stop_here("committing")
        return outputs

    def receipt(
        self, segment: int, cursor: str | None, read_bytes: int, digest: str, outputs: dict[str, Output]
    ) -> Receipt:
        task = self.task
        return Receipt(
            block=task.block,
            segment=segment,
            cursor=cursor,
            settings=self.settings,
            path=task.file.path,
            size=task.file.size,
            revision=task.file.revision,
            unit=task.cut.unit,
            start=task.cut.start,
            stop=task.cut.stop,
            member=task.cut.member,
            read_bytes=read_bytes,
            read_sha256=digest,
            outputs=outputs,
        )


def _attempts(work: Work, task: Task) -> Iterator[Receipt | Failed | None]:
    """Run a task; what may pass is tried again from the last receipt, what may not leaves the block undone. None comes
    where it waits for what a thread writes."""
    segment, cursor = task.segment, task.cursor
    for attempt in range(1, ATTEMPTS + 1):
        try:
            here = msgspec.structs.replace(task, segment=segment, cursor=cursor)
            for receipt in _index(_Context(work, here)) if task.kind == "index" else _decode(_Context(work, here)):
                yield receipt
                if receipt is not None:
                    segment, cursor = receipt.segment + 1, receipt.cursor
            return
        except LeaseLost as error:
            yield Failed(task.block, str(error))
            return
        except (StorageError, OSError, MemoryError) as error:
            if attempt == ATTEMPTS:
                what = f"{task.file.path}: {error or type(error).__name__}"
                yield Failed(task.block, what, unwritten=isinstance(error, Unwritten))
                return
            time.sleep(random.uniform(0.5, 1) * 2**attempt)
        except OmniRayError as error:
            yield Failed(task.block, str(error))
            return
        except Exception as error:  # noqa: BLE001 - one block that we cannot read must not end the other blocks' run
            where = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{where.filename.rpartition('/')[2]}:{where.lineno}"
            yield Failed(task.block, f"{task.file.path}: {type(error).__name__}: {error} ({place})")
            return


def _index(context: _Context) -> Iterator[Receipt]:
    task = context.task
    seek_points = _seek_points_of(context.storage.uri, task.seek_points)
    segment = task.segment
    for part in readers.index_file(context.source, task.file, seek_points, task.cursor):
        data = {"cuts.parquet": store.encode_cuts(part.cuts), "members.parquet": store.encode_members(part.members)}
        if part.seek_points:
            data[store.SEEK_POINTS] = part.seek_points
        outputs = context.commit(context.folder.index(file_id(task.file.path), context.tag, segment), data)
        yield context.receipt(segment, part.cursor, 0, "", outputs)
        segment += 1


def _decode(context: _Context) -> Iterator[Receipt | None]:
    """The receipts of a block. Its end is written by a thread, so that the CPU need not wait for the disk: before the
    last receipt comes None."""
    task = context.task
    members, seek_points = _members_of(context), _seek_points_of(context.storage.uri, task.seek_points)
    kind = kind_of(context.work.modality)
    segment, decoded = task.segment, kind.segment(context.source)
    batches = readers.read_cut(
        context.source, task.file, task.cut, members, seek_points, task.cursor, lambda data: decoded.digest.update(data)
    )
    for batch in batches:
        decoded.add(batch)
        if batch.cursor is not None and _is_full(decoded):
            yield _commit(context, decoded, segment, batch.cursor)
            segment, decoded = segment + 1, kind.segment(context.source)
    written = _writer.submit(_commit, context, decoded, segment, None)
    decoded = kind.segment(context.source)  # an empty one, for the reading keeps its observer until a collection
    yield None
    yield written.result()


def _is_full(decoded: Segment) -> bool:
    return max(decoded.read_bytes, decoded.held_bytes) >= SEGMENT_BYTES or decoded.rows_in >= SEGMENT_ROWS


def _commit(context: _Context, decoded: Segment, segment: int, cursor: str | None) -> Receipt:
    block, tag = context.task.block, context.tag
    made = decoded.made(block, segment, tag)
    tables = dict(made.tables)
    if decoded.bad:
        tables["quarantine.jsonl"] = store.encode_quarantine(decoded.bad, context.task.file.path)
    outputs = context.commit(context.folder.block(block, segment, tag), tables, made.media) | dict(made.named)
    blank = context.receipt(segment, cursor, decoded.read_bytes, decoded.digest.hexdigest(), outputs)
    return msgspec.structs.replace(
        blank,
        rows_in=decoded.rows_in,
        kept=decoded.kept,
        samples=made.samples,
        bytes=made.size,
        dropped=dict(sorted(decoded.dropped.items())),
        quarantined=dict(sorted(Counter(bad.reason for bad in decoded.bad).items())),
    )


def _members_of(context: _Context) -> Sequence[Member]:
    """The table of members of the archive that the block lies in; empty where it is none."""
    task = context.task
    if task.cut.unit != "members" and not task.cut.member:
        return []
    name = file_id(task.file.path)
    stems = tuple(context.folder.index(name, context.tag, segment) for segment in range(task.index_segments))
    return _read_members(context.storage.uri, stems, task.file.path.endswith("/"))


@functools.lru_cache(maxsize=1)  # with the labels beside it, it may have a gigabyte
def _read_members(uri: str, stems: tuple[str, ...], unique: bool) -> MemberTable:
    storage = open_storage(uri)
    parts = ((store.read_named(storage, stem, "members.parquet"), f"{storage.uri}/{stem}") for stem in stems)
    return MemberTable([group for part, where in parts for group in store.member_groups(part, where)], unique)


@functools.lru_cache(maxsize=2)
def _seek_points_of(uri: str, output: Output | None) -> bytes:
    return b"" if output is None else store.read_output(open_storage(uri), output)
