"""Text: a segment is lines, and the corpus is their copy."""

import hashlib
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from omni_ray.catalog import Source
from omni_ray.ledger import Receipt
from omni_ray.prepare import corpus_index, store
from omni_ray.prepare.assemble import RunTasks, Stretch, assemble, stretch_of
from omni_ray.prepare.kinds import Body, Check, Kind, Made, Product, Segment
from omni_ray.prepare.pieces import Piece, pieces, placed
from omni_ray.prepare.records import Bad, Raw, RawBatch
from omni_ray.prepare.select import Cut, Selection
from omni_ray.prepare.state import SourceState
from omni_ray.prepare.transforms.text import TextTransform
from omni_ray.storage import Slice, Storage, Writer


class TextKind(Kind):
    folder = "text"
    schema = corpus_index.INDEX_SCHEMA
    index_version = corpus_index.INDEX_VERSION

    def segment(self, source: Source) -> Segment:
        return TextSegment(source)

    def products(self) -> Sequence[Product]:
        return [Product(corpus_index.CORPUS, corpus_index.CORPUS_INDEX)]

    def dataset_products(self, source: Source) -> Sequence[Product]:
        return [Product(f"text/{source.name}.txt")]

    def index_rows(self, source: Source, path: str, rows: pa.Table, offset: int) -> pa.Table:
        return corpus_index.index_rows(source, path, rows, offset)

    def body(
        self,
        storage: Storage,
        product: Product,
        mark: str,
        states: Mapping[str, SourceState],
        selection: Selection,
        run_tasks: RunTasks,
    ) -> Body:
        return TextBody(storage, product.key, mark, states, selection, run_tasks)

    def check(self, storage: Storage, product: Product, out: str) -> Check:
        return TextCheck(storage, product.key)

    def segment_problems(
        self, storage: Storage, source: Source, receipt: Receipt, data: Mapping[str, bytes]
    ) -> Iterator[str]:
        rows = store.read_table(data["rows.parquet"])
        if len(rows) != receipt.samples or len(data["txt"]) != receipt.bytes:
            yield (
                f"{len(rows)} samples of {len(data['txt'])} bytes, the receipt says {receipt.samples} of "
                f"{receipt.bytes}"
            )
        yield from line_problems(data["txt"], rows)


class TextSegment(Segment):
    """Lines."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._transform = TextTransform(source)
        self._lines: list[bytes] = []
        self._members: list[str] = []
        self._rows: list[int] = []
        self._parts: list[int] = []

    def add(self, batch: RawBatch) -> None:
        self.read_bytes += batch.read_bytes
        self.rows_in += len(batch.records)
        raws = [record for record in batch.records if isinstance(record, Raw)]
        self.bad += [record for record in batch.records if isinstance(record, Bad)]
        made = self._transform.many([raw.value for raw in raws])
        self.kept += made.kept
        self.dropped += made.dropped
        self.bad += [Bad(raws[at].member, raws[at].row, bad.reason, bad.error) for at, bad in made.unusable]
        self._lines += made.lines
        self._members += [raws[at].member for at in made.record]
        self._rows += [raws[at].row for at in made.record]
        self._parts += made.part

    def made(self, block: str, segment: int, tag: str) -> Made:
        text = b"\n".join([*self._lines, b""])
        sizes = [len(line) + 1 for line in self._lines]
        digests = [hashlib.sha256(line).digest() for line in self._lines]
        rows = store.encode_rows(self._members, self._rows, self._parts, sizes, digests)
        return Made({"txt": text, "rows.parquet": rows}, len(self._lines), len(text))


class TextBody:
    """The chosen lines, copied inside the kernel or the store, by many workers where the store takes parts."""

    takes_rows = False

    def __init__(
        self,
        storage: Storage,
        key: str,
        mark: str,
        states: Mapping[str, SourceState],
        selection: Selection,
        run_tasks: RunTasks,
    ) -> None:
        stretches = (one for name, state in states.items() for one in _stretches(state, selection.cuts[name]))
        self._output = assemble(storage, "text", key, mark, stretches, run_tasks) or storage.writer(key)
        self._size = sum(selection.cuts[name].size for name in states)
        self._pool = ThreadPoolExecutor(1)
        self._stopped = threading.Event()
        chosen = (piece for _, piece, _ in placed(states, selection))
        copying = (piece for piece in chosen if not self._stopped.is_set())
        self._copied = self._pool.submit(_copy, self._output, copying) if isinstance(self._output, Writer) else None

    def add(self, rows: pa.Table) -> None:
        """Nothing: the lines are copied from the blocks."""

    def finish(self) -> int:
        if self._copied:
            self._copied.result()
        return self._size

    def commit(self) -> None:
        self._output.commit()

    def abort(self) -> None:
        self._stopped.set()  # else an interrupted command would wait for all that is left to copy
        self._pool.shutdown(wait=True)
        self._output.abort()


class TextCheck:
    """A file of lines."""

    def __init__(self, storage: Storage, key: str) -> None:
        self._key = key
        self._stream = storage.open(key)
        self._at = 0

    def piece(self, rows: pa.Table) -> Iterator[str]:
        size = pc.sum(rows.column("bytes")).as_py() or 0
        text = self._stream.read(size)
        yield from (f"{self._key} at byte {self._at:,}: {what}" for what in line_problems(text, rows))
        self._at += size

    def end(self) -> Iterator[str]:
        if self._stream.read(1):
            yield f"{self._key}: has more than the {self._at:,} bytes of the selection"
        self._stream.close()


def line_problems(text: bytes, rows: pa.Table) -> Iterator[str]:
    """Whether `text` is exactly the lines that the `bytes` and `sha256` columns describe."""
    if text and not text.endswith(b"\n"):
        yield "the text does not end with a newline"
        return
    lines = text.split(b"\n")[:-1]
    sizes = rows.column("bytes").to_pylist()
    digests = rows.column("sha256").to_pylist()
    if len(lines) != len(sizes):
        yield f"{len(lines)} lines, the table has {len(sizes)}"
        return
    for number, (line, size, digest) in enumerate(zip(lines, sizes, digests, strict=True)):
        if len(line) + 1 != size or hashlib.sha256(line).digest() != digest:
            yield f"line {number} is not the sample that the table describes"
        elif not line or b"\r" in line:
            yield f"line {number} is empty or holds a carriage return"
        elif not line.isascii():
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                yield f"line {number} is not UTF-8: {error}"


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
