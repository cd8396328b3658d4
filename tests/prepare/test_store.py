"""Tables as they are read back."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from omni_ray.errors import DataError
from omni_ray.prepare import store

ROOT = Path(__file__).resolve().parents[2]
READS_ONE = """
import os
import pyarrow as pa
from omni_ray.prepare import store
data = store.encode_parquet(pa.table({name: list(range(1000)) for name in "abcdef"}))
before = set(os.listdir("/proc/self/task"))
assert len(store.read_table(data)) == 1000
assert len(store.read_table(data, ["b"])) == 1000
print(len(set(os.listdir("/proc/self/task")) - before))
"""


def test_reading_a_table_begins_no_threads() -> None:
    """One that is at work when Python ends takes the process with it: SIGABRT in the place of the exit code."""
    done = subprocess.run(
        [sys.executable, "-c", READS_ONE], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr


def test_columns_come_as_asked_for() -> None:
    data = store.encode_parquet(pa.table({"a": [1, 2], "b": [3, 4], "c": [5, 6]}))
    assert store.read_table(data).column_names == ["a", "b", "c"]
    assert store.read_table(data, ["c", "a"]).to_pydict() == {"c": [5, 6], "a": [1, 2]}


def test_a_table_of_other_columns_is_damaged() -> None:
    with pytest.raises(DataError, match="somewhere: damaged"):
        store.decode_cuts(store.encode_parquet(pa.table({"a": [1]})), "somewhere")
