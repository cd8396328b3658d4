"""Bytes that are no text, no JSON or no table; records that are far too large or far too many."""

import csv
import gzip
import io
import itertools
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from omni_ray.errors import DataError
from omni_ray.prepare import readers, sources
from omni_ray.prepare.readers.streams import MAX_RECORD_BYTES, STEP_RECORDS
from tests.prepare.hostile import files, reading
from tests.prepare.hostile.client import Worker
from tests.prepare.hostile.run import prepare, write_catalog

GOOD = b"a line that is long enough"
MB = 1_000_000


def test_bytes_that_are_no_text(worker: Worker, tmp_path: Path) -> None:
    lines = [
        GOOD, b"latin \xe9t\xe9 is not utf-8", b"nul \0 inside is taken out", b"\xc0\xafoverlong slash here",
        b"\xed\xa0\x80 surrogate encoded here", b"\xf4\x90\x80\x80 beyond unicode here", b"\x00" * 20, b"",
        b"\xef\xbb\xbfmark in the middle", b"c1 \xc2\x85 next line char",
    ]  # fmt: skip
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + b"\n".join(lines))
    outcome = prepare(worker, tmp_path, "a.txt", "lines")
    assert outcome.rows_in == sum(bool(line) for line in lines)
    assert outcome.quarantined == {"undecodable": 4}
    assert outcome.dropped == {"min_chars": 1}
    assert outcome.corpus == [
        GOOD.decode(), "nul inside is taken out", "\ufeffmark in the middle", "c1 next line char"
    ]  # fmt: skip
    starts = [3 + sum(len(line) + 1 for line in lines[:number]) for number in (1, 3, 4, 5)]
    assert [entry["row"] for entry in outcome.quarantine] == starts


def test_mixed_line_ends(worker: Worker, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(
        b"first line of it\r\nsecond line of it\nthird\rstill the third\r\r\n\n\r\nlast line"
    )
    outcome = prepare(worker, tmp_path, "a.txt", "lines")
    assert outcome.corpus == ["first line of it", "second line of it", "third still the third", "last line"]
    assert outcome.rows_in == 4


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r"])
def test_csv_with_any_line_end(worker: Worker, tmp_path: Path, end: str) -> None:
    sink = io.StringIO(newline="")
    csv.writer(sink, lineterminator=end).writerows([["id", "words"], *enumerate(files.TEXTS)])
    (tmp_path / "a.csv").write_bytes(sink.getvalue().encode())
    assert prepare(worker, tmp_path, "a.csv", "table").corpus == files.TEXTS


def test_csv_with_everything_in_its_cells(worker: Worker, tmp_path: Path) -> None:
    cells = [
        'he said "quoted words" twice', "two\nlines in one cell", "three\r\nlines, a comma\rin one",
        'ends with a quote"', "nul \0 in a cell here", "plain words in a cell", " spaces all around ",
        '"""starts with three of them',
    ]  # fmt: skip
    sink = io.StringIO(newline="")
    csv.writer(sink, quoting=csv.QUOTE_ALL).writerows([["id", "words"], *enumerate(cells)])
    text = "\ufeff" + sink.getvalue() + '9,lenient "quote in the middle,\r\n10\r\n\r\n11,too,many\r\n'
    (tmp_path / "a.csv").write_bytes(text.encode() + b"12,\xff\xfe no text here\r\n13,last row without an end")
    with io.StringIO(text, newline="") as again:
        independent = sum(1 for row in csv.reader(again) if row) - 1 + 2
    outcome = prepare(worker, tmp_path, "a.csv", "table")
    assert outcome.rows_in == independent
    assert outcome.quarantined == {"bad_csv": 3, "undecodable": 1}
    assert outcome.corpus[:8] == [" ".join(cell.replace("\0", "").split()) for cell in cells]
    assert outcome.corpus[8:] == ["last row without an end"]


def test_a_quote_that_never_closes_is_one_bad_record(worker: Worker, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'id,words\n1,fine words here\n2,"never closed\n3,more words here\n')
    outcome = prepare(worker, tmp_path, "a.csv", "table")
    assert outcome.corpus == ["fine words here"]
    assert [(entry["row"], entry["reason"]) for entry in outcome.quarantine] == [(27, "bad_csv")]


JSON_RECORDS = [  # a record, and what becomes of it: its line, or the reason
    ('{"words": "plain words here"}', "plain words here"),
    ('{"words": "the first", "words": "the second of two keys"}', "the second of two keys"),
    ('{"words": NaN, "x": -Infinity}', "min_chars"),
    ('{"words": "a lone \\ud800 surrogate"}', "undecodable"),
    ('{"words": "a pair \\ud83d\\ude00 of them"}', "a pair 😀 of them"),
    ('{"words": "nul \\u0000 and bell \\u0007 out"}', "nul and bell out"),
    ('{"words": "two\\nlines\\r\\nof it"}', "two lines of it"),
    ('{"words": 123456789012345678901234567890}', "123456789012345678901234567890"),
    ('{"words": ' + "9" * 5000 + "}", "bad_json"),
    ('{"words": 1e999999}', "min_chars"),
    ('{"words": -0.0000000001234}', "-1.234e-10"),
    ('{"words": null}', "missing_field"),
    ('{"other": 1}', "missing_field"),
    ('{"words": ["a list", {"of": "things"}]}', '["a list", {"of": "things"}]'),
    ('{"words": true, "x": ' + "[" * 100_000 + "]" * 100_000 + "}", "bad_json"),
    ('{"words": ' + "[" * 100_000 + "]" * 100_000 + "}", "bad_json"),
    ('{"words": ' + '{"a":' * 100_000 + "1" + "}" * 100_000 + "}", "bad_json"),
    ('{"words": "unclosed', "bad_json"),
    ('{"words": "trailing"} x', "bad_json"),
    ("[1, 2]", "bad_json"),
    ('"words"', "bad_json"),
    ("{'words': 'python'}", "bad_json"),
    ('{"words": "\\x"}', "bad_json"),
    ('{"words": "tab\tinside it"}', "bad_json"),
]


def expected(records: list[tuple[str, str]]) -> tuple[list[str], dict[str, int], dict[str, int]]:
    """Lines, drops and quarantined records that JSON_RECORDS promise."""
    lines, dropped, quarantined = [], {}, {}
    for _, outcome in records:
        if outcome == "min_chars":
            dropped[outcome] = dropped.get(outcome, 0) + 1
        elif outcome in ("undecodable", "bad_json", "missing_field"):
            quarantined[outcome] = quarantined.get(outcome, 0) + 1
        else:
            lines.append(outcome)
    return lines, dropped, quarantined


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_json_lines_that_are_none(worker: Worker, tmp_path: Path, name: str) -> None:
    data = "\ufeff" + "\n\n".join(record for record, _ in JSON_RECORDS)
    encoded = data.encode() + b'\n{"words": "\xff"}'
    (tmp_path / name).write_bytes(gzip.compress(encoded) if name.endswith(".gz") else encoded)
    lines, dropped, quarantined = expected([*JSON_RECORDS, ("", "undecodable")])
    outcome = prepare(worker, tmp_path, name, "table")
    assert outcome.rows_in == len(JSON_RECORDS) + 1
    assert (outcome.corpus, outcome.dropped, outcome.quarantined) == (lines, dropped, quarantined)


def test_json_arrays_with_elements_that_are_none(worker: Worker, tmp_path: Path) -> None:
    records = [(record, what) for record, what in JSON_RECORDS if record != '{"words": "unclosed']
    data = "\ufeff [" + ",\n".join(record for record, _ in records) + "]\r\n"
    (tmp_path / "a.json").write_bytes(data.encode())
    outcome = prepare(worker, tmp_path, "a.json", "table")
    assert outcome.rows_in == len(records)
    assert (outcome.corpus, outcome.dropped, outcome.quarantined) == expected(records)


@pytest.mark.parametrize("depth", [90, 110, 300, 800, 950, 990, 1100])
def test_nesting_near_every_limit(worker: Worker, tmp_path: Path, depth: int) -> None:
    nested = '{"words": "enough words", "x": ' + "[" * depth + "]" * depth + "}"
    wanted = '{"words": ' + "[" * depth + '"enough words"' + "]" * depth + "}"
    (tmp_path / "a.jsonl").write_text(nested + "\n" + wanted + '\n{"words": "one more at the end"}\n')
    outcome = prepare(worker, tmp_path, "a.jsonl", "table")
    assert outcome.rows_in == 3
    assert set(outcome.quarantined) <= {"bad_json"}
    assert outcome.corpus[-1] == "one more at the end"


@pytest.mark.parametrize("more", [b"]", b" [1]", b'{"words": "left behind"}', b"\0"])
def test_what_follows_a_json_array_is_told(worker: Worker, tmp_path: Path, more: bytes) -> None:
    (tmp_path / "a.json").write_bytes(b'[{"words": "one two three"}, {"words": "four five six"}]\n' + more)
    outcome = prepare(worker, tmp_path, "a.json", "table")
    assert outcome.corpus == ["one two three", "four five six"]
    assert outcome.quarantined == {"corrupt": 1}


def test_parquet_of_odd_columns(worker: Worker, tmp_path: Path) -> None:
    words = [b"plain bytes here", b"\xff\xfe are no text", None, b"more bytes here"]
    pq.write_table(pa.table({"words": pa.array(words, pa.binary())}), tmp_path / "a.parquet")
    outcome = prepare(worker, tmp_path, "a.parquet", "table")
    assert outcome.corpus == ["plain bytes here", "more bytes here"]
    assert outcome.quarantined == {"undecodable": 1, "missing_field": 1}


def test_one_string_that_is_no_text_leaves_the_others_of_its_row_group(worker: Worker, tmp_path: Path) -> None:
    data = files.parquet(["the first record", "the sXcond record", "the third record"])
    pq.write_table(pq.read_table(io.BytesIO(data)), tmp_path / "a.parquet", compression="none", use_dictionary=False,
                   column_encoding={"words": "PLAIN", "id": "PLAIN"}, write_statistics=False)  # fmt: skip
    whole = (tmp_path / "a.parquet").read_bytes()
    assert whole.count(b"sXcond") == 1
    (tmp_path / "a.parquet").write_bytes(whole.replace(b"sXcond", b"s\xffcond"))
    outcome = prepare(worker, tmp_path, "a.parquet", "table")
    assert outcome.corpus == ["the first record", "the third record"]
    assert [(entry["row"], entry["reason"]) for entry in outcome.quarantine] == [(1, "undecodable")]


def test_a_parquet_file_that_lacks_the_column(worker: Worker, tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(files.parquet())
    pq.write_table(pa.table({"id": range(50)}), tmp_path / "b.parquet", row_group_size=20)
    answer = worker.ask(action="prepare", catalog=str(write_catalog(tmp_path, "?.parquet", "table")),
                        out=str(tmp_path / "out"), arguments=[])  # fmt: skip
    assert (answer["code"], answer["kept"], answer["quarantined"], answer["rows_in"]) == (0, 100, 50, 150)
    assert {entry["reason"] for entry in answer["quarantine"]} == {"missing_field"}


def test_a_damaged_row_group_is_one_bad_record_a_row(worker: Worker, tmp_path: Path) -> None:
    data = bytearray(files.parquet(row_group_size=10))
    meta = pq.ParquetFile(io.BytesIO(bytes(data))).metadata
    column = meta.row_group(3).column(1)
    start = column.dictionary_page_offset or column.data_page_offset
    data[start : start + column.total_compressed_size] = b"\xaa" * column.total_compressed_size
    (tmp_path / "a.parquet").write_bytes(bytes(data))
    outcome = prepare(worker, tmp_path, "a.parquet", "table")
    assert outcome.rows_in == 100
    assert outcome.quarantined == {"corrupt": 10}
    assert [entry["row"] for entry in outcome.quarantine] == list(range(30, 40))
    assert outcome.corpus == files.TEXTS[:30] + files.TEXTS[40:]


WORDS = b"word " * (20 * MB)  # 100 MB in one line
HUGE = {
    "lines": ("a.txt", "lines", GOOD + b"\n" + WORDS + b"\n" + GOOD + b" too"),
    "jsonl": ("a.jsonl", "table", files.jsonl(["the first one"]) + b'{"words": "' + WORDS + b'"}\n'
              + files.jsonl(["the last one"])),
    "json": ("a.json", "table", b'[{"words": "the first one"}, {"words": "' + WORDS
             + b'"}, {"words": "the last one"}]'),
    "json escapes": ("a.json", "table", b'[{"words": "the first one"}, {"words": "' + b'\\"' * (20 * MB)
                     + b'"}, {"words": "the last one"}]'),
    "json nested": ("a.json", "table", b'[{"words": "the first one"}, {"words": [' + b"[]," * (3 * MB)
                    + b'[]]}, {"words": "the last one"}]'),
    "csv": ("a.csv", "table", b"id,words\n1,the first one\n2," + WORDS + b"\n3,the last one\n"),
    "document": ("docs.tar", "documents", files.tar({"a.txt": GOOD, "b.txt": WORDS, "c.txt": GOOD + b" too"})),
    "gz": ("a.txt.gz", "lines", gzip.compress(GOOD + b"\n" + WORDS + b"\n" + GOOD + b" too")),
    "zip": ("docs.zip", "documents", files.zipped({"a.txt": GOOD, "b.txt": WORDS, "c.txt": GOOD + b" too"})),
}  # fmt: skip


@pytest.mark.parametrize("what", [pytest.param(one, marks=pytest.mark.slow if "json " in one else []) for one in HUGE])
def test_a_record_of_100_mb_is_told_and_those_beside_it_kept(worker: Worker, tmp_path: Path, what: str) -> None:
    name, reader, data = HUGE[what]
    (tmp_path / name).write_bytes(data)
    outcome = prepare(worker, tmp_path, name, reader)
    assert outcome.rows_in == 3
    assert outcome.kept == len(outcome.corpus) == 2
    assert outcome.quarantined == {"record_too_large": 1}


@pytest.mark.slow
@pytest.mark.long
def test_a_quote_that_stays_open_over_100_mb(worker: Worker, tmp_path: Path) -> None:
    """After 8 MiB that hold no end of the record, the next line is taken for the beginning of one."""
    row, count = b"2,words of a row\n", 100 * MB // 17
    begun = b'1,"never closed\n'
    (tmp_path / "a.csv").write_bytes(b"id,words\n" + begun + row * count)
    lost = (MAX_RECORD_BYTES - len(begun)) // len(row) + 1  # lines up to the one with which it is too large
    outcome = prepare(worker, tmp_path, "a.csv", "table", "block_bytes = 4000000")
    assert outcome.quarantined == {"record_too_large": 1}
    assert outcome.kept == count - lost
    assert outcome.corpus == ["words of a row"]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.txt", b"ab " * (8 * MB // 3) + "😀".encode()),
        ("a.jsonl", b'{"words": [' + b'{"a":0.5},' * (8 * MB // 11) + b"{}]}"),
        ("a.csv", b"id,words\n1," + b"ab," * (8 * MB // 3)),
        ("b.jsonl", b'{"words": [' + b"[]," * (8 * MB // 3) + b"[]]}"),
        pytest.param("a.json", b'[{"words": 1},' + b"{}," * MB + b"{}]", marks=pytest.mark.long),
    ],
)
@pytest.mark.slow
def test_the_largest_records_that_are_taken(worker: Worker, tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    outcome = prepare(worker, tmp_path, name, "lines" if name == "a.txt" else "table")
    assert outcome.rows_in == (MB + 2 if name == "a.json" else 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "reason"), [pytest.param(b"{\n", "bad_json", marks=pytest.mark.long), (b"\xff\n", "undecodable")]
)
def test_millions_of_bad_records(worker: Worker, tmp_path: Path, line: bytes, reason: str) -> None:
    name, reader = ("a.jsonl", "table") if reason == "bad_json" else ("a.txt", "lines")
    (tmp_path / name).write_bytes(line * (2 * MB))
    outcome = prepare(worker, tmp_path, name, reader)
    assert outcome.quarantined == {reason: 2 * MB}


@pytest.mark.slow
def test_millions_of_short_lines(worker: Worker, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"".join(b"%08d\n" % number for number in range(2 * MB)) + b"1\n" * MB)
    outcome = prepare(worker, tmp_path, "a.txt", "lines")
    assert (outcome.kept, outcome.dropped) == (2 * MB, {"min_chars": MB})


def test_a_dictionary_that_makes_a_thousandfold_of_a_parquet_file(worker: Worker, tmp_path: Path) -> None:
    text = "w" * 500_000  # half a megabyte, 3,000 times
    pq.write_table(pa.table({"words": pa.array([text] * 300 + ["a short one"] * 2700)}).combine_chunks(),
                   tmp_path / "a.parquet", compression="zstd")  # fmt: skip
    assert (tmp_path / "a.parquet").stat().st_size < 500_000
    source = reading.source_of(tmp_path, "a.parquet", "table")
    (file,) = sources.expand(source)
    for batch in readers.read_cut(source, file, reading.index(source, file, 1 << 30)[0][0], [], b"", None):
        assert sum(len(getattr(record, "value", {"words": ""})["words"]) for record in batch.records) <= 64 << 20
    outcome = prepare(worker, tmp_path, "a.parquet", "table", "rules = { max_symbol_ratio = 0.0, min_chars = 600000 }")
    assert (outcome.rows_in, outcome.dropped) == (3000, {"min_chars": 3000})


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.txt.gz"])
def test_a_file_that_changed_is_not_read(tmp_path: Path, name: str) -> None:
    reader, data = files.sound()[name]
    (tmp_path / name).write_bytes(data)
    source = reading.source_of(tmp_path, name, reader)
    (file,) = sources.expand(source)
    cuts, members, points = reading.index(source, file, 1 << 30)
    with pytest.raises(DataError, match=f"{name}: changed since this run planned with it"):
        for _ in readers.read_cut(source, file, cuts[0], members, points, None, step_bytes=100):
            (tmp_path / name).write_bytes(data + b"\n")  # while it is read
    with pytest.raises(DataError, match="--update --dataset s"):
        reading.index(source, file, 1 << 30) if name != "a.txt" else list(
            readers.read_cut(source, file, cuts[0], members, points, None)
        )


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.json"])
def test_batches_of_very_short_records_are_small_and_the_same_from_every_cursor(tmp_path: Path, name: str) -> None:
    reader = "lines" if name == "a.txt" else "table"
    head = {"a.txt": b"", "a.csv": b"words\n", "a.json": b'[{"words":1},'}[name]
    tail = b"1]" if name == "a.json" else b""
    (tmp_path / name).write_bytes(head + (b"1," if name == "a.json" else b"1\n\n") * 400_000 + tail)
    source = reading.source_of(tmp_path, name, reader)
    (file,) = sources.expand(source)
    (cut,), members, points = reading.index(source, file, 1 << 30)
    whole = list(readers.read_cut(source, file, cut, members, points, None))
    sizes = [len(batch.records) for batch in whole]
    assert max(sizes) <= STEP_RECORDS + 1
    assert sum(sizes) == 400_000 + (2 if name == "a.json" else 0)
    for before, after in itertools.pairwise(whole):
        again = next(readers.read_cut(source, file, cut, members, points, before.cursor))
        assert again == after


@pytest.fixture(autouse=True)
def a_process_of_its_own(request: pytest.FixtureRequest, worker: Worker) -> None:
    """What a test before left in the allocator is not this one's memory."""
    if request.node.get_closest_marker("slow"):
        worker.stop()
