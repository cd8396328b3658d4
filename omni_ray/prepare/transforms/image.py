"""One picture as it is published to the JPEG that training reads, or to the reason for which there is none."""

import io
import warnings
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from omni_ray.catalog import Source
from omni_ray.prepare.records import Drop, MediaSample, Unusable
from omni_ray.prepare.transforms import fields

OUTPUT_VERSION = 1  # raised with any change that gives other bytes for the same picture
IMAGE_SIZE = 224  # pixels
QUALITY = 95  # of the JPEG


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
        return {"image": OUTPUT_VERSION, "image_size": self._size, "keep_original": self._keep_original}

    def __call__(self, data: bytes, text: str) -> MediaSample | Drop | Unusable:
        """`data` is the encoded picture, `text` its caption as found."""
        try:
            caption = fields.clean(text)
        except UnicodeEncodeError as error:
            return fields.undecodable(error)
        if not caption:
            return Unusable("no_caption", "the caption is empty")
        if not data:
            return Unusable("empty", "the picture has no bytes")
        try:
            with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data)) as image:
                picture = ImageOps.exif_transpose(image).convert("RGB")
        except UnidentifiedImageError:
            return Unusable("unknown_format", "no picture in a format that is known")
        except OSError as error:
            return Unusable("damaged", str(error))
        width, height = picture.size
        if min(width, height) < self._min_side:
            return Drop("min_side")
        if max(width, height) > self._max_aspect * min(width, height):
            return Drop("max_aspect")
        small = ImageOps.fit(picture, (self._size, self._size), Image.Resampling.BICUBIC)
        if np.asarray(small).std(axis=(0, 1)).max() < self._min_std:
            return Drop("min_std")
        sink = io.BytesIO()
        small.save(sink, "JPEG", quality=QUALITY)
        return MediaSample(sink.getvalue(), ".jpg", caption, width=self._size, height=self._size)
