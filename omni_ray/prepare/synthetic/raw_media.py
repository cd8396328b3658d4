"""The raw files of the synthetic sources of sound and pictures: a source for each category, most layouts once.

As in `raw`, each holds a repeated record, one that a rule drops and one that cannot be used.
"""

import csv
import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

from omni_ray.catalog import Catalog, Modality, Reader
from omni_ray.prepare.synthetic import audio, image
from omni_ray.prepare.synthetic.dice import Dice
from omni_ray.prepare.synthetic.raw import built_in, file_name
from omni_ray.storage import Storage

BLOCK_BYTES = 512 << 10  # small, so that a run of a few seconds has several blocks
CLIPS, SOUNDS, PICTURES = 60, 40, 60  # records of each source
_REPEATS, _BAD, _LEFT_OUT = 13, 5, 9  # numbers of records that are not as the others
_SOUNDS = ["a low hum", "a high whistle", "a rising tone", "a hiss", "a beating pulse"]


def write_raw_media(storage: Storage, modality: Modality, prefix: str, seed: int = 0) -> None:
    """Write the raw files of a modality below the folder `prefix`; those that are there already are left untouched."""
    for name, build in _FILES[modality].items():
        key = f"{prefix}/{file_name(name, seed)}"
        if not storage.exists(key):
            storage.create(key, build(seed))


def media_keys(modality: Modality, prefix: str, seed: int = 0) -> list[str]:
    """The raw files of a modality below the folder `prefix`."""
    return [f"{prefix}/{file_name(name, seed)}" for name in _FILES[modality]]


def media_sources(folder: str, seed: int = 0) -> Catalog:
    """The sources over the raw files in `folder` (a path or s3://), one for each category."""
    label = {"fields": {"text": "{label}"}, "manifest": "meta/sounds.csv", "path": "audio/{filename}", "speech": False}
    table = {"fields": {"audio": "audio", "text": "{text}"}, "group": "speaker"}
    shapes = {"fields": {"caption": "a picture of a {class}", "category": "{class}"}}
    named = {"fields": {"caption": "{said}"}, "manifest": "list.tsv", "path": "{file}", "maps": {"said": {"-": ""}}}
    by_name = {
        "fields": {"caption": "picture {number} shows a {shape}"},
        "pattern": r"(?P<number>\d+)_(?P<shape>\w+)\.jpg",
    }
    columns = {"fields": {"image": "image", "caption": "{caption}", "category": "{kind}"}}
    given: list[tuple[Modality, str, Reader, str, dict[str, Any]]] = [
        ("audio", "general", "librispeech", "speech.tar.gz", {}),
        ("audio", "scientific", "table", "speech.parquet", table),
        ("audio", "environmental", "files", "sounds.zip", label),
        ("image", "general", "webdataset", "pictures.tar", {}),
        ("image", "scientific", "table", "pictures.parquet", columns),
        ("image", "art", "imagefolder", "shapes.zip", shapes),
        ("image", "nature", "files", "named.tar.gz", by_name),
        ("image", "domain", "files", "listed.zip", named),
    ]
    return Catalog(sources=tuple(built_in(folder, seed, *one, block_bytes=BLOCK_BYTES) for one in given))


def _number(number: int) -> int:
    """The number of the record that this one is, or repeats."""
    return _REPEATS - 1 if number == _REPEATS else number


def _clips(seed: int, first: int) -> Iterable[tuple[int, bytes, str, str]]:
    """Number, FLAC, transcript and speaker of CLIPS clips."""
    voices = audio.speakers(seed)
    for number in range(CLIPS):
        data, words, speaker = audio.clip(seed, first + _number(number), voices)
        if number == _LEFT_OUT:
            data = _flac(np.zeros(audio.SAMPLE_RATE))
        yield number, data[: len(data) // 3] if number == _BAD else data, words, speaker


def _speech_archive(seed: int) -> bytes:
    """As LibriSpeech lies in its archives: clips by speaker and chapter, transcripts beside them."""
    members: dict[str, bytes] = {}
    for number, data, words, speaker in _clips(seed, 10_000):
        voice, chapter = int(speaker.removeprefix("speaker")), number // 16
        folder = f"LibriSpeech/train/{voice}/{chapter}/{voice}-{chapter}"
        members[f"{folder}-{number:04d}.flac"] = data
        lines = members.get(f"{folder}.trans.txt", b"")
        members[f"{folder}.trans.txt"] = lines + f"{voice}-{chapter}-{number:04d} {words.upper()}\n".encode()
    return gzip.compress(_tar(members), compresslevel=6, mtime=0)


def _speech_table(seed: int) -> bytes:
    """As the hub has it: a struct of bytes and path."""
    rows = [
        {"audio": {"bytes": data, "path": f"{number}.flac"}, "text": words, "speaker": speaker}
        for number, data, words, speaker in _clips(seed, 20_000)
    ]
    return _parquet(rows)


def _sounds(seed: int) -> bytes:
    """As ESC-50 has it: a folder of clips and a table that says what each is. Not speech, 22.05 kHz and stereo."""
    members, rows = {}, [["filename", "label"]]
    for number in range(SOUNDS):
        kind = _SOUNDS[_number(number) % len(_SOUNDS)]
        data = _flac(_sound(Dice(seed, 3, _number(number)), kind), 22_050)
        members[f"sounds/audio/{number:03d}.flac"] = data[:200] if number == _BAD else data
        rows.append([f"{number:03d}.flac", "" if number == _LEFT_OUT else kind])
    return _zip({**members, "sounds/meta/sounds.csv": _table(rows, ",")})


def _sound(dice: Dice, kind: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A second or two in two channels: `[samples, 2]` at 22.05 kHz."""
    time = np.arange(int(22_050 * dice.uniform(0.8, 2.0))) / 22_050
    pitch = dice.uniform(0.9, 1.1)
    noise = dice.generator.standard_normal(len(time))
    wave = {
        "a low hum": np.sin(2 * np.pi * 110 * pitch * time),
        "a high whistle": np.sin(2 * np.pi * 2400 * pitch * time),
        "a rising tone": np.sin(2 * np.pi * (300 * pitch * time + 400 * time**2)),
        "a hiss": noise,
        "a beating pulse": noise * (np.sin(2 * np.pi * 4 * pitch * time) > 0.6),
    }[kind]
    side = dice.uniform(0.3, 0.7)
    return 0.2 * np.stack([wave * side, wave * (1 - side)], axis=1)


def _pictures(seed: int, first: int) -> Iterable[tuple[int, bytes, str, str]]:
    """Number, JPEG, caption and shape of PICTURES pictures."""
    for number in range(PICTURES):
        data, caption, shape = image.picture(seed, first + _number(number))
        yield number, data[: len(data) // 3] if number == _BAD else data, caption, shape


def _webdataset(seed: int) -> bytes:
    members: dict[str, bytes] = {}
    for number, data, caption, shape in _pictures(seed, 10_000):
        members |= {
            f"{number:05d}.jpg": data,
            f"{number:05d}.txt": caption.encode(),
            f"{number:05d}.cls": shape.encode(),
        }
    return _tar(members)


def _picture_table(seed: int) -> bytes:
    rows = [
        {"image": {"bytes": data, "path": None}, "caption": caption, "kind": shape}
        for _, data, caption, shape in _pictures(seed, 20_000)
    ]
    return _parquet(rows)


def _shapes(seed: int) -> bytes:
    found = _pictures(seed, 30_000)
    return _zip({f"shapes/{shape}/{number:05d}.jpg": data for number, data, _, shape in found})


def _named(seed: int) -> bytes:
    members = {f"pictures/{number}_{shape}.jpg": data for number, data, _, shape in _pictures(seed, 40_000)}
    return gzip.compress(_tar(members), compresslevel=6, mtime=0)


def _listed(seed: int) -> bytes:
    rows, members = [["file", "said"]], {}
    for number, data, caption, _ in _pictures(seed, 50_000):
        members[f"{number:05d}.jpg"] = data
        rows.append([f"{number:05d}.jpg", "-" if number == _LEFT_OUT else caption])
    return _zip({"list.tsv": _table(rows, "\t"), **members})


def _flac(wave: np.ndarray[Any, np.dtype[np.float64]], rate: int = audio.SAMPLE_RATE) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, wave, rate, "PCM_16", format="FLAC")
    return stream.getvalue()


def _table(rows: list[list[str]], delimiter: str) -> bytes:
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=delimiter).writerows(rows)
    return stream.getvalue().encode()


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink, row_group_size=20)
    return sink.getvalue()


def _tar(members: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return stream.getvalue()


def _zip(members: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return stream.getvalue()


_FILES: dict[Modality, dict[str, Callable[[int], bytes]]] = {
    "audio": {"speech.tar.gz": _speech_archive, "speech.parquet": _speech_table, "sounds.zip": _sounds},
    "image": {
        "pictures.tar": _webdataset,
        "pictures.parquet": _picture_table,
        "shapes.zip": _shapes,
        "named.tar.gz": _named,
        "listed.zip": _listed,
    },
}
