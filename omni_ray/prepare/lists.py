"""The lists of media that trainers read: CSV as RFC 4180 has it, and JSON written entry by entry."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec
import pyarrow as pa


class Form(Protocol):
    """A list that is written from its head to its tail; one instance serves one file."""

    head: bytes
    tail: bytes

    def rows(self, rows: pa.Table) -> bytes:
        """The entries of index rows."""


class Csv:
    """Columns `wav` and `text` in the order of `columns`; a path begins with `root`."""

    tail = b""

    def __init__(self, columns: Sequence[str], root: str) -> None:
        self.head = _csv([columns])
        self._wav_first = columns[0] == "wav"
        self._root = root

    def rows(self, rows: pa.Table) -> bytes:
        wavs = [f"{self._root}/{path}" for path in rows.column("path").to_pylist()]
        texts = rows.column("text").to_pylist()
        return _csv(zip(wavs, texts, strict=True) if self._wav_first else zip(texts, wavs, strict=True))


class Annotations:
    """One JSON array of `{"image", "caption", "category"}`, an entry a line; paths are relative to `folder`."""

    head = b"["
    tail = b"\n]\n"

    def __init__(self, folder: str) -> None:
        self._prefix = f"{folder}/"
        self._between = b"\n"

    def rows(self, rows: pa.Table) -> bytes:
        columns = (rows.column(name).to_pylist() for name in ("path", "text", "category"))
        entries = [
            msgspec.json.encode({"image": path.removeprefix(self._prefix), "caption": text, "category": category})
            for path, text, category in zip(*columns, strict=True)
        ]
        data = b"".join(part for entry in entries for part in (b",\n", entry))
        if entries:
            data, self._between = self._between + data[2:], b",\n"
        return data


def _csv(rows: Iterable[Sequence[str]]) -> bytes:
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows(rows)
    return stream.getvalue().encode()
