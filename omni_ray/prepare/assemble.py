"""Joining the chosen samples into one large object by many workers, where the store can take it in parts (S3).

Which samples make which part follows from the selection alone, so a part has the same number and the same bytes in
every run that would write this file: what a killed run had finished is kept. A stretch that is large and has no gaps is
copied inside the store; others are read, their gaps left out, and sent by a worker. Nothing passes through the driver.
"""

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from omni_ray.catalog import Modality
from omni_ray.errors import StorageError
from omni_ray.faults import stop_here
from omni_ray.ledger import Output, Receipt
from omni_ray.prepare import store
from omni_ray.storage import Assembly, PartStat, Slice, Storage, open_storage

PART_BYTES = 128 << 20  # of a part, at least; a worker holds one and one more segment
MOST_PARTS = 9000  # below the 10,000 that S3 takes
PLAN_VERSION = 2  # raised whenever the same selection would be divided otherwise
ATTEMPTS = 3

RunTasks = Callable[[Callable[[bytes], Iterator[bytes]], Sequence[tuple[bytes, int]]], Iterator[bytes]]


class Stretch(msgspec.Struct, frozen=True):
    """The chosen samples of one segment, `length` bytes of them: from byte `start` of its text on without a gap; or,
    where `rows` is given, those samples of its table whose bit in `mask` is set."""

    text: Output
    start: int
    length: int
    rows: Output | None = None
    mask: bytes = b""


class Part(msgspec.Struct, frozen=True):
    """A part of the object; numbers begin with 1."""

    number: int
    stretches: list[Stretch]

    @property
    def size(self) -> int:
        return sum(stretch.length for stretch in self.stretches)


class _Done(msgspec.Struct, frozen=True):
    number: int
    tag: str
    error: str = ""


class Journal(msgspec.Struct, frozen=True):
    """The object that is being joined: its key, what it is made of, and what the store calls the unfinished thing."""

    key: str
    mark: str
    token: str


class Assembled(NamedTuple):
    """All parts are there; `commit` makes the object visible. Left alone, the parts stay for the next run."""

    storage: Storage
    modality: Modality
    assembly: Assembly
    tags: dict[int, str]

    def commit(self) -> None:
        self.assembly.commit(self.tags)
        self.storage.delete(_journal_key(self.modality))

    def abort(self) -> None:
        return None


def stretch_of(receipt: Receipt, sizes: npt.NDArray[np.integer], mask: npt.NDArray[np.bool_]) -> Stretch | None:
    """The samples of a segment that `mask` [samples] leaves in; None where it leaves none. `sizes` are in bytes."""
    chosen = np.flatnonzero(mask)
    if not len(chosen):
        return None
    length = int(sizes[chosen].sum(dtype=np.int64))
    first, last = int(chosen[0]), int(chosen[-1])
    text = receipt.outputs["txt"]
    if last - first + 1 == len(chosen):
        return Stretch(text, int(sizes[:first].sum(dtype=np.int64)), length)
    return Stretch(text, 0, length, receipt.outputs["rows.parquet"], np.packbits(mask).tobytes())


def plan_parts(stretches: Iterable[Stretch], least: int) -> Iterator[Part]:
    """Divide into parts of at least `least` bytes, but for the last; a stretch is never divided.

    A large one without gaps is a part of its own, which the store copies in one request. Others are gathered, so that
    few requests send them, until there are PART_BYTES or a large one follows.
    """
    number = 1
    gathered: list[Stretch] = []
    size = 0
    for stretch in stretches:
        alone = is_copied([stretch], least)
        if gathered and size >= (least if alone else max(PART_BYTES, least)):
            yield Part(number, gathered)
            number, gathered, size = number + 1, [], 0
        gathered.append(stretch)
        size += stretch.length
        if alone and len(gathered) == 1:
            yield Part(number, gathered)
            number, gathered, size = number + 1, [], 0
    if gathered:
        yield Part(number, gathered)


def is_copied(stretches: Sequence[Stretch], least: int) -> bool:
    """Whether a part is copied inside the store; below PART_BYTES more than one stretch goes into one request."""
    only = stretches[0]
    return len(stretches) == 1 and only.rows is None and only.length >= max(PART_BYTES, least)


def assemble(
    storage: Storage, modality: Modality, key: str, mark: str, stretches: Iterable[Stretch], run_tasks: RunTasks
) -> Assembled | None:
    """Bring all parts of the object `key` to the store; None where the store takes no parts.

    Args:
        mark: changes whenever a byte of the object does.

    Raises:
        StorageError: where a part cannot be read or sent; the others stay for the next run.
    """
    mark = f"{mark}.{PLAN_VERSION}"
    assembly = _resumed(storage, modality, key, mark)
    if assembly is None:
        return None
    chosen = list(stretches)
    least = max(assembly.least_bytes, sum(stretch.length for stretch in chosen) // MOST_PARTS)
    parts = list(plan_parts(chosen, least))
    there = assembly.parts()
    tags = {part.number: there[part.number].tag for part in parts if _is_there(part, there.get(part.number))}
    work = PartWork(storage.location, key, assembly.token, least)
    tasks = [(msgspec.msgpack.encode(part), _weight(part, least)) for part in parts if part.number not in tags]
    if tasks:
        for data in run_tasks(work, tasks):
            done = msgspec.msgpack.decode(data, type=_Done)
            if done.error:
                raise StorageError(f"{storage.uri}/{key}: part {done.number} of {len(parts)}: {done.error}")
            tags[done.number] = done.tag
    return Assembled(storage, modality, assembly, tags)


def unfinished_key(storage: Storage, modality: Modality) -> str:
    """The object whose parts a killed run left for the next one; "" where there is none."""
    journal = store.read_struct(storage, _journal_key(modality), Journal)
    return journal.key if journal else ""


class PartWork(msgspec.Struct, frozen=True):
    """Called with an encoded Part in a worker process; gives one encoded _Done."""

    out: str
    key: str
    token: str
    least: int

    def __call__(self, encoded: bytes) -> Iterator[bytes]:
        yield msgspec.msgpack.encode(self._attempts(msgspec.msgpack.decode(encoded, type=Part)))

    def _attempts(self, part: Part) -> _Done:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                done = _Done(part.number, self._send(part))
                stop_here("joining")
                return done
            except StorageError as error:
                if attempt == ATTEMPTS:
                    return _Done(part.number, "", str(error))
                time.sleep(random.uniform(0.5, 1) * 2**attempt)
        raise AssertionError("unreachable")

    def _send(self, part: Part) -> str:
        storage = open_storage(self.out)
        assembly = storage.assembly(self.key, self.token)
        assert assembly is not None
        only = part.stretches[0]
        if is_copied(part.stretches, self.least):
            return assembly.copy_part(part.number, Slice(only.text.key, only.text.offset + only.start, only.length))
        return assembly.put_part(part.number, b"".join(chosen_text(storage, stretch) for stretch in part.stretches))


def chosen_text(storage: Storage, stretch: Stretch) -> bytes:
    """The bytes of a stretch.

    Raises:
        StorageError: where the store holds less than the receipt says.
    """
    text = stretch.text
    if stretch.rows is None:
        data = storage.read(text.key, text.offset + stretch.start, stretch.length)
    else:
        table = store.read_table(store.read_output(storage, stretch.rows), ["bytes"])
        sizes = table.column("bytes").to_numpy().astype(np.int64)
        mask = np.unpackbits(np.frombuffer(stretch.mask, np.uint8), count=len(sizes)).astype(np.bool_)
        whole = memoryview(storage.read(text.key, text.offset, text.size))
        ends = np.concatenate([[0], np.cumsum(sizes)])
        edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8))).reshape(-1, 2)
        data = b"".join(whole[ends[first] : ends[last]] for first, last in edges)
    if len(data) != stretch.length:
        raise StorageError(f"{text.key}: holds less than its receipt says; `omni-ray verify` lists what is damaged")
    return data


def _resumed(storage: Storage, modality: Modality, key: str, mark: str) -> Assembly | None:
    """The unfinished object that a killed run left, if it is this one; else a new one, noted for the next run."""
    journal = store.read_struct(storage, _journal_key(modality), Journal)
    if journal is not None:
        left = storage.assembly(journal.key, journal.token)
        if left is not None and left.exists():
            if (journal.key, journal.mark) == (key, mark):
                return left
            left.abort()
    assembly = storage.assembly(key)
    if assembly is not None:
        store.write_struct(storage, _journal_key(modality), Journal(key, mark, assembly.token))
    return assembly


def _journal_key(modality: Modality) -> str:
    return f"{store.WORK}/{modality}/joining.json"


def _is_there(part: Part, stat: PartStat | None) -> bool:
    return stat is not None and stat.size == part.size


def _weight(part: Part, least: int) -> int:
    """Copying costs a worker one request."""
    return 1 if is_copied(part.stretches, least) else part.size
