"""Pictures of four inks with a profile, and of 16 bits a channel: their pixels are what was meant, by other means."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from omni_ray.prepare.records import Unusable
from omni_ray.prepare.transforms import image_decode
from tests.prepare.hostile.image_files import encoded
from tests.prepare.transforms.icc import cmyk_profile, lab_of, srgb_of
from tests.prepare.transforms.test_image import made, pixels, psnr, reference, transform

FORMS = [("TIFF", {}, 2), ("JPEG", {"quality": 100, "subsampling": 0}, 4)]
PNG_COLOURS = {1: 0, 2: 4, 3: 2, 4: 6}  # colour type by number of channels


def decoded(data: bytes) -> tuple[str, Any]:
    """Mode and `[height, width, channels]` of what `decode` gives."""
    found = image_decode.decode(data)
    assert isinstance(found, image_decode.Pixels), found
    return found.mode, np.asarray(found.image())


def inked(side: int = 240) -> Any:
    """`[side, side, C M Y K]`, 0 to 255, whose colours by `lab_of` are all within sRGB."""
    down, across = np.mgrid[:side, :side] / (side - 1)
    inks = np.stack([across * 0.5, down * 0.5, (1 - across) * 0.4, across * down * 0.6], -1)
    return np.rint(255 * inks).astype(np.uint8)


@pytest.mark.parametrize(("form", "options", "levels"), FORMS)
def test_inks_are_what_their_profile_says(form: str, options: dict[str, Any], levels: int) -> None:
    inks = inked()
    data = encoded(Image.fromarray(inks, "CMYK"), form, icc_profile=cmyk_profile(), **options)
    expected = srgb_of(lab_of(inks / 255))
    mode, found = decoded(data)
    assert mode == "RGB"
    assert np.abs(found - expected).max() <= levels
    by_rote = np.asarray(Image.fromarray(inks, "CMYK").convert("RGB"))
    assert psnr(by_rote, expected) < 20, "without the profile they would be other colours"
    wanted = Image.fromarray(np.rint(expected).astype(np.uint8))
    assert psnr(reference(wanted), pixels(made(data).data)) > 45


def damaged_profiles() -> dict[str, bytes]:
    whole = cmyk_profile()
    table = whole.index(b"mft2")
    return {
        "cut in its header": whole[:100],
        "cut in its table": whole[: table + 60],
        "other numbers of channels": whole[: table + 8] + b"\3\3" + whole[table + 10 :],
        "no table": whole.replace(b"A2B0", b"xxxx"),
        "no profile": b"\xff" * 500,
        "for three colours": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        "for pictures in Lab": ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes(),
    }


@pytest.mark.parametrize("what", damaged_profiles())
@pytest.mark.parametrize(("form", "options"), [(form, options) for form, options, *_ in FORMS])
def test_a_profile_that_is_of_no_use_is_left_aside(form: str, options: dict[str, Any], what: str) -> None:
    image = Image.fromarray(inked(), "CMYK")
    without = decoded(encoded(image, form, **options))
    mode, found = decoded(encoded(image, form, icc_profile=damaged_profiles()[what], **options))
    assert mode == without[0] == "RGB"
    assert np.array_equal(found, without[1])


def deep(channels: int) -> Any:
    """`[96, 128, channels]` of 16 bits: slopes whose low bytes are noise; what is clear in part is nowhere quite so."""
    down, across = np.mgrid[:96, :128].astype(np.float64)
    slopes = [across / 127, down / 95, (across + down) / 222, 0.3 + 0.6 * across / 127]
    chosen = {1: [0], 2: [0, 3], 3: [0, 1, 2], 4: [0, 1, 2, 3]}[channels]
    high = np.stack([slopes[one] for one in chosen], -1) * 255
    return high.astype(np.uint16) << 8 | np.random.default_rng(channels).integers(0, 256, high.shape, np.uint16)


def png(values: Any) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width, channels = values.shape
    head = struct.pack(">2I5B", width, height, 16, PNG_COLOURS[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(values: Any, order: str = "<", compression: int = 1, colours: int | None = None, bits: int = 16) -> bytes:
    """One strip, uncompressed (1) or deflated (8), of grey (`colours` 1; 0: white is 0) or RGB (2); a second or fourth
    channel is alpha that the others are not multiplied by."""
    height, width, channels = values.shape
    body = packed(values) if bits == 12 else values.astype(f"{order}u2").tobytes()
    body = zlib.compress(body) if compression == 8 else body
    colours = colours if colours is not None else 2 if channels > 2 else 1
    depths = struct.pack(f"{order}{channels}H", *[bits] * channels)
    tags = {256: width, 257: height, 259: compression, 262: colours, 273: 8 + len(depths), 277: channels, 278: height}
    tags |= {279: len(body)} | ({338: 2} if channels in (2, 4) else {})
    entries = {tag: struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags.items()}
    where = struct.pack(f"{order}I", 8) if channels > 2 else depths.ljust(4, b"\0")
    entries[258] = struct.pack(f"{order}HHI", 258, 3, channels) + where
    body += b"\0" * (len(body) % 2)
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(depths) + len(body))
    directory = struct.pack(f"{order}H", len(entries)) + b"".join(entries[tag] for tag in sorted(entries)) + bytes(4)
    return start + depths + body + directory


def packed(values: Any) -> bytes:
    """Two numbers of 12 bits in three bytes."""
    one, other = values.reshape(-1, 2).T
    return np.stack([one >> 4, (one & 15) << 4 | other >> 8, other & 255], -1).astype(np.uint8).tobytes()


DEEP = {
    **{f"{channels}.png": png(deep(channels)) for channels in (1, 2, 3, 4)},
    **{
        f"{channels}{order}{compression}.tif": tiff(deep(channels), order, compression)
        for channels in (1, 3, 4)
        for order in "<>"
        for compression in (1, 8)
    },
}


@pytest.mark.parametrize("name", DEEP)
def test_of_16_bits_the_high_byte_is_kept(name: str) -> None:
    channels = int(name[0])
    high = (deep(channels) >> 8).astype(np.uint8)
    mode, found = decoded(DEEP[name])
    if channels == 1:
        assert (mode, found.tolist()) == ("L", high[:, :, 0].tolist())
    elif channels == 2:
        assert mode == "RGBA"
        assert np.array_equal(found, high[:, :, [0, 0, 0, 1]])
    else:
        assert mode == ("RGB" if channels == 3 else "RGBA")
        assert np.array_equal(found, high)


@pytest.mark.parametrize("name", DEEP)
def test_pictures_of_16_bits_become_jpegs(name: str) -> None:
    channels = int(name[0])
    high = (deep(channels) >> 8).astype(np.float64)
    colours = np.broadcast_to(high[:, :, :1] if channels < 3 else high[:, :, :3], (*high.shape[:2], 3))
    alpha = high[:, :, -1:] / 255 if channels in (2, 4) else 1
    shown = Image.fromarray(np.rint(colours * alpha + 255 * (1 - alpha)).astype(np.uint8))  # on white
    assert psnr(reference(shown), pixels(made(DEEP[name]).data)) > 38
    whole = made(DEEP[name], transform(keep_original=True))
    assert (whole.suffix, whole.width, whole.height) == (".jpg", 128, 96), "no reader is sure to expect 16 bits"
    with Image.open(io.BytesIO(whole.data)) as image:
        assert psnr(np.asarray(shown), np.asarray(image)) > 38


@pytest.mark.parametrize(("bits", "white"), [(12, 1), (16, 1), (16, 0)])
def test_grey_tiffs_of_more_than_8_bits(bits: int, white: int) -> None:
    """12 bits are as bright as 16, and black is black also where the file says that white is 0."""
    values = deep(1) >> 16 - bits
    mode, found = decoded(tiff(values if white else 0xFFFF - values, colours=white, bits=bits))
    assert mode == "L"
    assert np.array_equal(found, (deep(1)[:, :, 0] >> 8).astype(np.uint8))


@pytest.mark.parametrize("data", [tiff(deep(2)), tiff(deep(1), ">", colours=0), tiff(deep(1) >> 4, colours=0, bits=12)])
def test_a_kind_of_pixels_that_is_not_read_is_said_to_be_so(data: bytes) -> None:
    found = image_decode.decode(data)
    assert isinstance(found, Unusable)
    words = "begins like a TIFF, but its header or its kind of pixels cannot be read"
    assert (found.reason, found.error) == ("corrupt", words)
