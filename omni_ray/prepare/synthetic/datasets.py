"""The small data sets of `scripts/make_synthetic_datasets.py`: all three modalities in the formats of the contract.

The same seed gives the same bytes, whatever the number of workers (with the same releases of numpy, Pillow and
libsndfile, which encode the media). Every item is made from a seed of its own.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import NamedTuple, TypeVar

from omni_ray.catalog import Modality
from omni_ray.prepare.synthetic import audio, image, text
from omni_ray.storage import Storage

T = TypeVar("T")
WORKERS = 4  # threads: the encoders and the waits for the disk run beside each other


class Made(NamedTuple):
    """What one modality became: its lists of samples as keys, the number of samples, bytes with their media."""

    files: tuple[str, ...]
    samples: int
    bytes: int


def make_text(storage: Storage, seed: int, workers: int = WORKERS) -> Made:
    """Write `text/tiny_corpus.txt`: one sample per line, about 2 MB."""
    corpus = text.corpus(seed)
    storage.put("text/tiny_corpus.txt", corpus)
    return Made(("text/tiny_corpus.txt",), corpus.count(b"\n"), len(corpus))


def make_images(storage: Storage, seed: int, workers: int = WORKERS, count: int = image.IMAGES) -> Made:
    """Write pictures below `images/synthetic/`, then `images/annotations.json`: about 20 MB."""

    def make(number: int) -> tuple[dict[str, str], int]:
        jpeg, caption, category = image.picture(seed, number)
        name = f"synthetic/{number // 100:03d}/{number:05d}.jpg"
        storage.put(f"images/{name}", jpeg)
        return {"image": name, "caption": caption, "category": category}, len(jpeg)

    made = list(_each(make, count, workers))
    listed = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry, _ in made)
    annotations = f"[\n{listed}\n]\n".encode()
    storage.put("images/annotations.json", annotations)
    return Made(("images/annotations.json",), count, sum(size for _, size in made) + len(annotations))


def make_audio(storage: Storage, seed: int, workers: int = WORKERS, count: int = audio.CLIPS) -> Made:
    """Write clips below `audio/synthetic/`, then `audio/asr.csv` and `audio/tts.csv`: about 15 MB."""
    voices = audio.speakers(seed)

    def make(number: int) -> tuple[tuple[str, str], int]:
        flac, words, speaker = audio.clip(seed, number, voices)
        key = f"audio/synthetic/{speaker}/{number:05d}.flac"
        storage.put(key, flac)
        return (str(PurePosixPath(storage.uri, key)), words), len(flac)

    made = list(_each(make, count, workers))
    pairs = [pair for pair, _ in made]
    asr = _csv([("wav", "text"), *pairs])
    tts = _csv([("text", "wav"), *((words, wav) for wav, words in pairs)])
    storage.put("audio/asr.csv", asr)
    storage.put("audio/tts.csv", tts)
    size = sum(size for _, size in made) + len(asr) + len(tts)
    return Made(("audio/asr.csv", "audio/tts.csv"), count, size)


MAKERS: dict[Modality, Callable[[Storage, int], Made]] = {"text": make_text, "audio": make_audio, "image": make_images}


def _each(make: Callable[[int], T], count: int, workers: int) -> Iterator[T]:
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(make, range(count))


def _csv(rows: list[tuple[str, str]]) -> bytes:
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows(rows)
    return stream.getvalue().encode()
