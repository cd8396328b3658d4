"""Which data a folder holds for training, and how many samples: production files first, synthetic ones else."""

from collections.abc import Callable
from functools import partial
from typing import BinaryIO, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from omni_ray.counting import count_csv_records, count_json_entries, count_lines
from omni_ray.storage import Storage


class Kind(NamedTuple):
    """One kind of data: its files in the order in which they are looked for, and the counter of their format."""

    title: str
    keys: tuple[str, str]
    counter: Callable[[BinaryIO, str], int]


KINDS = {
    "text": Kind("Text", ("text/production_corpus.txt", "text/tiny_corpus.txt"), count_lines),
    "audio": Kind(
        "Audio", ("audio/production_asr.csv", "audio/asr.csv"), partial(count_csv_records, header="wav,text")
    ),
    "image": Kind("Image", ("images/production_annotations.json", "images/annotations.json"), count_json_entries),
    "speech": Kind(
        "Speech", ("audio/production_tts.csv", "audio/tts.csv"), partial(count_csv_records, header="text,wav")
    ),
}


class Found(NamedTuple):
    """A data file that is there: its path as the user writes it, and its samples."""

    path: str
    samples: int


class _Facts(msgspec.Struct):
    """What an index says of its production file."""

    file: str
    bytes: int
    rows: int


def find(storage: Storage, kind: Kind, folder: str) -> Found | None:
    """The file of this kind that training takes, counted; None where there is none. `folder` is what the user calls
    the storage.

    Raises:
        DataError: where the file is not what it should be.
    """
    for key in kind.keys:
        if storage.exists(key):
            samples = _indexed(storage, key)
            if samples is None:
                with storage.open(key) as stream:
                    samples = kind.counter(stream, join(storage.uri, key))
            return Found(join(folder, key), samples)
    return None


def join(folder: str, key: str) -> str:
    """A path or URI as a person writes it."""
    return f"{folder.rstrip('/')}/{key}"


def _indexed(storage: Storage, key: str) -> int | None:
    """The samples of a production file by the index beside it; None where none is there or it does not fit."""
    index = f"{key.rpartition('.')[0]}.index.parquet"
    data, beside = storage.stat(key), storage.stat(index)
    if data is None or beside is None or beside.mtime_ns < data.mtime_ns:
        return None
    try:
        with storage.open(index) as stream:
            metadata = pq.read_metadata(stream).metadata or {}
        facts = msgspec.json.decode(metadata[b"omni_ray"], type=_Facts)
    except (pa.ArrowInvalid, KeyError, msgspec.DecodeError):  # not an index of ours: the file itself tells
        return None
    fits = facts.rows > 0 and (facts.file, facts.bytes) == (key.rpartition("/")[2], data.size)
    return facts.rows if fits else None
