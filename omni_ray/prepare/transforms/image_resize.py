"""Scaling with an antialiasing bicubic filter: with SIMD where there is a wheel of it, else with Pillow, four times
slower. They differ by one level of 255 here and there, so the name of the one that is used belongs to the settings."""

import threading
from typing import Any, NamedTuple

from PIL import Image

from omni_ray.prepare.transforms.image_decode import Pixels

try:
    import cykooz_resizer as simd
except ImportError:  # no wheel for this platform (Linux on ARM); pyproject.toml does not ask for it there
    simd = None

_kept = threading.local()  # a resizer and its buffers, which cost a fifth of the time to make, for each thread

RESIZER = "pillow" if simd is None else "simd"
# Of a pixel, to which edges are rounded, which nobody sees: cykooz_resizer 4.0.1 ends the process with a memory fault
# where errors of rounding meet a fraction like 3/7, as there are where a side of 32 is scaled to 224.
_STEPS = 1 << 16


class Box(NamedTuple):
    """Of a picture, in pixels from its left upper corner; edges may lie inside pixels."""

    left: float
    top: float
    right: float
    bottom: float


def resized(pixels: Pixels, box: Box, size: int) -> Image.Image:
    """What lies in `box` (of the picture at full size) as `size x size` pixels, in the mode of `pixels`."""
    box = Box(*(round(edge / pixels.scale * _STEPS) / _STEPS for edge in box))
    if simd is None:
        return pixels.image().resize((size, size), Image.Resampling.BICUBIC, box=box)
    kind = {"L": simd.PixelType.U8, "RGB": simd.PixelType.U8x3, "RGBA": simd.PixelType.U8x4}[pixels.mode]
    source = simd.ImageData(pixels.columns, pixels.rows, kind, pixels.data)
    target = simd.ImageData(size, size, kind)
    options = simd.ResizeOptions(
        resize_alg=simd.ResizeAlg.convolution(simd.FilterType.catmull_rom),
        crop_box=simd.CropBox(box.left, box.top, box.right - box.left, box.bottom - box.top),
    )
    _resizer().resize(source, target, options)
    return Image.frombytes(pixels.mode, (size, size), target.get_buffer())


def _resizer() -> Any:
    if not hasattr(_kept, "resizer"):
        _kept.resizer = simd.Resizer()
    return _kept.resizer
