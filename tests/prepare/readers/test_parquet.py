"""Parquet: no batch is too large for memory however uneven the rows are, and what is read does not depend on how."""

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from omni_ray.prepare.readers import pages, parquet
from omni_ray.prepare.records import Bad, Raw
from tests.prepare.readers import tables

KIB = 1 << 10
SIZES = st.lists(
    st.tuples(st.integers(1, 300), st.sampled_from([0, 10, 1000, 20_000])), min_size=1, max_size=6
).map(lambda runs: [size for count, size in runs for _ in range(count)])  # fmt: skip


def stored(sizes: list[int], write_batch_size: int = 1, distinct: bool = True, **options: Any) -> io.BytesIO:
    """One row group with rows of these sizes, or a little more where each is to differ from all others."""
    sink = io.BytesIO()
    cells = [bytes([65 + n % 26]) * size + (b"%d" % n if distinct else b"") for n, size in enumerate(sizes)]
    table = pa.table({"file": pa.array(cells, pa.large_binary()), "words": [f"row {n}" for n in range(len(cells))]})
    pq.write_table(table, sink, write_batch_size=write_batch_size, data_page_size=KIB, **options)
    return sink


def test_a_column_with_a_dictionary_is_as_large_as_its_values(tmp_path: Path) -> None:
    """As pandas writes a category; a slice of it holds all of the dictionary."""
    words = [f"{n} " * 300 for n in range(9000)]
    table = pa.table({"file": ["1.png"] * 9000, "words": pa.array(words).dictionary_encode()})
    pq.write_table(table, tmp_path / "t.parquet")
    assert (tmp_path / "t.parquet").stat().st_size < parquet.MAX_RECORD_BYTES < sum(map(len, words))
    (records,) = tables.records(tables.source_of(tmp_path, "t.parquet", "text"))
    assert [one.value["words"] for one in records if isinstance(one, Raw)] == words


def test_values_that_share_their_beginnings_are_as_large_as_decoded(tmp_path: Path) -> None:
    """A small page may be a thousand large values."""
    value = b"x" * (1 << 20)
    table = pa.table({"file": [value + b"%d" % n for n in range(150)], "words": ["a"] * 150})
    path = tmp_path / "t.parquet"
    encoding = {"file": "DELTA_BYTE_ARRAY", "words": "PLAIN"}
    pq.write_table(table, path, use_dictionary=False, column_encoding=encoding)
    assert path.stat().st_size < 2 << 20
    with path.open("rb") as stream:
        file = pq.ParquetFile(path)
        assert pages.batch_rows(stream, file, 0, ["file", "words"]) << 20 <= pages.BATCH_BYTES


def limit(patch: pytest.MonkeyPatch) -> None:
    """As if a process had little memory."""
    patch.setattr(pages, "EVEN_BYTES", 16 * KIB)
    patch.setattr(pages, "BATCH_BYTES", 64 * KIB)
    patch.setattr(parquet, "MAX_RECORD_BYTES", 16 * KIB)


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    limit(monkeypatch)


@settings(deadline=None, max_examples=60)
@given(
    SIZES,
    st.fixed_dictionaries(
        {
            "compression": st.sampled_from(["none", "snappy", "zstd"]),
            "data_page_version": st.sampled_from(["1.0", "2.0"]),
            "use_dictionary": st.booleans(),
            "distinct": st.booleans(),
            "write_batch_size": st.sampled_from([1, 1024]),
        }
    ),
)
@example([10] * 1000 + [20_000] * 30, {"write_batch_size": 1})
@example([20_000] * 30 + [10] * 1000, {"write_batch_size": 1024, "use_dictionary": False})
@example([2000] * 3000, {"distinct": False, "compression": "zstd"})
def test_a_batch_is_small_however_uneven_the_rows_are(sizes: list[int], options: dict[str, Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        limit(patch)
        stream = stored(sizes, **options)
        rows = pages.batch_rows(stream, pq.ParquetFile(stream), 0, ["file", "words"])
        largest = max(sum(sizes[at : at + rows]) for at in range(len(sizes)))
        assert rows == 1 or largest <= max(pages.EVEN_BYTES, 3 * pages.BATCH_BYTES)


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_short_rows_are_read_many_at_once(small_limits: None, version: str) -> None:
    stream = stored([100] * 2000, use_dictionary=False, data_page_version=version)
    assert 300 < pages.batch_rows(stream, pq.ParquetFile(stream), 0, ["file", "words"]) < 700


def test_lists_that_go_on_over_many_pages_are_read_one_by_one(small_limits: None) -> None:
    sink = io.BytesIO()
    table = pa.table({"file": [["x" * 100] * 10] * 300 + [["y" * 20] * 1000] * 3})
    pq.write_table(table, sink, data_page_size=KIB, write_batch_size=10, use_dictionary=False)
    assert pages.batch_rows(sink, pq.ParquetFile(sink), 0, ["file"]) == 1


@settings(max_examples=300)
@given(st.binary(max_size=60))
@example(b"\x1c" * 5000)
@example(b"\x15\x00\x15\x01\x15\x02\x00")  # a size of -1
def test_no_header_of_a_page_is_too_odd(data: bytes) -> None:
    page = pages._page(io.BytesIO(data), 0)
    assert page is None or min(page) >= 0


@pytest.mark.usefixtures("small_limits")
@pytest.mark.parametrize("modality", ["image", "text"])
@pytest.mark.parametrize("sizes", [[10] * 700 + [20_000] * 9 + [10] * 300, [900] * 800, [70_000] * 5])
def test_reading_from_any_cursor_gives_the_same_batches(tmp_path: Path, modality: str, sizes: list[int]) -> None:
    (tmp_path / "t.parquet").write_bytes(stored(sizes, use_dictionary=False).getvalue())
    fields = {"fields": {"text": "{file}"}} if modality == "text" else {}
    source = tables.source_of(tmp_path, "t.parquet", modality, **fields)
    ((cut,), _) = tables.cuts_of(source)
    whole = tables.batches(source, cut)
    found = [record for batch in whole for record in batch.records]
    assert [record.row for record in found] == list(range(len(sizes)))
    if modality == "image":
        held = [[len(record.data) for record in batch.records if isinstance(record, Raw)] for batch in whole]
        assert all(len(batch) == 1 or sum(batch) <= parquet.MAX_RECORD_BYTES for batch in held)
        assert [len(getattr(record, "data", b"")) for record in found] == [
            size + len(str(n)) for n, size in enumerate(sizes)
        ]
    assert len(whole) > 2
    for number in range(0, len(whole) - 1, max(1, len(whole) // 7)):
        assert tables.batches(source, cut, whole[number].cursor) == whole[number + 1 :]


def test_rows_that_no_process_can_hold_are_told_and_those_beside_them_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "EVEN_BYTES", 16 * KIB)
    monkeypatch.setattr(pages, "PAGE_BYTES", 64 * KIB)
    table = pa.table({"file": [b"x" * 10] * 4 + [b"y" * 30_000] * 4, "words": [f"row {n}" for n in range(8)]})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=4, use_dictionary=False)
    (small, large) = tables.records(tables.source_of(tmp_path, "t.parquet"))
    assert [record.value["words"] for record in small if not isinstance(record, Bad)] == [f"row {n}" for n in range(4)]
    assert [(record.row, record.reason) for record in large if isinstance(record, Bad)] == [
        (row, "record_too_large") for row in range(4, 8)
    ]
    assert "fewer rows in a group" in str(large[0])


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_a_parquet_of_paths_is_cut_inside_its_row_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: pa.DataType
) -> None:
    monkeypatch.setattr(parquet, "_NAMED_ROWS", 100)
    names = pa.array([f"{n}.jpg" for n in range(1000)]).cast(kind)
    pq.write_table(pa.table({"file": names, "words": names}), tmp_path / "t.parquet", row_group_size=450)
    source = tables.source_of(tmp_path, "t.parquet")
    cuts, _ = tables.cuts_of(source)
    assert [before.stop for before in cuts[:-1]] == [after.start for after in cuts[1:]]
    blocks = tables.records(source)
    assert [len(block) for block in blocks] == [100, 100, 100, 100, 50] * 2 + [100]
    assert [record.row for block in blocks for record in block] == list(range(1000))
    assert all(f"{record.row}.jpg: there is no such file" in str(record) for block in blocks for record in block)


def test_a_parquet_of_bytes_is_cut_by_its_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_NAMED_ROWS", 100)
    pq.write_table(pa.table({"file": [b"x"] * 1000, "words": ["w"] * 1000}), tmp_path / "t.parquet", row_group_size=450)
    assert [len(block) for block in tables.records(tables.source_of(tmp_path, "t.parquet"))] == [450, 450, 100]
