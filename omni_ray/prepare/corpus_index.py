"""The index beside the corpus: a row a line."""

import pyarrow as pa
import pyarrow.compute as pc

from omni_ray.catalog import Source
from omni_ray.prepare.index_file import constant, record_keys

CORPUS = "text/production_corpus.txt"
CORPUS_INDEX = "text/production_corpus.index.parquet"
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


def index_rows(source: Source, path: str, rows: pa.Table, offset: int) -> pa.Table:
    """Index rows of the chosen samples of one segment of the file `path`, whose lines begin at `offset` of the corpus.

    A key is `source:file#member@row`, with `.part` where a record became several lines; a group is the key without its
    part, so that no document is on both sides of a split.
    """
    count = len(rows)
    group = record_keys(source.name, path, rows)
    part = rows.column("part").combine_chunks()
    key = group
    if pc.any(pc.not_equal(part, 0)).as_py():
        suffix = pc.if_else(pc.equal(part, 0), "", pc.binary_join_element_wise(".", pc.cast(part, pa.string()), ""))
        key = pc.binary_join_element_wise(group, suffix, "")
    sizes = pc.cast(rows.column("bytes").combine_chunks(), pa.int64())
    offsets = pc.add(pc.subtract(pc.cumulative_sum(sizes), sizes), pa.scalar(offset, pa.int64()))
    columns = {
        "key": key,
        "group": group,
        "source": constant(source.name, count),
        "category": constant(source.category, count),
        "licence": constant(source.license, count),
        "text": pa.nulls(count, pa.string()),
        "path": constant(CORPUS, count),
        "offset": offsets,
        "bytes": sizes,
        "sha256": rows.column("sha256").combine_chunks(),
    }
    return pa.table(columns, schema=INDEX_SCHEMA)
