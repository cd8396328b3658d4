"""The samples that a report shows: which ones, and what is put of each into the page.

They are spread over a source: one from each of twelve equal stretches of its samples in the output, at a place in the
stretch that the source's name decides. Evenly spaced ones would show one class of a source that repeats its classes.
"""

import base64
import hashlib
import io
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import soundfile

from omni_ray.catalog import Source
from omni_ray.errors import NotStored
from omni_ray.ledger import Receipt
from omni_ray.prepare import store
from omni_ray.prepare.corpus_index import index_rows as text_rows
from omni_ray.prepare.index_file import record_keys
from omni_ray.prepare.records import Unusable
from omni_ray.prepare.transforms.image import on_white
from omni_ray.prepare.transforms.image_decode import decode
from omni_ray.storage import Storage

SAMPLES = 12  # of a source
EXCERPT_CHARS = 320
EXCERPT_SECONDS = 8.0
FADE_SECONDS = 0.05  # at the end of a clip that was cut
THUMBNAIL = 192  # pixels of the longer side
_REMEDY = "`omni-ray verify` lists what is damaged"


class Place(NamedTuple):
    """A chosen sample: row `row` of a segment's table; `start` bytes of the segment's samples lie before it."""

    receipt: Receipt
    row: int
    start: int


class Shown(NamedTuple):
    """What the page has of a sample.

    key: what tells its record from every other one.
    text: of the sample, its transcript or its caption; cut where `cut` says so.
    size: bytes of the sample.
    uri: a `data:` URI of the sound or picture; "" where there is none.
    problem: why there is none.
    """

    key: str
    text: str
    cut: bool
    size: int
    category: str = ""
    uri: str = ""
    problem: str = ""
    seconds: float = 0.0
    heard: float = 0.0  # seconds of it that are in the page
    width: int = 0  # of the picture
    height: int = 0
    shown: tuple[int, int] = (0, 0)  # width and height of the thumbnail


def choose(name: str, count: int) -> list[int]:
    """Which of a source's `count` samples are shown: rising numbers below `count`."""
    if count <= SAMPLES:
        return list(range(count))
    edges = [count * number // SAMPLES for number in range(SAMPLES + 1)]
    places = []
    for number, (start, stop) in enumerate(itertools.pairwise(edges)):
        digest = hashlib.sha256(f"{name}/{number}".encode()).digest()
        places.append(start + int.from_bytes(digest[:8], "big") % (stop - start))
    return places


def show(storage: Storage, source: Source, places: Sequence[Place]) -> Iterator[Shown]:
    """What the page has of each place."""
    return _texts(storage, source, places) if source.modality == "text" else _media(storage, source, places)


def excerpt(text: str) -> tuple[str, bool]:
    """The beginning of a text, and whether that is not all of it."""
    return (text, False) if len(text) <= EXCERPT_CHARS else (text[:EXCERPT_CHARS].rstrip(), True)


def _texts(storage: Storage, source: Source, places: Sequence[Place]) -> Iterator[Shown]:
    for place, table in _rows(storage, places):
        (row,) = text_rows(source, place.receipt.path, table, 0).to_pylist()
        size = int(row["bytes"]) - 1
        output = place.receipt.outputs["txt"]
        begun = storage.read(output.key, output.offset + place.start, min(size, 4 * EXCERPT_CHARS + 4))
        text, cut = excerpt(begun.decode("utf-8", "replace"))
        yield Shown(row["key"], text, cut, size)


def _media(storage: Storage, source: Source, places: Sequence[Place]) -> Iterator[Shown]:
    for place, table in _rows(storage, places):
        (row,) = table.to_pylist()
        (key,) = record_keys(source.name, place.receipt.path, table).to_pylist()
        text, cut = excerpt(row["text"])
        shown = Shown(key, text, cut, row["bytes"], row["category"] or "")
        try:
            yield _with_media(shown, row, _content(storage, row))
        except NotStored:
            yield shown._replace(problem=f"{row['path']} is missing; {_REMEDY}")


def _rows(storage: Storage, places: Sequence[Place]) -> Iterator[tuple[Place, pa.Table]]:
    """Each place with the one row of it."""
    tables = store.read_rows(storage, (place.receipt for place in places))
    for place, table in zip(places, tables, strict=True):
        yield place, table.slice(place.row, 1)


def _content(storage: Storage, row: dict[str, Any]) -> bytes:
    return storage.read(row["path"].partition("#")[0], row["offset"], row["bytes"])


def _with_media(shown: Shown, row: dict[str, Any], data: bytes) -> Shown:
    if row["seconds"] is not None:
        try:
            sound, heard = clip(data)
        except soundfile.LibsndfileError as error:
            return shown._replace(problem=f"{row['path']} cannot be opened: {error}; {_REMEDY}")
        return shown._replace(uri=_uri("audio/mpeg", sound), seconds=row["seconds"], heard=heard)
    picture = thumbnail(data)
    if isinstance(picture, Unusable):
        return shown._replace(problem=f"{row['path']} {picture.error}; {_REMEDY}")
    jpeg, size = picture
    return shown._replace(uri=_uri("image/jpeg", jpeg), width=row["width"], height=row["height"], shown=size)


def clip(data: bytes) -> tuple[bytes, float]:
    """The first EXCERPT_SECONDS as MP3, which every browser plays, and how many seconds these are.

    Raises:
        soundfile.LibsndfileError: for what is no sound.
    """
    with soundfile.SoundFile(io.BytesIO(data)) as opened:
        rate, all_frames = opened.samplerate, opened.frames
        samples = opened.read(int(EXCERPT_SECONDS * rate), dtype="float32")
    if len(samples) < all_frames:
        fade = int(FADE_SECONDS * rate)
        samples[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
    sink = io.BytesIO()
    soundfile.write(sink, samples, rate, "MPEG_LAYER_III", format="MP3", bitrate_mode="VARIABLE", compression_level=0.7)
    return sink.getvalue(), len(samples) / rate


def thumbnail(data: bytes) -> tuple[bytes, tuple[int, int]] | Unusable:
    """A JPEG of THUMBNAIL pixels at most, and its width and height."""
    pixels = decode(data, THUMBNAIL)
    if isinstance(pixels, Unusable):
        return pixels
    image = on_white(pixels.image())
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    sink = io.BytesIO()
    image.save(sink, "JPEG", quality=80, optimize=True)
    return sink.getvalue(), image.size


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
