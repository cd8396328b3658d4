"""Plain loops over the fastest picture libraries: two processes, one JPEG a photo, nothing made durable.

    PYTHON scripts/bench/_photo_loops.py LIBRARY FOLDER OUT

Every loop gives what `omni_ray` gives: 224 x 224 RGB, on torchvision's grid, filtered against aliases, a JPEG of about
quality 95. `transform` is the product's own code in such a loop. Whole JPEGs are decoded everywhere: no photo here
is so large that decoding it at a fraction would leave the same picture. Needs no more than the library it is about.
"""

import io
import multiprocessing
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

SIZE, QUALITY = 224, 95
PROCESSES = 2
Convert = Callable[[bytes], bytes]


def main(name: str, photos: str, out: str) -> None:
    """Every other file to each of two processes."""
    Path(out).mkdir()
    files = sorted(path for path in Path(photos).rglob("*.jpg"))
    shares = [(name, files[start::PROCESSES], Path(out)) for start in range(PROCESSES)]
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
            picture = image.convert("RGB")
        columns, rows, left, top = grid(*picture.size)
        across, down = picture.width / columns, picture.height / rows
        box = (left * across, top * down, (left + SIZE) * across, (top + SIZE) * down)
        small = picture.resize((SIZE, SIZE), Image.Resampling.BICUBIC, box=box)
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
    """Its encoder halves the resolution of colours, which costs quality and saves time."""
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
        columns, rows, left, top = grid(width, height)
        way = cv2.INTER_AREA if min(width, height) > SIZE else cv2.INTER_CUBIC
        small = cv2.resize(picture, (columns, rows), interpolation=way)[top : top + SIZE, left : left + SIZE]
        return bytes(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1])

    return convert


def torch_resized(picture: Any) -> Any:  # of tensors: torch is imported only by the loops that use it
    from torch.nn.functional import interpolate

    height, width = picture.shape[1:]
    columns, rows, left, top = grid(width, height)
    scaled = interpolate(picture[None], (rows, columns), mode="bicubic", antialias=True)[0]
    return scaled[:, top : top + SIZE, left : left + SIZE].contiguous()


def grid(width: int, height: int) -> tuple[int, int, int, int]:
    """Columns and rows of the scaled picture; left and top of its middle."""
    shorter = min(width, height)
    columns, rows = SIZE * width // shorter, SIZE * height // shorter
    return columns, rows, round((columns - SIZE) / 2), round((rows - SIZE) / 2)


LOOPS: dict[str, Callable[[], Convert]] = {
    "transform": with_transform,
    "pillow": with_pillow,
    "simplejpeg": with_simplejpeg,
    "torchvision": with_torchvision,
    "cv2": with_cv2,
}

if __name__ == "__main__":
    main(*sys.argv[1:])
