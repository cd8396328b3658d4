"""Files that end too early, hold nothing, or are not what their name says."""

import gzip
import io
import zlib
from pathlib import Path

import pytest

from omni_ray.prepare.readers.gzips import ExactGzip
from omni_ray.prepare.readers.streams import Damaged
from tests.prepare.hostile import files, reading
from tests.prepare.hostile.client import Worker
from tests.prepare.hostile.run import prepare

SOUND = files.sound()


@pytest.mark.parametrize("name", SOUND)
def test_sound_files_come_in_whole(worker: Worker, tmp_path: Path, name: str) -> None:
    reader, data = SOUND[name]
    (tmp_path / name).write_bytes(data)
    outcome = prepare(worker, tmp_path, name, reader)
    assert (outcome.rows_in, outcome.kept) == (100, 100)
    assert outcome.corpus == files.TEXTS


@pytest.mark.parametrize("part", [0.01, 0.1, 0.35, 0.7, 0.9, 0.99])
@pytest.mark.parametrize("name", SOUND)
def test_what_comes_before_the_cut_is_kept_and_the_cut_is_told(
    worker: Worker, tmp_path: Path, name: str, part: float
) -> None:
    reader, data = SOUND[name]
    left = data[: int(len(data) * part)]
    (tmp_path / name).write_bytes(left)
    outcome = prepare(worker, tmp_path, name, reader)
    whole, cut = whole_records(name, left), cut_records(name, left)
    if name in ("a.txt", "a.csv", "a.tsv"):  # a last line that was cut is a line too, if it has all its cells
        assert outcome.rows_in == whole + cut
        assert outcome.corpus[:whole] == files.TEXTS[:whole]
        assert set(outcome.quarantined) <= {"bad_csv"}
    elif whole is not None:
        assert outcome.corpus == files.TEXTS[:whole]
        assert outcome.rows_in == whole + cut
        assert sum(outcome.quarantined.values()) == cut
    else:
        assert outcome.corpus == files.TEXTS[: len(outcome.corpus)]
        assert set(outcome.quarantined) <= {"truncated", "corrupt", "bad_json", "bad_csv"}
        in_padding = name == "tables.tar" and outcome.kept == 100
        assert sum(outcome.quarantined.values()) >= (0 if in_padding else 1)


def whole_records(name: str, left: bytes) -> int | None:
    """Records that are all there, counted without the readers; None where that takes a reader of the format."""
    if name in ("a.csv", "a.tsv"):
        return max(0, left.count(b"\n") - 1)
    if name in ("a.txt", "a.jsonl"):
        return left.count(b"\n")
    if name == "a.json":
        return left.count(b"}")
    if name == "docs.tar":  # a header of 512 bytes and a content padded to 512, each
        return sum(1024 * at + 512 + len(text) <= len(left) for at, text in enumerate(files.TEXTS))
    if name in ("a.parquet", "docs.zip"):  # what says where the rest lies is at the end
        return 0
    return None


def cut_records(name: str, left: bytes) -> int:
    """1 where something of a record that is not all there is left, or an end that should be there is not."""
    if name in ("a.csv", "a.tsv") and b"\n" not in left:
        return 0  # a header, or what is left of one
    if name in ("a.txt", "a.jsonl", "a.csv", "a.tsv"):
        return int(not left.endswith(b"\n") and bool(left))
    if name == "docs.tar":
        return int(len(left) < 1024 * 100 + 512)  # an end mark, and nothing but padding behind it
    return 1


@pytest.mark.parametrize("name", SOUND)
def test_empty_files(worker: Worker, tmp_path: Path, name: str) -> None:
    reader, _ = SOUND[name]
    (tmp_path / name).write_bytes(b"")
    outcome = prepare(worker, tmp_path, name, reader)
    assert outcome.kept == 0
    has_no_form = name in ("a.txt", "a.jsonl", "a.json", "a.csv", "a.tsv")  # nothing is a whole file of these
    assert outcome.quarantined == ({} if has_no_form else {"truncated": 1})


def test_an_empty_document_is_too_short(worker: Worker, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"")
    outcome = prepare(worker, tmp_path, "a.txt", "documents")
    assert (outcome.rows_in, outcome.dropped) == (1, {"min_chars": 1})


EMPTY_INSIDE = {
    "a.parquet": ("table", files.parquet([])),
    "a.json": ("table", b" [ ] "),
    "a.jsonl.gz": ("table", gzip.compress(b"")),
    "a.csv": ("table", b"id,words\r\n"),
    "docs.tar": ("documents", files.tar({})),
    "docs.tar.gz": ("documents", gzip.compress(files.tar({}))),
    "docs.zip": ("documents", files.zipped({})),
}


@pytest.mark.parametrize("name", EMPTY_INSIDE)
def test_whole_files_without_records(worker: Worker, tmp_path: Path, name: str) -> None:
    reader, data = EMPTY_INSIDE[name]
    (tmp_path / name).write_bytes(data)
    assert prepare(worker, tmp_path, name, reader).rows_in == 0


WRONG = [  # the name says one thing, the content is another: name, reader, content, reasons
    ("a.jsonl", "table", "a.parquet", {"bad_json", "undecodable"}),
    ("a.txt", "lines", "a.txt.gz", {"undecodable"}),
    ("docs.zip", "documents", "docs.tar", {"truncated"}),
    ("docs.tar", "documents", "docs.zip", {"truncated", "corrupt"}),
    ("docs.tar.gz", "documents", "docs.tar", {"corrupt"}),
    ("a.parquet", "table", "a.jsonl", {"truncated"}),
    ("a.csv.gz", "table", "a.csv", {"corrupt"}),
    ("a.json", "table", "docs.zip", {"bad_json", "undecodable"}),
    ("a.txt", "documents", "docs.tar.gz", {"undecodable"}),
    ("a.jsonl", "table", "a.csv", {"bad_json"}),
]


@pytest.mark.parametrize(("name", "reader", "content", "reasons"), WRONG, ids=[f"{w[2]}-as-{w[0]}" for w in WRONG])
def test_wrong_extension(
    worker: Worker, tmp_path: Path, name: str, reader: str, content: str, reasons: set[str]
) -> None:
    (tmp_path / name).write_bytes(SOUND[content][1])
    outcome = prepare(worker, tmp_path, name, reader)
    assert outcome.kept == 0
    assert set(outcome.quarantined) <= reasons
    assert outcome.quarantined


def cuttable() -> dict[str, tuple[str, bytes]]:
    lines = SOUND["a.txt"][1]
    return {
        "a.txt.gz": SOUND["a.txt.gz"],
        "a.csv.gz": SOUND["a.csv.gz"],
        "a.jsonl.gz": SOUND["a.jsonl.gz"],
        "lines.tar": ("lines", files.tar({"a.txt": lines})),
        "lines.tar.gz": ("lines", gzip.compress(files.tar({"a.txt": lines}), mtime=0)),
        "stored.tar.gz": ("lines", gzip.compress(files.tar({"a.txt": lines}), compresslevel=0, mtime=0)),
    }


@pytest.mark.parametrize("damage", ["cut", "overwritten"])
@pytest.mark.parametrize("name", cuttable())
def test_damage_anywhere_is_one_record_in_the_slice_where_it_lies(tmp_path: Path, name: str, damage: str) -> None:
    reader, data = cuttable()[name]
    for part in range(1, 40, 3):
        at = len(data) * part // 40
        left = data[:at] if damage == "cut" else data[:at] + b"\xff" * 8 + data[at + 8 :]
        (tmp_path / name).write_bytes(left)
        found = reading.compare_readings(str(tmp_path), name, reader, block_bytes=1024, step_bytes=300)
        assert found["differing"] == [], part
        if name.endswith(".gz"):
            assert sum(count for reason, count in found["reasons"].items() if reason in ("truncated", "corrupt")) == 1


def test_every_byte_before_a_damage_is_given() -> None:
    """Against zlib fed one byte at a time."""
    text = b"".join(b"line %d of it: %d\n" % (number, number * 7919 % 1000) for number in range(20_000))
    data = gzip.compress(text, mtime=0)
    for part in range(1, 20):
        at = len(data) * part // 20
        broken = data[:at] + b"\xff" * 8 + data[at + 8 :]
        inflate, expected, failed = zlib.decompressobj(31), [], ""
        try:
            for place in range(len(broken)):
                expected.append(inflate.decompress(broken[place : place + 1]))
        except zlib.error as error:
            failed = str(error)
        stream = ExactGzip(io.BytesIO(broken))
        given = []
        with pytest.raises(Damaged) as damage:
            while piece := stream.read(1000):
                given.append(piece)
        assert b"".join(given) == b"".join(expected)
        assert damage.value.offset == len(b"".join(given))
        assert failed in damage.value.words
