"""Memory of every process of a run over the largest sounds and pictures that it takes, and larger ones.

    python scripts/bench/media_memory.py --gb 3

Sounds: 128 MiB of noise in 24 bits, the most that a clip may have, in stereo and in 8 channels at 192 kHz; an hour of
noise as Vorbis, two as MP3, six of silence in FLAC; for a source that raises `max_seconds` to an hour, the most it may.
Pictures: 16 to 64 megapixels as JPEG, progressive JPEG, PNG and TIFF. All of them are repeated by links under other
names until there are `--gb`.
Parquet: pictures with uneven rows, 10,000 of 1 KB and behind them those of 20 MB, in one row group; once as noise,
which no codec makes smaller, once all black, of which a file has some 100 KB, and once 0.3 GB of noise in one page.
Shown are what became of the records and the most that any process ever held (VmHWM, all of it counted).
"""

import argparse
import io
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
from numpy.typing import NDArray
from PIL import Image

from omni_ray.prepare import status
from omni_ray.storage import LocalStorage
from scripts.bench import _measure
from tests.e2e import harness
from tests.prepare.media import world

BOUND_BYTES = 1.5e9
HOUR = 3600  # seconds
SPAN_BYTES = 128 << 20  # the most that a clip may have
KINDS = {
    "audio": ("files", "pattern = '(?P<who>.+)'\nrules = { max_seconds = 3600 }\n[source.fields]\ntext = \"{who}\""),
    "image": ("files", "pattern = '(?P<who>.+)'\n[source.fields]\ncaption = \"{who}\""),
    "parquet": ("table", 'rules = { min_std = 0.0 }\n[source.fields]\nimage = "image"\ncaption = "{who}"'),
}
SMALL, SMALL_SIDE, LARGE_SIDE = 10_000, 16, 2582  # pictures in Parquet: how many small ones, and pixels of a side
PAGE = 310_000_000  # bytes of large pictures in one page, a little less than what is read
harness.PATIENCE = 3600.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gb", type=float, default=3.0, help="of sounds, and of pictures")
    parser.add_argument("--kind", nargs="+", choices=list(KINDS), default=list(KINDS))
    arguments = parser.parse_args()
    print("| kind | records | GB | kept | left out | largest process, MB |\n|---|---|---|---|---|---|")
    largest = 0
    for kind in arguments.kind:
        with tempfile.TemporaryDirectory() as folder:
            largest = max(largest, run(kind, Path(folder), int(arguments.gb * 1e9)))
    _measure.ratio("1.5 GB / the largest process over large sounds and pictures", BOUND_BYTES / largest, 1.0)
    return 0


def run(kind: str, folder: Path, size: int) -> int:
    """Bytes of the largest process."""
    modality = "audio" if kind == "audio" else "image"
    reader, more = KINDS[kind]
    if kind == "parquet":
        there, url = write_parquet(folder / "in/data", size), "data/*.parquet"
    else:
        there, url = write_input(sounds() if kind == "audio" else pictures(), folder / "in/data", size), "data"
    catalog = world.catalog(folder / "in", world.entry("large", modality, url, reader, more))
    out = folder / "out"
    peaks: dict[int, tuple[str, int]] = {}
    with harness.started(harness.prepare(modality, out, catalog, "--dedup", "none")) as process:
        harness.wait_until(process, lambda: harness.note_peaks(process.pid, peaks))
        _, errors = process.communicate()
        if process.returncode:
            sys.exit(errors)
    storage = LocalStorage(out)
    asked = status.asked_of(status.load_request(storage, modality), storage)  # type: ignore[arg-type]
    (state,) = status.load_states(storage, modality, asked).values()  # type: ignore[arg-type]
    left_out: Counter[str] = Counter()
    for receipt in state.prefix():
        left_out.update(receipt.dropped)
        left_out.update(receipt.quarantined)
    kept, read = (sum(getattr(receipt, name) for receipt in state.prefix()) for name in ("kept", "rows_in"))
    largest = max(peak for _, peak in peaks.values())
    shown = ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))
    print(f"| {kind} | {read} | {there / 1e9:.1f} | {kept} | {shown} | {largest / 1e6:.0f} |", flush=True)
    return largest


def write_input(files: Iterator[tuple[str, bytes]], folder: Path, size: int) -> int:
    """Write each file once, and links to it until there are `size` bytes; how many there are."""
    folder.mkdir(parents=True)
    written = []
    for name, data in files:
        written.append(folder / name)
        written[-1].write_bytes(data)
    there, number = sum(path.stat().st_size for path in written), 0
    while there < size:
        path = written[number % len(written)]
        (folder / f"{number:05}-{path.name}").hardlink_to(path)
        there, number = there + path.stat().st_size, number + 1
    return there


def write_parquet(folder: Path, size: int) -> int:
    """Write the files of uneven rows, each one row group; how many bytes the pictures of all have."""
    folder.mkdir(parents=True)
    dice = np.random.default_rng(0)
    small = bitmap(dice.integers(0, 255, (SMALL_SIDE, SMALL_SIDE, 3), np.uint8))
    noise = dice.integers(0, 255, (LARGE_SIDE, LARGE_SIDE, 3), np.uint8)
    there = 0
    for name, large, most, page in (
        ("noise", noise, size, 1 << 20), ("plain", noise * np.uint8(0), size, 1 << 20), ("page", noise, PAGE, 1 << 30)
    ):  # fmt: skip
        data, count = bitmap(large), most // large.nbytes
        cells = pa.chunked_array([pa.array([small] * SMALL), *[pa.array([data])] * count])
        table = pa.table({"image": cells, "who": [f"picture {number}" for number in range(SMALL + count)]})
        pq.write_table(table, folder / f"{name}.parquet", compression="zstd", use_dictionary=False, data_page_size=page)
        there += SMALL * len(small) + count * len(data)
    return there


def bitmap(pixels: NDArray[np.uint8]) -> bytes:
    return encoded(Image.fromarray(pixels), "BMP")


def sounds() -> Iterator[tuple[str, bytes]]:
    yield "stereo.wav", noise("WAV", "PCM_24", 44_100, 2, SPAN_BYTES / (44_100 * 2 * 3) - 1)
    yield "eight.wav", noise("WAV", "PCM_24", 192_000, 8, SPAN_BYTES / (192_000 * 8 * 3) - 1)
    yield "eight.flac", noise("FLAC", "PCM_24", 192_000, 8, 25)
    yield "hour.ogg", noise("OGG", "VORBIS", 8000, 1, HOUR - 1)
    yield "two-hours.mp3", noise("MP3", "MPEG_LAYER_III", 8000, 1, 2 * HOUR)
    yield "hours-of-silence.flac", noise("FLAC", "PCM_16", 8000, 1, 6 * HOUR, level=0.0)


def noise(container: str, subtype: str, rate: int, channels: int, seconds: float, level: float = 0.2) -> bytes:
    """A clip of noise, made a stretch at a time."""
    dice = np.random.default_rng(0)
    sink = io.BytesIO()
    left = int(rate * seconds)
    with soundfile.SoundFile(sink, "w", rate, channels, subtype, format=container) as clip:
        stretch = (dice.standard_normal((rate * 10, channels)) * level).astype(np.float32)
        while left > 0:
            clip.write(stretch[:left])
            left -= len(stretch)
    return sink.getvalue()


def pictures() -> Iterator[tuple[str, bytes]]:
    for width, height in ((4000, 4000), (6000, 6000), (7200, 7000), (8000, 8000)):
        size = f"{width * height // 1_000_000}"
        coarse = np.random.default_rng(width).integers(0, 255, (height // 20, width // 20, 3), np.uint8)
        picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        yield f"{size}.jpg", encoded(picture, "JPEG", quality=92)
        yield f"{size}-progressive.jpg", encoded(picture, "JPEG", quality=92, progressive=True)
        yield f"{size}.png", encoded(picture, "PNG", compress_level=1)
        yield f"{size}.tif", encoded(picture, "TIFF", compression="tiff_lzw")


def encoded(picture: Image.Image, format_: str, **options: object) -> bytes:
    sink = io.BytesIO()
    picture.save(sink, format_, **options)
    return sink.getvalue()


if __name__ == "__main__":
    raise SystemExit(main())
