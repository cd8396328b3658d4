"""Writing the production files from the committed blocks, as the selection says.

Whole runs of samples are copied from block files inside the kernel, on S3 inside the store or by many workers (see
`assemble`); only the small rows tables are read here. The result appears by rename; until then the old production file
stays. `combined.json` notes what the files were made from, so that an unchanged selection is not written again.
"""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from omni_ray.catalog import Modality
from omni_ray.faults import stop_here
from omni_ray.ledger import Receipt
from omni_ray.prepare import store
from omni_ray.prepare.assemble import RunTasks, Stretch, assemble, stretch_of
from omni_ray.prepare.plan import fingerprint
from omni_ray.prepare.select import Cut, Selection
from omni_ray.prepare.state import SourceState
from omni_ray.storage import Slice, Storage, Writer

CORPUS = "text/production_corpus.txt"
CORPUS_INDEX = "text/production_corpus.index.parquet"
INDEX_ROWS = 1 << 16  # rows of one row group, whatever the blocks were
INDEX_VERSION = 1
INDEX_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("group", pa.string()),
        ("source", pa.dictionary(pa.int32(), pa.string())),
        ("category", pa.dictionary(pa.int32(), pa.string())),
        ("licence", pa.dictionary(pa.int32(), pa.string())),
        ("text", pa.string()),
        ("path", pa.dictionary(pa.int32(), pa.string())),
        ("offset", pa.int64()),
        ("bytes", pa.int64()),
        ("sha256", pa.binary(32)),
    ]
)


class Made(msgspec.Struct, frozen=True):
    """An output file as it was left: to tell whether it is still the one that was made."""

    size: int
    mtime_ns: int
    selection: str


class Combined(msgspec.Struct, frozen=True):
    """What the outputs of a modality were made from, by key."""

    outputs: dict[str, Made]


class Piece(NamedTuple):
    """The chosen samples of one committed segment."""

    receipt: Receipt
    mask: npt.NDArray[np.bool_]


def dataset_key(source: str) -> str:
    return f"text/{source}.txt"


def read_combined(storage: Storage, modality: Modality) -> Combined:
    return store.read_struct(storage, store.combined_key(modality), Combined) or Combined({})


def pieces(state: SourceState, cut: Cut) -> Iterator[Piece]:
    """The segments of a source that the cut reaches, in canonical order."""
    start = 0
    for receipt in state.prefix():
        if start >= cut.position:
            return
        yield Piece(receipt, cut.mask(start, start + receipt.samples))
        start += receipt.samples


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
    index = _IndexWriter(storage)
    try:
        for name, state in states.items():
            for piece in pieces(state, selection.cuts[name]):
                table = store.read_rows(storage, piece.receipt)
                index.add(state, piece, table)
                if isinstance(corpus, Writer):
                    _copy_chosen(corpus, piece, table)
        index.finish(mark)
        stop_here("combining")
        corpus.commit()
        stop_here("publishing")
        index.writer.commit()
    finally:
        corpus.abort()
        index.writer.abort()
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
            for piece in pieces(state, selection.cuts[name]):
                _copy_chosen(output, piece, store.read_rows(storage, piece.receipt, ["bytes"]))
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
    sizes = state.samples().sizes
    start = 0
    for receipt, mask in pieces(state, cut):
        stretch = stretch_of(receipt, sizes[start : start + len(mask)], mask)
        start += len(mask)
        if stretch is not None:
            yield stretch


def _copy_chosen(writer: Writer, piece: Piece, table: pa.Table) -> None:
    """Append the chosen samples, a run of neighbours at a time."""
    sizes = table.column("bytes").combine_chunks().to_numpy(zero_copy_only=False).astype(np.int64)
    ends = np.concatenate([[0], np.cumsum(sizes)])
    edges = np.flatnonzero(np.diff(np.concatenate([[False], piece.mask, [False]]).astype(np.int8)))
    text = piece.receipt.outputs["txt"]
    for first, last in edges.reshape(-1, 2):
        writer.append_slice(Slice(text.key, text.offset + int(ends[first]), int(ends[last] - ends[first])))


class _IndexWriter:
    """Streams the index; row groups have INDEX_ROWS rows however the blocks were cut."""

    def __init__(self, storage: Storage) -> None:
        self.writer = storage.writer(CORPUS_INDEX)
        self._sink = _Sink(self.writer)
        self._parquet = pq.ParquetWriter(self._sink, INDEX_SCHEMA, compression="zstd")
        self._pending: list[pa.Table] = []
        self._pending_rows = 0
        self._offset = 0
        self._rows = 0

    def add(self, state: SourceState, piece: Piece, rows: pa.Table) -> None:
        chosen = rows.filter(pa.array(piece.mask))
        table = index_rows(state, piece.receipt, chosen, self._offset)
        self._offset += pc.sum(table.column("bytes")).as_py() or 0
        self._rows += len(table)
        self._pending.append(table)
        self._pending_rows += len(table)
        if self._pending_rows >= INDEX_ROWS:
            self._flush(INDEX_ROWS)

    def finish(self, mark: str) -> None:
        self._flush(1)
        facts = {"file": CORPUS.rpartition("/")[2], "bytes": self._offset, "rows": self._rows, "selection": mark}
        self._parquet.add_key_value_metadata({"omni_ray": msgspec.json.encode(facts).decode()})
        self._parquet.close()

    def _flush(self, least: int) -> None:
        """Write row groups of INDEX_ROWS rows while at least `least` rows wait."""
        waiting = pa.concat_tables(self._pending).unify_dictionaries() if self._pending else INDEX_SCHEMA.empty_table()
        at = 0
        while len(waiting) - at >= least:
            self._parquet.write_table(waiting.slice(at, INDEX_ROWS), row_group_size=INDEX_ROWS)
            at += INDEX_ROWS
        rest = waiting.slice(min(at, len(waiting)))
        self._pending, self._pending_rows = [rest], len(rest)


def index_rows(state: SourceState, receipt: Receipt, rows: pa.Table, offset: int) -> pa.Table:
    """Index rows of the chosen samples of one segment.

    A key is `source:file#member@row`, with `.part` where a record became several lines; a group is the key without its
    part, so that no document is on both sides of a split.
    """
    source = state.source
    count = len(rows)
    member = pc.cast(rows.column("member").combine_chunks(), pa.string())
    member = pc.if_else(pc.equal(member, ""), "", pc.binary_join_element_wise("#", member, ""))
    row = pc.cast(rows.column("row"), pa.string()).combine_chunks()
    group = pc.binary_join_element_wise(f"{source.name}:{receipt.path}", member, "@", row, "")
    part = rows.column("part").combine_chunks()
    suffix = pc.if_else(pc.equal(part, 0), "", pc.binary_join_element_wise(".", pc.cast(part, pa.string()), ""))
    sizes = pc.cast(rows.column("bytes").combine_chunks(), pa.int64())
    offsets = pc.add(pc.subtract(pc.cumulative_sum(sizes), sizes), pa.scalar(offset, pa.int64()))
    columns = {
        "key": pc.binary_join_element_wise(group, suffix, ""),
        "group": group,
        "source": _constant(source.name, count),
        "category": _constant(source.category, count),
        "licence": _constant(source.license, count),
        "text": pa.nulls(count, pa.string()),
        "path": _constant(CORPUS, count),
        "offset": offsets,
        "bytes": sizes,
        "sha256": rows.column("sha256").combine_chunks(),
    }
    return pa.table(columns, schema=INDEX_SCHEMA)


def _constant(value: str, count: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([value]))


class _Sink(io.RawIOBase):
    """Lets pyarrow write into a storage writer."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._at = 0

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        view = memoryview(data)  # type: ignore[arg-type]
        self._writer.write(view)
        self._at += view.nbytes
        return view.nbytes

    def tell(self) -> int:
        return self._at


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
