"""Mutated files of every layout: never a crash, never a hang, and the same records however the file is read.

Each example is read in a process of its own under a watchdog: whole, by cuts, in small steps, and broken off after
every batch and gone on from its cursor. Where records can be counted without the readers, the count must be theirs.
"""

import csv
import gzip
import io
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.prepare.hostile import files
from tests.prepare.hostile.client import Worker
from tests.prepare.hostile.run import MEMORY_MB

SHARED = Path(__file__).resolve().parents[4] / "shared/data/text"
HANG = 60.0  # seconds for one example, which takes a hundredth of it


class Layout(NamedTuple):
    """A sound file to be mutated. `name` is what it is stored as."""

    name: str
    reader: str
    data: bytes
    text: str = "{words}"


class Mutation(NamedTuple):
    """One change of a file's bytes; places are shares of its length, so that they fit whatever was changed before."""

    kind: str
    place: float
    count: int
    filler: bytes


def generated() -> dict[str, Layout]:
    layouts = {name: Layout(name, reader, data) for name, (reader, data) in files.sound().items()}
    lines = layouts["a.txt"].data
    members = {"a.csv": files.table_csv(), "b.jsonl": files.jsonl(), "c.parquet": files.parquet()}
    more = {
        "long document": Layout("a.txt", "documents", lines),
        "gzip document": Layout("a.txt.gz", "documents", gzip.compress(lines)),
        "several gzip streams": Layout("a.txt.gz", "lines", gzip.compress(lines) * 3),
        "stored gzip": Layout("a.jsonl.gz", "table", gzip.compress(files.jsonl(), compresslevel=0)),
        "lines in tar": Layout("a.tar", "lines", files.tar({"a.txt": lines, "b.txt": lines})),
        "lines in tar.gz": Layout("a.tar.gz", "lines", gzip.compress(files.tar({"a.txt": lines, "b.txt": lines}))),
        "tables in tar.gz": Layout("a.tar.gz", "table", gzip.compress(files.tar(members))),
        "bz2 in zip": Layout("a.zip", "table", files.zipped(members, zipfile.ZIP_BZIP2)),
        "lzma in zip": Layout("a.zip", "table", files.zipped(members, zipfile.ZIP_LZMA)),
        "stored in zip": Layout("a.zip", "table", files.zipped(members, zipfile.ZIP_STORED)),
        "json lines in .json": Layout("a.json", "table", files.jsonl()),
    }
    return layouts | more


def real() -> dict[str, Layout]:
    """Real files, the long ones cut to their beginning."""
    found = [
        ("tinyshakespeare.txt", "lines", "", 30_000),
        ("gsm8k-train.jsonl", "table", "{question} {answer}", 50_000),
        ("apibench-torchhub.jsonl", "table", "{api_call} {code}", 50_000),
        ("gsm8k-socratic-00000-of-00001.parquet", "table", "{question} {answer}", None),
        ("inaugural.tar.gz", "documents", "", None),
        ("state_union.zip", "documents", "", None),
        ("wikitext2-valid.txt", "documents", "", 30_000),
    ]
    return {
        f"real {name}": Layout(name, reader, (SHARED / name).read_bytes()[:size], text)
        for name, reader, text, size in found
        if (SHARED / name).exists()
    }


LAYOUTS = generated() | real()
SPECIAL = [
    b'"',
    b"\n",
    b"\r",
    b",",
    b"[",
    b"]",
    b"{",
    b"}",
    b"\\",
    b"\xef\xbb\xbf",
    b"\0",
    b"\xed\xa0\x80",
    b"PK\x01\x02",
]
PLACES = st.one_of(st.floats(0, 1), st.floats(0, 0.02), st.floats(0.98, 1))
MUTATIONS = st.lists(
    st.builds(
        Mutation,
        kind=st.sampled_from(["flip", "cut", "insert", "double", "drop", "fill", "append"]),
        place=PLACES,
        count=st.sampled_from([1, 2, 4, 8, 16, 100, 512, 1024, 5000]),
        filler=st.one_of(st.sampled_from(SPECIAL), st.binary(min_size=1, max_size=16)),
    ),
    min_size=1,
    max_size=4,
)


def mutate(data: bytes, mutations: list[Mutation]) -> bytes:
    changed = bytearray(data)
    for kind, place, count, filler in mutations:
        at = int(place * len(changed))
        long = (filler * count)[:count] if kind == "fill" else filler
        if kind == "flip" and at < len(changed):
            changed[at] ^= 1 << (count % 8)
        elif kind == "cut":
            del changed[at:]
        elif kind == "insert":
            changed[at:at] = long
        elif kind == "double":
            changed[at:at] = changed[at : at + count]
        elif kind == "drop":
            del changed[at : at + count]
        elif kind == "fill":
            changed[at : at + count] = long
        elif kind == "append":
            changed += long
    return bytes(changed)


def independent_count(layout: Layout, data: bytes) -> int | None:
    """Records of a plain file, counted by the standard library; None for a layout that it does not tell."""
    if layout.reader == "documents" and layout.name.endswith(".txt"):
        return 1
    data = data.removeprefix(b"\xef\xbb\xbf")
    if layout.name.endswith(".jsonl"):
        return sum(1 for line in data.split(b"\n") if line and not line.isspace())
    if layout.name.endswith(".txt"):
        texts = (line.decode("utf-8", "surrogateescape") for line in data.split(b"\n"))
        return sum(1 for text in texts if text and not text.isspace())
    if layout.name in ("a.csv", "a.tsv"):
        text = io.StringIO(data.decode("utf-8", "surrogateescape"), newline="")
        rows = sum(1 for row in csv.reader(text, delimiter="\t" if layout.name == "a.tsv" else ",") if row)
        return max(0, rows - 1)
    return None


def check(worker: Worker, folder: Path, layout: Layout, mutations: list[Mutation], shares: tuple[int, int]) -> None:
    data = mutate(layout.data, mutations)
    (folder / layout.name).write_bytes(data)
    blocks, steps = shares
    answer = worker.ask(
        patience=HANG,
        action="read",
        folder=str(folder),
        name=layout.name,
        reader=layout.reader,
        text=layout.text,
        block_bytes=max(1024, len(layout.data) // blocks),
        step_bytes=max(1, len(layout.data) // steps),
    )
    assert answer["differing"] == []
    assert answer["peak_mb"] < MEMORY_MB
    counted = independent_count(layout, data)
    assert counted in (None, answer["records"])


SHARES = st.tuples(st.sampled_from([1, 3, 10]), st.sampled_from([2, 7, 40]))
QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]


@pytest.mark.parametrize("name", LAYOUTS)
@given(mutations=MUTATIONS, shares=SHARES)
@settings(max_examples=5, deadline=None, derandomize=True, suppress_health_check=QUIET, phases=[Phase.generate])
def test_a_few_mutations(
    worker: Worker, tmp_path: Path, name: str, mutations: list[Mutation], shares: tuple[int, int]
) -> None:
    check(worker, tmp_path, LAYOUTS[name], mutations, shares)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("name", LAYOUTS)
@given(mutations=MUTATIONS, shares=SHARES)
@settings(max_examples=60, deadline=None, suppress_health_check=QUIET)
def test_many_mutations(
    worker: Worker, tmp_path: Path, name: str, mutations: list[Mutation], shares: tuple[int, int]
) -> None:
    check(worker, tmp_path, LAYOUTS[name], mutations, shares)
