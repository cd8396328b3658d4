"""The index beside the corpus: a row a sample, in the order of the lines.

Keys, groups and hashes hardly repeat, so no dictionary is tried on them and no statistics are kept of them, which is
most of what writing would cost; neighbouring keys share a beginning, which DELTA_BYTE_ARRAY leaves out.
"""

import io

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from omni_ray.catalog import Source
from omni_ray.storage import Storage, Writer

CORPUS = "text/production_corpus.txt"
CORPUS_INDEX = "text/production_corpus.index.parquet"
INDEX_ROWS = 1 << 16  # rows of one row group, whatever the blocks were
INDEX_VERSION = 2  # raised whenever the same samples would give another file
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
_REPEATED = ["source", "category", "licence", "path"]
_ENCODING = {
    "key": "DELTA_BYTE_ARRAY",
    "group": "DELTA_BYTE_ARRAY",
    "offset": "DELTA_BINARY_PACKED",
    "bytes": "DELTA_BINARY_PACKED",
}
_COMPRESSION = {name: "none" if name == "sha256" else "zstd" for name in INDEX_SCHEMA.names}


class IndexWriter:
    """Streams the index; row groups have INDEX_ROWS rows however the blocks were cut."""

    def __init__(self, storage: Storage) -> None:
        self._writer = storage.writer(CORPUS_INDEX)
        self._parquet = pq.ParquetWriter(
            _Sink(self._writer),
            INDEX_SCHEMA,
            compression=_COMPRESSION,
            use_dictionary=_REPEATED,
            write_statistics=_REPEATED,
            column_encoding=_ENCODING,
        )
        self._pending: list[pa.Table] = []
        self._pending_rows = 0
        self._size = 0
        self._rows = 0

    def add(self, table: pa.Table) -> None:
        """Append rows, as `index_rows` makes them."""
        self._size += pc.sum(table.column("bytes")).as_py() or 0
        self._rows += len(table)
        self._pending.append(table)
        self._pending_rows += len(table)
        if self._pending_rows >= INDEX_ROWS:
            self._flush(INDEX_ROWS)

    def finish(self, mark: str) -> None:
        """Write what is left, and what the index belongs to."""
        self._flush(1)
        facts = {"file": CORPUS.rpartition("/")[2], "bytes": self._size, "rows": self._rows, "selection": mark}
        self._parquet.add_key_value_metadata({"omni_ray": msgspec.json.encode(facts).decode()})
        self._parquet.close()
        self._writer.settle()

    def commit(self) -> None:
        self._writer.commit()

    def abort(self) -> None:
        if self._parquet.is_open:
            self._parquet.close()
        self._writer.abort()

    def _flush(self, least: int) -> None:
        """Write row groups of INDEX_ROWS rows while at least `least` rows wait."""
        waiting = pa.concat_tables(self._pending).unify_dictionaries() if self._pending else INDEX_SCHEMA.empty_table()
        at = 0
        while len(waiting) - at >= least:
            rows = waiting.slice(at, INDEX_ROWS).combine_chunks()  # else the pages would tell how blocks were cut
            self._parquet.write_table(rows, row_group_size=INDEX_ROWS)
            at += INDEX_ROWS
        rest = waiting.slice(min(at, len(waiting)))
        self._pending, self._pending_rows = [rest], len(rest)


def index_rows(source: Source, path: str, rows: pa.Table, offset: int) -> pa.Table:
    """Index rows of the chosen samples of one segment of the file `path`, whose lines begin at `offset` of the corpus.

    A key is `source:file#member@row`, with `.part` where a record became several lines; a group is the key without its
    part, so that no document is on both sides of a split.
    """
    count = len(rows)
    member = pc.cast(rows.column("member").combine_chunks(), pa.string())
    member = pc.if_else(pc.equal(member, ""), "", pc.binary_join_element_wise("#", member, ""))
    row = pc.cast(rows.column("row"), pa.string()).combine_chunks()
    group = pc.binary_join_element_wise(f"{source.name}:{path}", member, "@", row, "")
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
