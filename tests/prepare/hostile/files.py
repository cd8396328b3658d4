"""Sound files of every layout with the same hundred records, and ways to make archives that no tool would make."""

import csv
import gzip
import io
import json
import tarfile
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq

TEXTS = [f"record number {number} of a hundred, with some words" for number in range(100)]


def jsonl(texts: list[str] = TEXTS) -> bytes:
    return b"".join(json.dumps({"id": number, "words": text}).encode() + b"\n" for number, text in enumerate(texts))


def table_csv(texts: list[str] = TEXTS, delimiter: str = ",") -> bytes:
    sink = io.StringIO(newline="")
    csv.writer(sink, delimiter=delimiter).writerows([("id", "words"), *enumerate(texts)])
    return sink.getvalue().encode()


def parquet(texts: list[str] = TEXTS, row_group_size: int = 10) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"id": range(len(texts)), "words": texts}), sink, row_group_size=row_group_size)
    return sink.getvalue()


def tar(members: dict[str, bytes]) -> bytes:
    return tar_of([(member_of(name, data), data) for name, data in members.items()])


def tar_of(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return sink.getvalue()


def member_of(name: str, data: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    return info


def link(name: str, kind: bytes, target: str = "fine.txt") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return sink.getvalue()


def documents() -> dict[str, bytes]:
    return {f"d/{number}.txt": text.encode() for number, text in enumerate(TEXTS)}


def sound() -> dict[str, tuple[str, bytes]]:
    """name -> reader, content; each holds TEXTS, one record each."""
    lines = "\n".join(TEXTS).encode() + b"\n"
    return {
        "a.txt": ("lines", lines),
        "a.jsonl": ("table", jsonl()),
        "a.json": ("table", json.dumps([{"words": text} for text in TEXTS]).encode()),
        "a.csv": ("table", table_csv()),
        "a.tsv": ("table", table_csv(delimiter="\t")),
        "a.parquet": ("table", parquet()),
        "a.txt.gz": ("lines", gzip.compress(lines, mtime=0)),
        "a.jsonl.gz": ("table", gzip.compress(jsonl(), mtime=0)),
        "a.csv.gz": ("table", gzip.compress(table_csv(), mtime=0)),
        "docs.tar": ("documents", tar(documents())),
        "docs.tar.gz": ("documents", gzip.compress(tar(documents()), mtime=0)),
        "docs.zip": ("documents", zipped(documents())),
        "tables.tar": ("table", tar({"a.jsonl": jsonl(TEXTS[:50]), "b.csv": table_csv(TEXTS[50:])})),
        "tables.zip": ("table", zipped({"a.jsonl": jsonl(TEXTS[:50]), "b.parquet": parquet(TEXTS[50:])})),
    }
