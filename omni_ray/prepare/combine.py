"""Writing the production files from the committed blocks, as the selection says.

Whole runs of samples are copied from block files inside the kernel, on S3 inside the store or by many workers (see
`assemble`); only the small rows tables are read here. The result appears by rename; until then the old production file
stays. `combined.json` notes what the files were made from, so that an unchanged selection is not written again.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from omni_ray.catalog import Modality, Source
from omni_ray.faults import stop_here
from omni_ray.ledger import Receipt
from omni_ray.prepare import store
from omni_ray.prepare.assemble import RunTasks, Stretch, assemble, stretch_of
from omni_ray.prepare.corpus_index import CORPUS, CORPUS_INDEX, INDEX_VERSION, IndexWriter, index_rows
from omni_ray.prepare.plan import fingerprint
from omni_ray.prepare.select import Cut, Selection, Sizes
from omni_ray.prepare.state import SourceState
from omni_ray.storage import Slice, Storage, Writer

THREADS = 1  # that reads and makes index rows while the corpus is copied; most of that leaves the interpreter alone
AHEAD = 1  # segments whose rows may wait to be written: one of many short lines takes much to make

Item = TypeVar("Item")
Result = TypeVar("Result")


class Made(msgspec.Struct, frozen=True):
    """An output file as it was left: to tell whether it is still the one that was made."""

    size: int
    mtime_ns: int
    selection: str


class Combined(msgspec.Struct, frozen=True):
    """What the outputs of a modality were made from, by key."""

    outputs: dict[str, Made]


class Piece(NamedTuple):
    """The chosen samples of one committed segment: `mask` [samples] says which, `sizes` [samples] are in bytes, and
    `offset` is where the first of them begins among all chosen bytes of the source."""

    receipt: Receipt
    mask: npt.NDArray[np.bool_]
    sizes: Sizes
    offset: int

    @property
    def size(self) -> int:
        """Bytes of the chosen samples."""
        return int(self.sizes[self.mask].sum(dtype=np.int64))


def dataset_key(source: str) -> str:
    return f"text/{source}.txt"


def read_combined(storage: Storage, modality: Modality) -> Combined:
    return store.read_struct(storage, store.combined_key(modality), Combined) or Combined({})


def pieces(state: SourceState, cut: Cut) -> Iterator[Piece]:
    """The segments of a source that the cut reaches, in canonical order."""
    sizes = state.samples().sizes
    start = offset = 0
    for receipt in state.prefix():
        if start >= cut.position:
            return
        stop = start + receipt.samples
        piece = Piece(receipt, cut.mask(start, stop), sizes[start:stop], offset)
        yield piece
        start, offset = stop, offset + piece.size


def pieces_with_rows(
    state: SourceState, cut: Cut, columns: list[str] | None = None
) -> Iterator[tuple[Piece, pa.Table]]:
    """The same with the table of each segment's samples, chosen or not."""
    found, ahead = itertools.tee(pieces(state, cut))
    return zip(found, store.read_rows(state.storage, (piece.receipt for piece in ahead), columns), strict=True)


def output_keys(sources: Iterable[str]) -> list[str]:
    """Everything that may be written for these sources outside the working folder."""
    return [CORPUS, CORPUS_INDEX, *map(dataset_key, sources)]


def write_production(
    storage: Storage, states: Mapping[str, SourceState], selection: Selection, run_tasks: RunTasks
) -> bool:
    """Write the corpus and its index; False where they already are what the selection says."""
    mark = selection_fingerprint(states, selection, list(states))
    if _unchanged(storage, {CORPUS: mark, CORPUS_INDEX: mark}):
        return False
    stretches = (stretch for name, state in states.items() for stretch in _stretches(state, selection.cuts[name]))
    assembled = assemble(storage, "text", CORPUS, mark, stretches, run_tasks)
    corpus = assembled or storage.writer(CORPUS)
    index = IndexWriter(storage)
    try:
        with ThreadPoolExecutor(1 + THREADS) as pool:
            chosen = (piece for name, state in states.items() for piece in pieces(state, selection.cuts[name]))
            copied = pool.submit(_copy, corpus, chosen) if isinstance(corpus, Writer) else None
            for table in _in_order(pool, lambda work: _rows_of(storage, *work), _placed(states, selection)):
                index.add(table)
            index.finish(mark)
            if copied:
                copied.result()
        stop_here("combining")
        corpus.commit()
        stop_here("publishing")
        index.commit()
    finally:
        corpus.abort()
        index.abort()
    _note(storage, {CORPUS: mark, CORPUS_INDEX: mark})
    return True


def write_dataset(storage: Storage, state: SourceState, selection: Selection, run_tasks: RunTasks) -> bool:
    """Write one source's own file; False where it already is what the selection says."""
    name = state.source.name
    key, mark = dataset_key(name), selection_fingerprint({name: state}, selection, [name])
    if _unchanged(storage, {key: mark}):
        return False
    assembled = assemble(storage, "text", key, mark, _stretches(state, selection.cuts[name]), run_tasks)
    output = assembled or storage.writer(key)
    try:
        if isinstance(output, Writer):
            _copy(output, pieces(state, selection.cuts[name]))
        stop_here("combining")
        output.commit()
    finally:
        output.abort()
    _note(storage, {key: mark})
    return True


def selection_fingerprint(states: Mapping[str, SourceState], selection: Selection, names: Sequence[str]) -> str:
    """Changes whenever a byte of the outputs could."""
    parts: list[object] = [INDEX_VERSION]
    for name in names:
        source, cut = states[name].source, selection.cuts[name]
        made = [piece.receipt.outputs["rows.parquet"].sha256 for piece in pieces(states[name], cut)]
        duplicates = fingerprint([int(number) for number in cut.duplicates])
        parts.append([name, source.category, source.license, made, cut.position, duplicates])
    return fingerprint(parts)


def forget_dataset(storage: Storage, source: str) -> None:
    """Delete a source's own file if it is the one that we made."""
    key = dataset_key(source)
    combined = read_combined(storage, "text")
    if key in combined.outputs:
        if _is_as_made(storage, key, combined.outputs[key]):
            storage.delete(key)
        left = {name: made for name, made in combined.outputs.items() if name != key}
        store.write_struct(storage, store.combined_key("text"), Combined(left))


def _stretches(state: SourceState, cut: Cut) -> Iterator[Stretch]:
    """What the cut takes of each segment, in canonical order."""
    for piece in pieces(state, cut):
        stretch = stretch_of(piece.receipt, piece.sizes, piece.mask)
        if stretch is not None:
            yield stretch


def _copy(writer: Writer, chosen: Iterable[Piece]) -> None:
    """Append the chosen samples, a run of neighbours at a time, and leave little to do for a commit."""
    for piece in chosen:
        ends = np.concatenate([[0], np.cumsum(piece.sizes, dtype=np.int64)])
        edges = np.flatnonzero(np.diff(np.concatenate([[False], piece.mask, [False]]).astype(np.int8)))
        text = piece.receipt.outputs["txt"]
        for first, last in edges.reshape(-1, 2):
            writer.append_slice(Slice(text.key, text.offset + int(ends[first]), int(ends[last] - ends[first])))
    writer.settle()


def _placed(states: Mapping[str, SourceState], selection: Selection) -> Iterator[tuple[Source, Piece, int]]:
    """Every piece with its source, and where it begins in the corpus."""
    begun = 0
    for name, state in states.items():
        for piece in pieces(state, selection.cuts[name]):
            yield state.source, piece, begun + piece.offset
        begun += selection.cuts[name].size


def _rows_of(storage: Storage, source: Source, piece: Piece, offset: int) -> pa.Table:
    (rows,) = store.read_rows(storage, [piece.receipt])
    return index_rows(source, piece.receipt.path, rows.filter(pa.array(piece.mask)), offset)


def _in_order(pool: ThreadPoolExecutor, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Like `pool.map`, but no more than AHEAD results wait to be taken."""
    waiting: deque[Future[Result]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) > AHEAD:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _unchanged(storage: Storage, marks: Mapping[str, str]) -> bool:
    made = read_combined(storage, "text").outputs
    return all(
        key in made and made[key].selection == mark and _is_as_made(storage, key, made[key])
        for key, mark in marks.items()
    )


def _is_as_made(storage: Storage, key: str, made: Made) -> bool:
    stat = storage.stat(key)
    return stat is not None and (stat.size, stat.mtime_ns) == (made.size, made.mtime_ns)


def _note(storage: Storage, marks: Mapping[str, str]) -> None:
    outputs = dict(read_combined(storage, "text").outputs)
    for key, mark in marks.items():
        stat = storage.stat(key)
        if stat is not None:
            outputs[key] = Made(stat.size, stat.mtime_ns, mark)
    store.write_struct(storage, store.combined_key("text"), Combined(outputs))
