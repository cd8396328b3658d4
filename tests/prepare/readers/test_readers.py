"""Whatever the block size, and wherever reading or indexing is broken off, the records are the same."""

import csv
import gzip
import io
import json
import random
import tarfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from omni_ray.catalog import Source
from omni_ray.errors import CatalogError, NotInThisVersion
from omni_ray.prepare import readers, sources
from omni_ray.prepare.records import Bad, Cut, Member, Raw

WORDS = [f"word{number} é 東 {'x' * (number % 70)}" for number in range(400)]


def make_source(folder: Path, name: str, reader: str, **more: object) -> Source:
    fields = {"fields": {"text": "{words}"}} if reader == "table" else {}
    return Source.model_validate(
        {
            "name": "s", "modality": "text", "category": "general", "url": (name,), "reader": reader,
            "license": "MIT", "base": folder, "block_bytes": 1024, "defined_in": "c.toml", **fields, **more,
        }
    )  # fmt: skip


def index(source: Source, segment_bytes: int = 1 << 30) -> tuple[list[Cut], list[Member], bytes]:
    """Cuts, members and seek points of the source's file, the pass stopped and resumed after every part."""
    (file,) = sources.expand(source)
    blind = readers.plan_cuts(source, file)
    if blind is not None:
        return list(blind), [], b""
    cuts: list[Cut] = []
    members: list[Member] = []
    points, cursor = b"", None
    while True:
        part = next(readers.index_file(source, file, points, cursor, segment_bytes))
        cuts += part.cuts
        members += part.members
        points, cursor = part.seek_points, part.cursor
        if cursor is None:
            return cuts, members, points


def read(source: Source, stop_often: bool = False, segment_bytes: int = 1 << 30) -> list[Raw | Bad]:
    (file,) = sources.expand(source)
    cuts, members, points = index(source, segment_bytes)
    records: list[Raw | Bad] = []
    for cut in cuts:
        cursor = None
        while True:
            batches = readers.read_cut(source, file, cut, members, points, cursor)
            if not stop_often:
                records += [record for batch in batches for record in batch.records]
                break
            batch = next(batches)
            records += batch.records
            cursor = batch.cursor
            if cursor is None:
                break
    return records


def write(folder: Path, name: str) -> tuple[Path, str]:
    """A file of the layout that its name tells, holding WORDS; its path and reader."""
    path = folder / name
    table = io.StringIO(newline="")
    csv.writer(table).writerows([("id", "words"), *((number, f'{w}\n"q"') for number, w in enumerate(WORDS))])
    objects = [{"id": number, "words": w} for number, w in enumerate(WORDS)]
    jsonl = "\n".join(json.dumps(one) for one in objects).encode()
    data = {
        "a.txt": "\r\n".join(WORDS).encode(),
        "a.jsonl": jsonl,
        "a.csv": table.getvalue().encode(),
        "a.json": b"\xef\xbb\xbf" + json.dumps(objects, indent=1, ensure_ascii=False).encode(),
        "b.json": jsonl,
    }
    if name == "a.parquet":
        pq.write_table(pa.table({"id": range(len(WORDS)), "words": WORDS}), path, row_group_size=37)
    elif name == "docs.tar.gz":
        with gzip.GzipFile(path, "wb", mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
            for number, word in enumerate(WORDS):
                info = tarfile.TarInfo(f"d/{number}.txt")
                info.size = len(word.encode())
                archive.addfile(info, io.BytesIO(word.encode()))
        return path, "documents"
    elif name == "lines.tar":
        with tarfile.open(path, "w") as archive:
            info = tarfile.TarInfo("a.txt")
            info.size = len(data["a.txt"])
            archive.addfile(info, io.BytesIO(data["a.txt"]))
    elif name == "table.zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed_zip:
            packed_zip.writestr("x/a.csv", data["a.csv"])
            packed_zip.writestr("README", "no table")
    elif name.endswith(".gz"):
        path.write_bytes(gzip.compress(data[name.removesuffix(".gz")]))
    else:
        path.write_bytes(data[name])
    return path, "lines" if ".txt" in name or name == "lines.tar" else "table"


LAYOUTS = [
    "a.txt", "a.jsonl", "a.csv", "a.json", "b.json", "a.parquet", "docs.tar.gz", "lines.tar", "table.zip",
    "a.txt.gz", "a.jsonl.gz", "a.csv.gz", "a.json.gz",
]  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_gives_every_record_once(tmp_path: Path, name: str) -> None:
    _, reader = write(tmp_path, name)
    records = read(make_source(tmp_path, name, reader))
    column = "words" if reader == "table" else "text"
    texts = [record.value[column] for record in records if isinstance(record, Raw)]
    assert len(texts) == len(records)
    assert [text.rstrip("\r").removesuffix('\n"q"') for text in texts] == WORDS


@pytest.mark.parametrize("name", LAYOUTS)
def test_block_size_stops_and_resumes_change_nothing(tmp_path: Path, name: str) -> None:
    _, reader = write(tmp_path, name)
    dice = random.Random(name)
    expected = read(make_source(tmp_path, name, reader))
    for _ in range(4):
        source = make_source(tmp_path, name, reader, block_bytes=dice.randint(1024, 9000))
        assert read(source, stop_often=True, segment_bytes=dice.randint(1, 5000)) == expected
    source = make_source(tmp_path, name, reader)
    cuts, members, _ = index(source)
    assert index(source, 1)[:2] == (cuts, members)


def test_bad_records_are_named_and_conserved(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(
        b'{"words": "fine"}\n{"words": broken\n[1]\n\n{"words": "\xff"}\n{"words": "ok"}'
    )
    records = read(make_source(tmp_path, "a.jsonl", "table"))
    assert [r.reason if isinstance(r, Bad) else r.value["words"] for r in records] == [
        "fine", "bad_json", "bad_json", "undecodable", "ok",
    ]  # fmt: skip
    assert [record.row for record in records] == [0, 18, 35, 40, 55]
    (tmp_path / "a.csv").write_bytes(b"id,words\n1,fine\n2\n3,\xff\n4,too,many\n5,ok\n")
    reasons = [getattr(record, "reason", "") for record in read(make_source(tmp_path, "a.csv", "table"))]
    assert reasons == ["", "bad_csv", "undecodable", "bad_csv", ""]


def test_unsafe_members_are_quarantined_once(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, kind in [("ok.txt", tarfile.REGTYPE), ("/etc/x.txt", tarfile.REGTYPE), ("../y.txt", tarfile.REGTYPE),
                           ("l.txt", tarfile.SYMTYPE), ("h.txt", tarfile.LNKTYPE), ("dev.txt", tarfile.CHRTYPE),
                           ("dir", tarfile.DIRTYPE), (".hidden", tarfile.REGTYPE)]:  # fmt: skip
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, "ok.txt", 4 if kind == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(b"text"))
    records = read(make_source(tmp_path, "a.tar", "documents"))
    assert [(r.member, getattr(r, "reason", "")) for r in records] == [
        ("ok.txt", ""), ("/etc/x.txt", "unsafe_member"), ("../y.txt", "unsafe_member"), ("l.txt", "unsafe_member"),
        ("h.txt", "unsafe_member"), ("dev.txt", "unsafe_member"),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["a.csv.gz", "docs.tar.gz", "a.json", "a.parquet", "table.zip", "a.jsonl.gz"])
def test_truncated_files_end_with_a_reason(tmp_path: Path, name: str) -> None:
    path, reader = write(tmp_path, name)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    records = read(make_source(tmp_path, name, reader))
    assert isinstance(records[-1], Bad)
    assert all(isinstance(record, Raw) for record in records[:-1])


def test_fields_are_checked_before_any_work(tmp_path: Path) -> None:
    for name in ("a.jsonl", "a.csv", "a.json", "a.parquet", "table.zip"):
        write(tmp_path, name)
        source = make_source(tmp_path, name, "table", fields={"text": "{wrds}"})
        with pytest.raises(
            CatalogError, match=r"c\.toml: source 's': fields\.text: .* has no 'wrds'; it has id, words"
        ):
            readers.check_fields(source, sources.expand(source))


@pytest.mark.parametrize("url", ["hf://datasets/x", "https://host/x"])
def test_remote_urls_are_refused_by_name(tmp_path: Path, url: str) -> None:
    with pytest.raises(NotInThisVersion, match=url):
        sources.expand(make_source(tmp_path, url, "lines"))
