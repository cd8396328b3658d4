import csv
import io
import json
from collections.abc import Callable
from typing import BinaryIO

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from omni_ray.counting import count_csv_records, count_json_entries, count_lines
from omni_ray.errors import DataError

CHUNKS = st.integers(64, 4096) | st.integers(1, 8)
Counter = Callable[[BinaryIO, str], int]


def count_csv(stream: BinaryIO, name: str, chunk_bytes: int = 1 << 20) -> int:
    return count_csv_records(stream, name, "wav,text", chunk_bytes)


@given(st.text("ab é\t\n", min_size=1).filter(lambda text: text.strip("\n")), st.sampled_from(["\n", "\r\n"]), CHUNKS)
def test_lines(text: str, end: str, chunk: int) -> None:
    data = text.replace("\n", end).encode()
    assert count_lines(io.BytesIO(data), "x", chunk) == len([line for line in data.splitlines() if line])


@given(st.lists(st.tuples(st.text('a,"\n', min_size=1), st.text('b"\n,é')), min_size=1, max_size=60), CHUNKS)
def test_csv_records(rows: list[tuple[str, str]], chunk: int) -> None:
    sink = io.StringIO(newline="")
    csv.writer(sink).writerows([("wav", "text"), *rows])
    assert count_csv(io.BytesIO(sink.getvalue().encode()), "x", chunk) == len(rows)


@given(st.text('a,"\r\n', max_size=40), CHUNKS)
@example('a,"b\n', 7)
@example('a,"b"c\n', 7)
@example("a,b\rc\n", 7)
def test_a_csv_is_counted_as_the_csv_module_does_or_refused(body: str, chunk: int) -> None:
    try:
        found = count_csv(io.BytesIO(f"wav,text\n{body}".encode()), "x", chunk)
    except DataError:
        return  # what is refused is below; here only that no count is wrong
    rows = list(csv.reader(io.StringIO(body, newline=""), strict=True))
    assert found == len([row for row in rows if row])


VALUES = st.text('[]{},"\\é', max_size=20) | st.lists(st.integers(0, 99), max_size=4)
ENTRIES = st.lists(st.dictionaries(st.text('k"\\', max_size=5), VALUES, max_size=4), min_size=1, max_size=8)


@given(ENTRIES, CHUNKS)
def test_json_entries(entries: list[dict[str, object]], chunk: int) -> None:
    for indent in (None, 1):
        data = json.dumps(entries, ensure_ascii=False, indent=indent).encode()
        assert count_json_entries(io.BytesIO(data), "x", chunk) == len(entries)


@given(ENTRIES, st.data(), st.sampled_from(["", ",", "]", "[", "{", "}", '"', "1", "x"]), CHUNKS)
def test_a_damaged_array_is_never_miscounted(
    entries: list[dict[str, object]], data: st.DataObject, put: str, chunk: int
) -> None:
    text = json.dumps(entries)
    start = data.draw(st.integers(0, len(text)))
    stop = data.draw(st.sampled_from([start, min(start + 1, len(text)), len(text)]))
    damaged = text[:start] + put + text[stop:]
    try:
        value = json.loads(damaged)
    except ValueError:
        value = None
    try:
        found = count_json_entries(io.BytesIO(damaged.encode()), "x", chunk)
    except DataError:
        assert not (isinstance(value, list) and value and all(isinstance(one, dict) for one in value))
        return
    if value is not None:  # else the damage lies inside an entry, which its reader meets
        assert isinstance(value, list)
        assert found == len(value)


@given(ENTRIES, st.data(), CHUNKS)
def test_an_array_that_is_cut_off_is_refused(entries: list[dict[str, object]], data: st.DataObject, chunk: int) -> None:
    text = json.dumps(entries).encode()
    cut = data.draw(st.integers(0, len(text) - 1))
    with pytest.raises(DataError, match=r"cut off|empty"):
        count_json_entries(io.BytesIO(text[:cut]), "x", chunk)


BAD: list[tuple[Counter, bytes, str]] = [
    (count_lines, b"", "is empty"),
    (count_lines, b"\n\r\n\n", "empty lines only"),
    (count_lines, b"\xef\xbb\xbfone\n", "UTF-8 byte order mark"),
    (count_lines, "one\n".encode("utf-16"), "UTF-16 byte order mark"),
    (count_csv, b"", "is empty"),
    (count_csv, b"wav,text\n", "its header and no record"),
    (count_csv, b"wav,text", "its header and no record"),
    (count_csv, b"wav,text\n\n\n", "its header and no record"),
    (count_csv, b"text,wav\nx,a.flac\n", "begins with 'text,wav'; the first line must be the header 'wav,text'"),
    (count_csv, b"a.flac,hello\n", "begins with 'a.flac,hello'"),
    (count_csv, b"\xef\xbb\xbfwav,text\na,b\n", "UTF-8 byte order mark"),
    (count_csv, b'wav,text\na,"b\n', "record 1 ends inside a quoted field"),
    (count_csv, b'wav,text\na,b\na,b"c\n', "record 2 has a quote inside a field"),
    (count_csv, b'wav,text\na,"b"c\n', "record 1 has a quote inside a field"),
    (count_csv, b"wav,text\na,b\rc,d\n", "carriage return without a newline"),
    (count_json_entries, b"", "is empty"),
    (count_json_entries, b" \n ", "holds no entry"),
    (count_json_entries, b"[]", "holds no entry"),
    (count_json_entries, b'\xef\xbb\xbf[{"image": "a"}]', "UTF-8 byte order mark"),
    (count_json_entries, b'[{"image": "a"}, {"ima', "entry 3 is not whole: the file is cut off"),
    (count_json_entries, b'[{"image": "a"},', "entry 2 is not whole: the file is cut off"),
    (count_json_entries, b'[{"image": "a"}', "the file is cut off"),
    (count_json_entries, b'{"images": [{"image": "a"}]}', "is a JSON object; one array"),
    (count_json_entries, b'[{"image": "a"} {"image": "b"}]', "one comma"),
    (count_json_entries, b'[{"image": "a"},,{"image": "b"}]', "one comma"),
    (count_json_entries, b'[{"image": "a"},]', "is not an object"),
    (count_json_entries, b"[1, 2]", "is not an object"),
    (count_json_entries, b'[["a"]]', "is not an object"),
    (count_json_entries, b'[{"image": "a"}][]', "goes on after the end"),
    (count_json_entries, b"image,caption\n", "is not a JSON array"),
]


@pytest.mark.parametrize("chunk", [1, 5, 1 << 20])
@pytest.mark.parametrize(
    ("counter", "data", "message"), BAD, ids=lambda value: None if callable(value) else repr(value)
)
def test_bad_files_are_named_and_explained(counter: Counter, data: bytes, message: str, chunk: int) -> None:
    with pytest.raises(DataError, match=f"data/x.*{message}".replace("(", r"\(")):
        counter(io.BytesIO(data), "data/x", chunk)  # type: ignore[call-arg]
