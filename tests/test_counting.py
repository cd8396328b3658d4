import csv
import io
import json

from hypothesis import given
from hypothesis import strategies as st

from omni_ray.counting import count_csv_records, count_json_entries, count_lines

CHUNKS = st.integers(64, 4096)


@given(st.lists(st.text("ab é\t", min_size=1).filter(lambda line: line.strip()), min_size=1, max_size=60), CHUNKS)
def test_lines(lines: list[str], chunk: int) -> None:
    data = "\n".join(lines).encode()
    assert count_lines(io.BytesIO(data), "x", chunk) == len(lines)
    assert count_lines(io.BytesIO(data + b"\n"), "x", chunk) == len(lines)


@given(st.lists(st.tuples(st.text('a,"\n', min_size=1), st.text('b"\n,é')), min_size=1, max_size=60), CHUNKS)
def test_csv_records(rows: list[tuple[str, str]], chunk: int) -> None:
    sink = io.StringIO(newline="")
    csv.writer(sink).writerows([("wav", "text"), *rows])
    assert count_csv_records(io.BytesIO(sink.getvalue().encode()), "x", "wav,text", chunk) == len(rows)


@given(st.lists(st.dictionaries(st.text('k"\\'), st.text('[]{},"\\é') | st.lists(st.integers())), min_size=1), CHUNKS)
def test_json_entries(entries: list[dict[str, object]], chunk: int) -> None:
    data = json.dumps(entries, ensure_ascii=False).encode()
    assert count_json_entries(io.BytesIO(data), "x", chunk) == len(entries)
