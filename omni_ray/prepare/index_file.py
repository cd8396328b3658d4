"""Writing the index beside a production file: a row a sample, in the order of the file.

Keys, groups and hashes hardly repeat, so no dictionary is tried on them and no statistics are kept of them, which is
most of what writing would cost; neighbouring keys share a beginning, which DELTA_BYTE_ARRAY leaves out.
"""

import io

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from omni_ray.storage import Storage, Writer

INDEX_ROWS = 1 << 16  # rows of one row group, whatever the blocks were
_ENCODING = {
    "key": "DELTA_BYTE_ARRAY",
    "group": "DELTA_BYTE_ARRAY",
    "offset": "DELTA_BINARY_PACKED",
    "bytes": "DELTA_BINARY_PACKED",
}


class IndexWriter:
    """Streams the index of the file `of`; row groups have INDEX_ROWS rows however the blocks were cut."""

    def __init__(self, storage: Storage, key: str, of: str, schema: pa.Schema) -> None:
        repeated = [field.name for field in schema if pa.types.is_dictionary(field.type)]
        self._of = of
        self._schema = schema
        self._writer = storage.writer(key)
        self._parquet = pq.ParquetWriter(
            _Sink(self._writer),
            schema,
            compression={name: "none" if name == "sha256" else "zstd" for name in schema.names},
            use_dictionary=repeated,
            write_statistics=repeated,
            column_encoding=_ENCODING,
        )
        self._pending: list[pa.Table] = []
        self._pending_rows = 0
        self._rows = 0

    def add(self, table: pa.Table) -> None:
        """Append rows of the schema."""
        self._rows += len(table)
        self._pending.append(table)
        self._pending_rows += len(table)
        if self._pending_rows >= INDEX_ROWS:
            self._flush(INDEX_ROWS)

    def finish(self, size: int, mark: str) -> None:
        """Write what is left, and what the index belongs to: a file of `size` bytes made from the selection `mark`."""
        self._flush(1)
        facts = {"file": self._of.rpartition("/")[2], "bytes": size, "rows": self._rows, "selection": mark}
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
        waiting = pa.concat_tables(self._pending).unify_dictionaries() if self._pending else self._schema.empty_table()
        at = 0
        while len(waiting) - at >= least:
            rows = waiting.slice(at, INDEX_ROWS).combine_chunks()  # else the pages would tell how blocks were cut
            self._parquet.write_table(rows, row_group_size=INDEX_ROWS)
            at += INDEX_ROWS
        rest = waiting.slice(min(at, len(waiting)))
        self._pending, self._pending_rows = [rest], len(rest)


def constant(value: str, count: int) -> pa.DictionaryArray:
    """`count` times the same, as a column that repeats."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([value]))


def record_keys(source: str, path: str, rows: pa.Table) -> pa.Array:
    """`source:file#member@row` of the samples of a rows table: what tells a record from every other one."""
    member = rows.column("member").combine_chunks()
    if member.dictionary.to_pylist() == [""]:  # no archive
        member = ""
    else:
        member = pc.cast(member, pa.string())
        member = pc.if_else(pc.equal(member, ""), "", pc.binary_join_element_wise("#", member, ""))
    row = pc.cast(rows.column("row"), pa.string()).combine_chunks()
    return pc.binary_join_element_wise(f"{source}:{path}", member, "@", row, "")


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
