"""Encoded pictures to pixels: whatever Pillow reads, upright, 8 bits a channel, within a limit of memory.

Plain JPEGs are decoded by libjpeg-turbo through simplejpeg, which gives the very pixels that Pillow gives, a quarter
faster. Colour profiles of RGB pictures are ignored, as they are wherever models are trained on pictures; CMYK means
nothing without its profile, so that one is used.
"""

import io
import struct
import warnings
from typing import Any, Literal, NamedTuple

import numpy as np
import simplejpeg
from PIL import Image, ImageCms, UnidentifiedImageError
from PIL.ExifTags import Base as Tag
from PIL.JpegImagePlugin import JpegImageFile

from omni_ray.prepare.records import Unusable

MAX_DECODE_BYTES = 640 << 20  # that decoding one picture may take, as estimated from its header
# Bytes a pixel at the largest: Pillow's own copies, those of its decoder, and ours. Measured; a test holds them to it.
_BYTES_PER_PIXEL = {"JPEG": 16, "PNG": 16, "GIF": 16, "BMP": 16, "TIFF": 20}
_OTHER_BYTES_PER_PIXEL = 24  # WebP, AVIF and JPEG 2000 decode into several whole pictures
# Ghostscript would run what is in an EPS; the others need libraries that are not there.
_REFUSED_FORMATS = {"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG"}
_JPEG_MAGIC = b"\xff\xd8\xff"
_MAY_TELL_ORIENTATION = {"exif", "xmp"}  # among what Pillow finds in a JPEG; asking where neither is takes longer
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_RECOGNISED = (  # what is not read, and what is but too broken to be opened, by something near its beginning
    (b"<svg", "unsupported_format", "SVG describes a drawing, it has no pixels"),
    (b"<html", "unknown_format", "a web page, not a picture"),
    (b"<!doctype html", "unknown_format", "a web page, not a picture"),
    (b"%!ps", "unsupported_format", "PostScript would have to be run"),
    (b"%pdf", "unsupported_format", "a PDF, not a picture"),
    (b"ftyphei", "unsupported_format", "HEIC is not read; convert it"),
    (b"ftypmif1", "unsupported_format", "HEIF is not read; convert it"),
    (b"ftypavif", "corrupt", "begins like an AVIF, but its header cannot be read"),
    (b"ftyp", "unsupported_format", "a video, or a HEIF picture"),
    (b"\x89png", "corrupt", "begins like a PNG, but its header cannot be read"),
    (b"gif8", "corrupt", "begins like a GIF, but its header cannot be read"),
    (b"ii*\0", "corrupt", "begins like a TIFF, but its header or its kind of pixels cannot be read"),
    (b"mm\0*", "corrupt", "begins like a TIFF, but its header or its kind of pixels cannot be read"),
    (b"webp", "corrupt", "begins like a WebP, but its header cannot be read"),
)

# Pillow refuses twice as much, also for the pictures inside ICO and ICNS files, whose size cannot be asked for.
Image.MAX_IMAGE_PIXELS = MAX_DECODE_BYTES // _BYTES_PER_PIXEL["PNG"] // 2
Image.init()
_FORMATS = [name for name in Image.ID if name not in _REFUSED_FORMATS]

Mode = Literal["L", "RGB", "RGBA"]


class Pixels(NamedTuple):
    """A decoded picture, upright: `rows x columns` pixels of `mode` in `data`.

    They may be the picture at a half, a quarter or an eighth: `scale` says so (2, 4, 8), and `columns` is then
    `width / scale` rounded up. `original` is the suffix of a file in which any reader sees the same picture in the
    encoded bytes as they are; "" where there is none.
    """

    mode: Mode
    width: int
    height: int
    columns: int
    rows: int
    scale: int
    data: bytes
    original: str

    def image(self) -> Image.Image:
        return Image.frombytes(self.mode, (self.columns, self.rows), self.data)


def decode(data: bytes, enough: int = 0) -> Pixels | Unusable:
    """Decode one picture, the first of an animation. JPEGs are decoded at a fraction that leaves both sides at least
    `enough` pixels long (0: always whole).

    Raises:
        MemoryError: where there is less memory than the limit here lets a picture have.
    """
    if not data:
        return Unusable("empty", "the picture has no bytes")
    try:
        with warnings.catch_warnings(action="ignore"):  # Pillow's, about what it reads all the same
            return _jpeg(data, enough) if data.startswith(_JPEG_MAGIC) else _other(data)
    except UnidentifiedImageError:
        return _unidentified(data)
    except Image.DecompressionBombError as error:
        return Unusable("too_large", str(error))
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - decoders raise anything over a damaged file; it goes into the quarantine
        words = f"cannot be decoded: {str(error)[:200] or type(error).__name__}"
        return Unusable("truncated" if "truncated" in words.lower() else "corrupt", words)


def _jpeg(data: bytes, enough: int) -> Pixels | Unusable:
    with JpegImageFile(io.BytesIO(data)) as header:
        width, height = header.size
        turn = _orientation(header) if header.info.keys() & _MAY_TELL_ORIENTATION else 0
        fraction = min(width, height) // enough if enough else 1
        scale = next((scale for scale in (8, 4, 2) if fraction >= scale), 1)
        if turn and (width % scale or height % scale):
            scale = 1  # the part of a pixel at the right or the bottom would come to lie on another side
        if excess := _excess(width * height, _jpeg_bytes(header, scale)):
            return excess
        mode: Mode = "L" if header.mode == "L" else "RGB"
        array = _turbo(data, header, scale) if header.mode == mode else None
        if array is not None and not turn:
            return Pixels(mode, width, height, array.shape[1], array.shape[0], scale, array.tobytes(), ".jpg")
        if array is not None:
            image = Image.fromarray(array)
        else:
            if scale > 1:
                header.draft(None, (enough, enough))
            image = _eight_bit(header)
        whole = image if not turn else image.transpose(_UPRIGHT[turn])
        size = (height, width) if turn >= 5 else (width, height)
        return _packed(whole, size, scale, ".jpg" if header.mode == mode and not turn else "")


def _turbo(data: bytes, header: JpegImageFile, scale: int) -> Any:
    """`[rows, columns, 3]` or `[rows, columns]`; None where libjpeg-turbo has a complaint, however small: Pillow has
    the word then, and it knows which pictures are whole all the same."""
    width, height = header.size
    colours = "GRAY" if header.mode == "L" else "RGB"
    try:
        array = simplejpeg.decode_jpeg(data, colours, min_height=-(-height // scale), min_width=-(-width // scale))
    except ValueError:
        return None
    return array[:, :, 0] if header.mode == "L" else array


def _jpeg_bytes(header: JpegImageFile, scale: int) -> int:
    """What decoding takes: a progressive picture keeps all its coefficients, and any other may be made to."""
    width, height = header.size
    parts = [across * down for _, across, down, _ in header.layer]
    coefficients = 2 * width * height * sum(parts) // max(*parts, 1)
    return coefficients + _BYTES_PER_PIXEL["JPEG"] * width * height // scale**2


def _other(data: bytes) -> Pixels | Unusable:
    with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
        pixels = image.width * image.height
        if excess := _excess(pixels, pixels * _BYTES_PER_PIXEL.get(image.format or "", _OTHER_BYTES_PER_PIXEL)):
            return excess
        if image.format == "TIFF" and (excess := _excess_of_tile(image)):
            return excess
        plain = image.format == "PNG" and image.mode in ("L", "RGB", "P") and not image.has_transparency_data
        plain = plain and not any(";16" in str(tile.args) for tile in image.tile)  # some readers give 16 bits then
        image.load()
        turn = _orientation(image)
        picture = _eight_bit(image)
        upright = picture if not turn else picture.transpose(_UPRIGHT[turn])
        still = not getattr(image, "is_animated", False)
        return _packed(upright, upright.size, 1, ".png" if plain and still and not turn else "")


def _packed(image: Image.Image, size: tuple[int, int], scale: int, original: str) -> Pixels:
    mode: Mode = "L" if image.mode == "L" else "RGB" if image.mode == "RGB" else "RGBA"
    return Pixels(mode, *size, *image.size, scale, image.tobytes(), original)


def _excess(pixels: int, needed: int) -> Unusable | None:
    if needed <= MAX_DECODE_BYTES:
        return None
    return Unusable(
        "too_large",
        f"{pixels:,} pixels would take {needed >> 20:,} MiB to decode; the limit is {MAX_DECODE_BYTES >> 20} MiB",
    )


def _excess_of_tile(image: Image.Image) -> Unusable | None:
    """A tile is decoded whole, however small the picture that it belongs to."""
    tags = getattr(image, "tag_v2", {})
    across, down = (int(tags.get(tag, 0)) for tag in (Tag.TileWidth, Tag.TileLength))
    depth = max(tags.get(Tag.BitsPerSample, (8,))) * int(tags.get(Tag.SamplesPerPixel, 1))
    return _excess(across * down, across * down * depth // 8)


def _orientation(image: Image.Image) -> int:
    """How the picture was turned, by Exif or XMP (2 to 8); 0 where it is upright or nothing can be read of it."""
    try:
        value = image.getexif().get(Tag.Orientation, 0)
    except (SyntaxError, ValueError, TypeError, LookupError, OSError, ArithmeticError, struct.error):
        return 0
    return value if isinstance(value, int) and value in _UPRIGHT else 0


def _eight_bit(image: Image.Image) -> Image.Image:
    """L, RGB or RGBA. 16 bits keep the high byte; where no range is declared, the least is black and the most white."""
    mode = image.mode
    if mode.startswith("I;16"):
        return _high_byte(image)
    if mode in ("I", "F"):
        return _stretched(image)
    if mode in ("CMYK", "LAB"):
        return _by_profile(image)
    if image.has_transparency_data:
        return image if mode == "RGBA" else image.convert("RGBA")
    return image if mode in ("L", "RGB") else image.convert("L" if mode == "1" else "RGB")


def _high_byte(image: Image.Image) -> Image.Image:
    """In a TIFF, 12 bits may lie in the 16, and white may be 0: Pillow turns that round for no more than 8 bits."""
    tags = getattr(image, "tag_v2", {})
    depth = tags.get(Tag.BitsPerSample, (16,))[0]
    high = (np.asarray(image) >> depth - 8).astype(np.uint8)
    return Image.fromarray(~high if tags.get(Tag.PhotometricInterpretation) == 0 else high)


def _stretched(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise ValueError("some pixels are not numbers")
    if image.mode == "I" and low >= 0 and high <= 0xFFFF:
        return Image.fromarray((values >> 8).astype(np.uint8))
    scaled = values.astype(np.float32)
    scaled -= np.float32(low)
    scaled *= np.float32(255 / ((high - low) or 1))
    return Image.fromarray(np.rint(scaled, out=scaled).astype(np.uint8))


def _by_profile(image: Image.Image) -> Image.Image:
    profile: bytes = image.info.get("icc_profile") or b""
    if image.mode == "CMYK" and not profile:
        return image.convert("RGB")
    wanted = ImageCms.createProfile("sRGB")
    try:
        given = ImageCms.createProfile("LAB") if image.mode == "LAB" else ImageCms.getOpenProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(image, given, wanted, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        if image.mode == "LAB":
            raise
        return image.convert("RGB")  # a broken profile, or one for other colours
    assert converted is not None
    return converted


def _unidentified(data: bytes) -> Unusable:
    head = data[:1024].lower()
    for magic, reason, error in _RECOGNISED:
        if magic in head:
            return Unusable(reason, error)
    return Unusable("unknown_format", f"no picture format that is known; it begins with {data[:8]!r}")
