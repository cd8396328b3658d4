"""One picture as it is published to the JPEG that training reads, or to the reason for which there is none."""

import io
from typing import Any

import numpy as np
from PIL import Image

from omni_ray.catalog import Source
from omni_ray.prepare.records import Drop, MediaSample, Unusable
from omni_ray.prepare.transforms import fields
from omni_ray.prepare.transforms.image_decode import decode
from omni_ray.prepare.transforms.image_resize import RESIZER, Box, resized

OUTPUT_VERSION = 2  # raised with any change that gives other bytes for the same picture
IMAGE_SIZE = 224  # pixels, of a side
# JPEGs are decoded at a half, a quarter or an eighth where this many times the wanted size is left: the picture is then
# the same within 45 dB, whatever is on it
SPARE = 5
# Of all coefficients, brightness and colour. Steps that are equal lose the least for the bytes they cost; these keep
# even noise within 40 dB of what was encoded, at the size of an ordinary JPEG of quality 95.
QUANTISATION = [[5] * 64, [4] * 64]
_LEVELS = np.arange(256)
MAX_SIDE = 65_500  # pixels, of a JPEG


class ImageTransform:
    """What a source's rules make of a picture. Pure; one instance serves any number of records."""

    def __init__(self, source: Source, size: int = IMAGE_SIZE, keep_original: bool = False) -> None:
        rules = source.resolved_rules()
        self._size = size
        self._keep_original = keep_original
        self._min_side = int(rules["min_side"])
        self._max_aspect = float(rules["max_aspect"])
        self._min_std = float(rules["min_std"])

    def settings(self) -> dict[str, Any]:
        """What, besides the source's own settings, can change the bytes of a picture."""
        return {
            "image_output": OUTPUT_VERSION,
            "image_size": self._size,
            "keep_original": self._keep_original,
            "resizer": RESIZER,
        }

    def __call__(self, data: bytes, text: str) -> MediaSample | Drop | Unusable:
        """`data` is the encoded picture, `text` its caption as found.

        The picture is scaled so that its shorter side has `size` pixels, then cut to `[size, size, RGB]` at its middle.
        With `keep_original` it keeps its size, and its bytes where these are a JPEG or PNG that needs no mending.
        """
        try:
            caption = fields.clean(text)
        except UnicodeEncodeError as error:
            return fields.undecodable(error)
        if not caption:
            return Unusable("no_caption", "the caption is empty")
        pixels = decode(data, 0 if self._keep_original else SPARE * self._size)
        if isinstance(pixels, Unusable):
            return pixels
        shorter, longer = sorted((pixels.width, pixels.height))
        if shorter < self._min_side:
            return Drop("min_side")
        if longer > self._max_aspect * shorter:
            return Drop("max_aspect")
        small = on_white(resized(pixels, crop_box(pixels.width, pixels.height, self._size), self._size))
        if is_flat(small, self._min_std):
            return Drop("min_std")
        if not self._keep_original:
            return MediaSample(encode(small), ".jpg", caption, width=self._size, height=self._size)
        if longer > MAX_SIDE and not pixels.original:
            return Unusable("too_large", f"a side of {longer:,} pixels; a JPEG has {MAX_SIDE:,} at most")
        kept = data if pixels.original else encode(on_white(pixels.image()))
        return MediaSample(kept, pixels.original or ".jpg", caption, width=pixels.width, height=pixels.height)


def crop_box(width: int, height: int, size: int) -> Box:
    """The part of a picture that becomes `size x size` pixels when its shorter side is scaled to `size` and the middle
    is cut out: on the same grid as torchvision's Resize and CenterCrop, which round in this way."""
    shorter = min(width, height)
    columns, rows = size * width // shorter, size * height // shorter
    left, top = round((columns - size) / 2), round((rows - size) / 2)
    across, down = width / columns, height / rows
    return Box(left * across, top * down, min((left + size) * across, width), min((top + size) * down, height))


def on_white(image: Image.Image) -> Image.Image:
    """RGB; what is transparent shows white."""
    if image.mode != "RGBA":
        return image if image.mode == "RGB" else image.convert("RGB")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image.getchannel("A"))
    return white


def is_flat(image: Image.Image, min_std: float) -> bool:
    """Whether every channel's standard deviation (of 0..255) is below `min_std`."""
    across, down = image.width // 8, image.height // 8
    if across and down:
        # The variance of all is at least that of some times their share, and green of every eighth nearly always says
        # enough. In whole numbers: numpy takes several times as long for the mean and variance of so few.
        some = np.asarray(image.resize((across, down), Image.Resampling.NEAREST))[:, :, 1].astype(np.int64).ravel()
        count = len(some)
        spread = int(some @ some) * count - int(some.sum()) ** 2  # the variance of some, times count squared
        if spread >= (min_std + 0.01) ** 2 * image.width * image.height * count:
            return False
    counts = np.array(image.histogram(), np.int64).reshape(-1, 256)
    number, sums, squares = image.width * image.height, counts @ _LEVELS, counts @ _LEVELS**2
    return bool((number * squares - sums**2).max() < (min_std * number) ** 2)


def encode(image: Image.Image) -> bytes:
    sink = io.BytesIO()
    image.save(sink, "JPEG", qtables=QUANTISATION, subsampling=0)
    return sink.getvalue()
