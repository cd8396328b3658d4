"""Preparing pictures against plain loops over the fastest libraries, two processes each, on the same photos.

    python scripts/bench/prepare_image.py --images ../shared/data/images

The photos are those of the folder's archives and tables, repeated under other names until there are `--photos`. Every
round runs each system on a quarter of them and on all: "steady" is the difference of the photos over the difference of
the times, without what starting costs. Every loop gives what `omni_ray` gives: 224 x 224 RGB, antialiased bicubic,
JPEG of the same size class, one file a photo. `transform` is the product's own code in such a loop.
"""

import argparse
import io
import multiprocessing
import shutil
import statistics
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

SIZE, QUALITY = 224, 95
PROCESSES = 2
TARGET = 0.9  # of the fastest library's loop, steady
Convert = Callable[[bytes], bytes]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--images", type=Path, required=True, help="folder of .tar.gz archives and hub tables of photos"
    )
    parser.add_argument("--photos", type=int, default=5000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument(
        "--loops", nargs="+", choices=LOOPS, default=list(LOOPS), help="cv2 needs opencv-python-headless"
    )
    parser.add_argument("--role", choices=LOOPS, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.role:
        plain(arguments.role, arguments.images, arguments.out)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        compare(arguments, Path(folder))
    return 0


def compare(arguments: argparse.Namespace, folder: Path) -> None:
    from scripts.bench import _measure

    parts = write_input(arguments.images, folder, arguments.photos)
    systems = list(dict.fromkeys(["transform", *arguments.loops]))
    seconds: dict[tuple[str, str], list[float]] = {(name, part): [] for name in systems for part in parts}
    peaks = dict.fromkeys(systems, 0)
    for number in range(arguments.runs):
        for part in parts:
            for name in systems:
                out = folder / "out"
                done = _measure.run([
                    sys.executable, __file__, "--images", str(folder / part), "--role", name, "--out", str(out)
                ])  # fmt: skip
                seconds[name, part].append(done.seconds)
                peaks[name] = max(peaks[name], done.peak_bytes)
                shutil.rmtree(out)
                print(f"round {number + 1}: {name:12} {part:7} {done.seconds:6.2f} s", file=sys.stderr, flush=True)
    steady = {
        name: [
            (parts["all"] - parts["quarter"]) / (whole - quarter)
            for whole, quarter in zip(seconds[name, "all"], seconds[name, "quarter"], strict=True)
        ]
        for name in systems
    }
    print(f"{parts['all']} photos, {arguments.runs} rounds, {PROCESSES} processes: median [smallest, largest]")
    print("| system | whole, photos/s | steady, photos/s | transform / it, steady | peak MB of a process |")
    print("|---|---|---|---|---|")
    for name in systems:
        rates = [parts["all"] / one for one in seconds[name, "all"]]
        against = statistics.median(
            ours / theirs for ours, theirs in zip(steady["transform"], steady[name], strict=True)
        )
        print(
            f"| {name} | {_measure.spread(rates)} | {_measure.spread(steady[name])} | {against:.2f} | "
            f"{peaks[name] / 1e6:.0f} |"
        )
    libraries = [name for name in systems if name != "transform"]
    if libraries:
        fastest = max(libraries, key=lambda name: statistics.median(steady[name]))
        rounds = zip(steady["transform"], steady[fastest], strict=True)
        ratio = statistics.median(ours / theirs for ours, theirs in rounds)
        _measure.ratio(f"image transform / plain loop with {fastest}, steady", ratio, TARGET)


def write_input(images: Path, folder: Path, photos: int) -> dict[str, int]:
    """Folders `quarter` and `all` of photo files; how many each holds."""
    found = [data for data in read_photos(images) if data[:3] == b"\xff\xd8\xff"]
    parts = {"quarter": photos // 4, "all": photos}
    for part, count in parts.items():
        (folder / part).mkdir()
        for number in range(count):
            (folder / part / f"{number:06}.jpg").write_bytes(found[number % len(found)])
    return parts


def read_photos(images: Path) -> list[bytes]:
    import pyarrow.parquet as pq

    found = []
    for archive in sorted(images.glob("imagenet*.tar.gz")):
        with tarfile.open(archive) as members:
            contents = (members.extractfile(member) for member in members if member.isfile())
            found += [content.read() for content in contents if content is not None]
    for table in sorted(images.glob("*.parquet")):
        found += [cell["bytes"] for cell in pq.read_table(table)["image"].to_pylist()]
    return found


def plain(name: str, images: Path, out: Path) -> None:
    """Every other file to each of two processes; one JPEG for each."""
    out.mkdir()
    files = sorted(images.iterdir())
    shares = [(name, files[start::PROCESSES], out) for start in range(PROCESSES)]
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        pool.map(convert_all, shares, chunksize=1)


def convert_all(work: tuple[str, list[Path], Path]) -> None:
    name, files, out = work
    convert = LOOPS[name]()
    for file in files:
        (out / file.name).write_bytes(convert(file.read_bytes()))


def with_transform() -> Convert:
    from omni_ray.catalog import Source
    from omni_ray.prepare.records import MediaSample
    from omni_ray.prepare.transforms.image import ImageTransform

    transform = ImageTransform(
        Source(name="bench", modality="image", category="general", url=("x",), reader="imagefolder", license="MIT")
    )

    def convert(data: bytes) -> bytes:
        sample = transform(data, "a photo")
        assert isinstance(sample, MediaSample), sample
        return sample.data

    return convert


def with_pillow() -> Convert:
    from PIL import Image

    def convert(data: bytes) -> bytes:
        sink = io.BytesIO()
        with Image.open(io.BytesIO(data)) as image:
            image.draft("RGB", (5 * SIZE, 5 * SIZE))
            picture = image.convert("RGB")
        small = picture.resize((SIZE, SIZE), Image.Resampling.BICUBIC, box=middle(*picture.size))
        small.save(sink, "JPEG", quality=QUALITY, subsampling=0)
        return sink.getvalue()

    return convert


def with_simplejpeg() -> Convert:
    """Decoded and encoded by simplejpeg; it does not resize, and torch is the fastest of the others that do."""
    import simplejpeg
    import torch

    torch.set_num_threads(1)

    def convert(data: bytes) -> bytes:
        picture = torch.from_numpy(simplejpeg.decode_jpeg(data, "RGB")).permute(2, 0, 1)
        small = torch_resized(picture).permute(1, 2, 0).contiguous().numpy()
        return bytes(simplejpeg.encode_jpeg(small, QUALITY, "RGB", "444"))

    return convert


def with_torchvision() -> Convert:
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg, encode_jpeg

    torch.set_num_threads(1)

    def convert(data: bytes) -> bytes:
        picture = decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), ImageReadMode.RGB)
        return bytes(encode_jpeg(torch_resized(picture), QUALITY).numpy())

    return convert


def with_cv2() -> Convert:
    """INTER_AREA is its one filter against aliases; the result is not the same, only about as good."""
    import cv2
    import numpy as np

    cv2.setNumThreads(1)

    def convert(data: bytes) -> bytes:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        height, width = picture.shape[:2]
        shorter = min(width, height)
        columns, rows = SIZE * width // shorter, SIZE * height // shorter
        way = cv2.INTER_AREA if shorter > SIZE else cv2.INTER_CUBIC
        left, top = round((columns - SIZE) / 2), round((rows - SIZE) / 2)
        small = cv2.resize(picture, (columns, rows), interpolation=way)[top : top + SIZE, left : left + SIZE]
        return bytes(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1])

    return convert


def torch_resized(picture: Any) -> Any:  # of tensors: torch is imported only by the loops that use it
    from torch.nn.functional import interpolate

    height, width = picture.shape[1:]
    shorter = min(width, height)
    columns, rows = SIZE * width // shorter, SIZE * height // shorter
    left, top = round((columns - SIZE) / 2), round((rows - SIZE) / 2)
    scaled = interpolate(picture[None], (rows, columns), mode="bicubic", antialias=True)[0]
    return scaled[:, top : top + SIZE, left : left + SIZE].contiguous()


def middle(width: int, height: int) -> tuple[float, float, float, float]:
    from omni_ray.prepare.transforms.image import crop_box

    left, top, right, bottom = crop_box(width, height, SIZE)
    return left, top, right, bottom


LOOPS: dict[str, Callable[[], Convert]] = {
    "transform": with_transform,
    "pillow": with_pillow,
    "simplejpeg": with_simplejpeg,
    "torchvision": with_torchvision,
    "cv2": with_cv2,
}

if __name__ == "__main__":
    raise SystemExit(main())
