"""Sounds and pictures: a segment is files of their own, the production files are lists of them."""

import hashlib
import io
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import soundfile
from PIL import Image

from omni_ray.catalog import Source
from omni_ray.errors import NotStored
from omni_ray.ledger import Receipt
from omni_ray.prepare import readers, store
from omni_ray.prepare.assemble import RunTasks
from omni_ray.prepare.index_file import constant, record_keys
from omni_ray.prepare.kinds import Body, Check, Kind, Product, Segment
from omni_ray.prepare.lists import Annotations, Csv, Form
from omni_ray.prepare.media_segment import OURS, MediaSegment
from omni_ray.prepare.select import Selection
from omni_ray.prepare.state import SourceState
from omni_ray.prepare.transforms.audio import SAMPLE_RATE, AudioTransform
from omni_ray.prepare.transforms.image import ImageTransform
from omni_ray.storage import Storage

_COMMON: list[tuple[str, pa.DataType]] = [
    ("key", pa.string()),
    ("group", pa.string()),
    ("source", pa.dictionary(pa.int32(), pa.string())),
    ("category", pa.dictionary(pa.int32(), pa.string())),
    ("licence", pa.dictionary(pa.int32(), pa.string())),
    ("text", pa.string()),
    ("path", pa.string()),
    ("offset", pa.int64()),
    ("bytes", pa.int64()),
    ("sha256", pa.binary(32)),
]


class MediaKind(Kind):
    """What sounds and pictures have in common."""

    index_version = 1

    @abstractmethod
    def transform(self, source: Source) -> AudioTransform | ImageTransform: ...

    @abstractmethod
    def form(self, product: Product, out: str) -> Form:
        """How a product of an output that is called `out` is written."""

    @abstractmethod
    def file_problem(self, data: bytes, row: Mapping[str, Any], source: Source) -> str:
        """What is wrong with the format of a file; "" where nothing is."""

    def segment(self, source: Source) -> Segment:
        return MediaSegment(source, self.transform(source), self.folder)

    def settings(self, source: Source) -> dict[str, Any]:
        written = {"layout": source.media.layout, **self.transform(source).settings()}
        return {**source.settings(), "readers_version": readers.VERSION, **written}

    def owns(self, source: Source, name: str) -> bool:
        return OURS.fullmatch(name) is not None

    def index_rows(self, source: Source, path: str, rows: pa.Table, offset: int) -> pa.Table:
        """A group is the speaker where the source names a column for it, else the record itself."""
        count = len(rows)
        key = record_keys(source.name, path, rows)
        group = pc.binary_join_element_wise(source.name, rows.column("group").combine_chunks(), ":")
        category = rows.column("category").combine_chunks().fill_null(source.category)
        columns = {
            **{name: rows.column(name).combine_chunks() for name in self.schema.names if name in rows.column_names},
            "key": key,
            "group": pc.coalesce(group, key),
            "source": constant(source.name, count),
            "category": category.dictionary_encode(),
            "licence": constant(source.license, count),
            "bytes": pc.cast(rows.column("bytes").combine_chunks(), pa.int64()),
        }
        return pa.table({name: columns[name] for name in self.schema.names}, schema=self.schema)

    def body(
        self,
        storage: Storage,
        product: Product,
        mark: str,
        states: Mapping[str, SourceState],
        selection: Selection,
        run_tasks: RunTasks,
    ) -> Body:
        return ListBody(storage, product.key, self.form(product, storage.uri))

    def check(self, storage: Storage, product: Product, out: str) -> Check:
        return ListCheck(storage, product.key, self.form(product, out))

    def segment_problems(
        self, storage: Storage, source: Source, receipt: Receipt, data: Mapping[str, bytes]
    ) -> Iterator[str]:
        rows = store.read_table(data["rows.parquet"])
        size = pc.sum(rows.column("bytes")).as_py() or 0
        if len(rows) != receipt.samples or size != receipt.bytes:
            yield f"{len(rows)} samples of {size} bytes, the receipt says {receipt.samples} of {receipt.bytes}"
        for row in rows.to_pylist():
            if "tar" in data:
                content = data["tar"][row["offset"] : row["offset"] + row["bytes"]]
            else:
                try:
                    content = storage.read(row["path"])
                except NotStored:
                    yield f"{row['path']} is missing"
                    continue
            if len(content) != row["bytes"] or hashlib.sha256(content).digest() != row["sha256"]:
                yield f"{row['path']} is damaged: it is not the file that the table describes"
            elif problem := self.file_problem(content, row, source):
                yield f"{row['path']}: {problem}"


class AudioKind(MediaKind):
    folder = "audio"
    names_output = True
    schema = pa.schema([*_COMMON, ("seconds", pa.float64())])

    def transform(self, source: Source) -> AudioTransform:
        return AudioTransform(source, source.media.audio_format)

    def products(self) -> Sequence[Product]:
        return [
            Product("audio/production_asr.csv", "audio/production_asr.index.parquet"),
            Product("audio/production_tts.csv", "audio/production_tts.index.parquet", speech=True),
        ]

    def dataset_products(self, source: Source) -> Sequence[Product]:
        asr, tts = Product(f"audio/{source.name}_asr.csv"), Product(f"audio/{source.name}_tts.csv")
        return [asr, tts] if source.speech else [asr]

    def mark_of(self, source: Source, out: str) -> list[object]:
        return [source.speech, out]

    def form(self, product: Product, out: str) -> Form:
        columns = ("text", "wav") if product.key.endswith("_tts.csv") else ("wav", "text")
        return Csv(columns, out)

    def file_problem(self, data: bytes, row: Mapping[str, Any], source: Source) -> str:
        try:
            found = soundfile.info(io.BytesIO(data))
        except soundfile.LibsndfileError as error:
            return f"cannot be opened: {error}"
        actual = (found.format.lower(), found.subtype, found.samplerate, found.channels)
        wanted = (source.media.audio_format, "PCM_16", SAMPLE_RATE, 1)
        return "" if actual == wanted else f"is {actual}, not {wanted}"


class ImageKind(MediaKind):
    folder = "images"
    schema = pa.schema([*_COMMON, ("width", pa.int32()), ("height", pa.int32())])

    def transform(self, source: Source) -> ImageTransform:
        return ImageTransform(source, source.media.image_size, source.media.keep_original)

    def products(self) -> Sequence[Product]:
        return [Product("images/production_annotations.json", "images/production_annotations.index.parquet")]

    def dataset_products(self, source: Source) -> Sequence[Product]:
        return [Product(f"images/{source.name}_annotations.json")]

    def form(self, product: Product, out: str) -> Form:
        return Annotations(self.folder)

    def file_problem(self, data: bytes, row: Mapping[str, Any], source: Source) -> str:
        try:
            with Image.open(io.BytesIO(data)) as image:
                actual = (image.format, image.mode, *image.size)
        except (OSError, Image.DecompressionBombError) as error:
            return f"cannot be opened: {error}"
        if source.media.keep_original:
            return ""
        wanted = ("JPEG", "RGB", row["width"], row["height"])
        return "" if actual == wanted else f"is {actual}, not {wanted}"


class ListBody:
    """A list in the making."""

    takes_rows = True

    def __init__(self, storage: Storage, key: str, form: Form) -> None:
        self._writer = storage.writer(key)
        self._form = form
        self._size = 0
        self._write(form.head)

    def add(self, rows: pa.Table) -> None:
        self._write(self._form.rows(rows))

    def finish(self) -> int:
        self._write(self._form.tail)
        self._writer.settle()
        return self._size

    def commit(self) -> None:
        self._writer.commit()

    def abort(self) -> None:
        self._writer.abort()

    def _write(self, data: bytes) -> None:
        self._writer.write(data)
        self._size += len(data)


class ListCheck:
    """A list that is compared with what it should be, byte for byte."""

    def __init__(self, storage: Storage, key: str, form: Form) -> None:
        self._key = key
        self._stream = storage.open(key)
        self._form = form
        self._at = 0
        self._same = self._reads(form.head)

    def piece(self, rows: pa.Table) -> Iterator[str]:
        if self._same and not self._reads(self._form.rows(rows)):
            self._same = False
            yield f"{self._key}: not the selection's entries from byte {self._at:,} on"

    def end(self) -> Iterator[str]:
        if self._same and not (self._reads(self._form.tail) and not self._stream.read(1)):
            yield f"{self._key}: has something else behind byte {self._at:,} than the selection"
        self._stream.close()

    def _reads(self, expected: bytes) -> bool:
        if self._stream.read(len(expected)) != expected:
            return False
        self._at += len(expected)
        return True
