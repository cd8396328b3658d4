"""Pictures that are damaged, malicious or odd, each with what must become of it; made here, byte for byte the same."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageCms, PngImagePlugin

KEPT = "kept"


class Case(NamedTuple):
    """`outcome` is KEPT, the rule that drops it or the reason of its quarantine; `words` are in the error.
    A kept picture shows `scene()` within `psnr` dB (0: something else)."""

    data: bytes
    outcome: str
    words: str = ""
    psnr: float = 0


def scene(width: int = 300, height: int = 240) -> Image.Image:
    """RGB, smooth, with no symmetry: turning or mirroring it is seen, and so is any mistake about colours."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    red = 128 + 100 * np.sin(x / width * 4) * np.cos(y / height * 3)
    green = 255 * x / width
    blue = 255 * (y / height) ** 2
    return Image.fromarray(np.stack([red, green, blue], 2).clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    sink = io.BytesIO()
    image.save(sink, form, **options)
    return sink.getvalue()


def hostile() -> dict[str, Case]:
    """File name -> case. Names lie where real ones would: a name says nothing about the content."""
    return truncated() | not_pictures() | bombs() | damaged() | ruled_out() | odd() | other_formats() | turned()


def truncated() -> dict[str, Case]:
    noisy = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    forms = {"jpg": "JPEG", "png": "PNG", "gif": "GIF", "bmp": "BMP", "webp": "WEBP", "tif": "TIFF", "jp2": "JPEG2000"}
    cases = {}
    for suffix, form in forms.items():
        data = encoded(noisy, form)
        reason = "corrupt" if suffix in ("webp", "jp2") else "truncated"  # these decoders do not say why
        cases[f"half.{suffix}"] = Case(data[: len(data) // 2], reason)
    whole = encoded(noisy, "JPEG")
    return cases | {
        "empty.jpg": Case(b"", "empty", "no bytes"),
        "three_bytes.jpg": Case(whole[:3], "corrupt"),
        "only_header.jpg": Case(whole[: whole.index(b"\xff\xda") + 14], "truncated"),
        "progressive_half.jpg": Case((data := encoded(noisy, "JPEG", progressive=True))[: len(data) // 2], "truncated"),
        "eight_bytes.png": Case(b"\x89PNG\r\n\x1a\n", "corrupt", "PNG"),
        "six_bytes.gif": Case(b"GIF89a", "corrupt", "GIF"),
        "eight_bytes.tif": Case(b"II*\0\x08\0\0\0", "corrupt", "TIFF"),
    }


def not_pictures() -> dict[str, Case]:
    drawing = b'<svg xmlns="http://www.w3.org/2000/svg" width="99999999" height="99999999"><script>1</script></svg>'
    return {
        "drawing.svg": Case(drawing, "unsupported_format", "SVG"),
        "drawing.png": Case(b'<?xml version="1.0"?>\n<!-- hello -->\n' + drawing, "unsupported_format", "SVG"),
        "page.jpg": Case(b"<!DOCTYPE html><html><body>404 Not Found</body></html>", "unknown_format", "web page"),
        "script.eps": Case(
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n%%EndComments\n(/etc/passwd) (r) file\n",
            "unsupported_format", "PostScript",
        ),
        "document.pdf": Case(b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n", "unsupported_format", "PDF"),
        "phone.heic": Case(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 64, "unsupported_format", "HEIC"),
        "film.jpg": Case(b"\0\0\0\x18ftypisom\0\0\0\0isomiso2" + b"\0" * 64, "unsupported_format", "video"),
        "text.png": Case("no picture, but text: grüße\n".encode() * 9, "unknown_format"),
        "noughts.jpg": Case(b"\0" * 4096, "unknown_format"),
        "noise.jpg": Case(b"\xa5" + np.random.default_rng(1).bytes(4096), "unknown_format"),
        "pickle.png": Case(b"\x80\x04\x95\x1a\0\0\0\0\0\0\0\x8c\x05posix\x94\x8c\x06system\x94\x93.", "unknown_format"),
    }  # fmt: skip


def bombs() -> dict[str, Case]:
    """A few hundred bytes to a few megabytes that would become gigabytes."""
    tiny = Image.new("RGB", (16, 16), "red")
    huge_jpeg = bytearray(encoded(tiny, "JPEG"))
    at = huge_jpeg.index(b"\xff\xc0") + 5
    huge_jpeg[at : at + 4] = struct.pack(">HH", 65500, 65500)
    huge_gif = bytearray(encoded(tiny, "GIF"))
    huge_gif[6:10] = struct.pack("<HH", 65535, 65535)
    huge_bmp = bytearray(encoded(tiny, "BMP"))
    huge_bmp[18:26] = struct.pack("<ii", 60000, 60000)
    huge_webp = bytearray(encoded(tiny, "WEBP", lossless=True))
    at = huge_webp.index(b"VP8L") + 9
    bits = int.from_bytes(huge_webp[at : at + 4], "little") & ~0xFFFFFFF
    huge_webp[at : at + 4] = (bits | 16382 | 16382 << 14).to_bytes(4, "little")
    png = _png(50_000, 50_000, 0, zlib.compress(bytes(1000)))
    inner = _png(12_000, 12_000, 6, zlib.compress(bytes(1000)))
    icon = struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", 32, 32, 0, 0, 1, 32, len(inner), 22) + inner
    return {
        "bomb.png": Case(png, "too_large", "2500000000 pixels"),
        "bomb.jpg": Case(bytes(huge_jpeg), "too_large", "4,290,250,000 pixels"),
        "bomb.gif": Case(bytes(huge_gif), "too_large"),
        "bomb.bmp": Case(bytes(huge_bmp), "too_large"),
        "bomb.webp": Case(bytes(huge_webp), "too_large"),
        "bomb.tif": Case(_tiff(60_000, 60_000), "too_large"),
        "bomb_in_a_tile.tif": Case(_tiff(64, 64, tile=30_000), "too_large", "900,000,000 pixels"),
        "bomb.ico": Case(icon, "too_large"),
        "bomb_of_text.png": Case(_png(16, 16, 2, zlib.compress(bytes(49 * 16)), [_text_bomb()]), "corrupt"),
        "bomb_of_colours.png": Case(_png(16, 16, 2, zlib.compress(bytes(49 * 16)), [_profile_bomb()]), "corrupt"),
    }


def damaged() -> dict[str, Case]:
    png = encoded(scene(64, 64), "PNG")
    crossed = bytearray(png)
    crossed[len(png) // 2] ^= 0xFF
    no_size = bytearray(encoded(scene(64, 64), "JPEG"))
    at = no_size.index(b"\xff\xc0")
    no_size[at + 5 : at + 9] = bytes(4)
    twelve = bytearray(encoded(scene(64, 64), "JPEG"))
    twelve[at + 4] = 12
    not_numbers = np.full((64, 64), np.nan, np.float32)
    return {
        "flipped_byte.png": Case(bytes(crossed), "corrupt"),
        "no_size.jpg": Case(bytes(no_size), "corrupt"),
        "twelve_bits.jpg": Case(bytes(twelve), "corrupt"),
        "no_size.png": Case(_png(0, 0, 2, zlib.compress(b"")), "corrupt"),
        "no_pixels.png": Case(_png(64, 64, 2, zlib.compress(b"")), "truncated"),
        "no_frames.gif": Case(b"GIF89a" + struct.pack("<HHBBB", 64, 64, 0, 0, 0) + b";", "corrupt"),
        "not_numbers.tif": Case(encoded(Image.fromarray(not_numbers), "TIFF"), "corrupt", "not numbers"),
        "loop.tif": Case(b"II*\0\x08\0\0\0\0\0\x08\0\0\0", "corrupt"),
        "far_away.tif": Case(b"II*\0\xff\xff\xff\x7f", "corrupt"),
        "no_such_compression.tif": Case(_tiff(64, 64, compression=47_000), "corrupt"),
        "strip_elsewhere.tif": Case(_tiff(64, 64, offset=0x7FFFFFFF), "corrupt"),
    }


def ruled_out() -> dict[str, Case]:
    clear = scene(64, 64).convert("RGBA")
    clear.putalpha(0)
    return {
        "point.png": Case(encoded(Image.new("RGB", (1, 1)), "PNG"), "min_side"),
        "low.png": Case(encoded(scene(64, 31), "PNG"), "min_side"),
        "narrow.jpg": Case(encoded(scene(31, 200), "JPEG"), "min_side"),
        "pixel.gif": Case(encoded(Image.new("P", (1, 1)), "GIF"), "min_side"),
        "long.png": Case(encoded(scene(40, 241), "PNG"), "max_aspect"),
        "wide.jpg": Case(encoded(scene(600, 64), "JPEG"), "max_aspect"),
        "black.jpg": Case(encoded(Image.new("L", (64, 64)), "JPEG"), "min_std"),
        "red.png": Case(encoded(Image.new("RGB", (64, 64), "red"), "PNG"), "min_std"),
        "clear.png": Case(encoded(clear, "PNG"), "min_std"),
    }


def odd() -> dict[str, Case]:
    """Pictures that only look wrong."""
    base = scene()
    jpeg = encoded(base, "JPEG", quality=95)
    many = jpeg[:2] + b"".join(
        b"\xff\xe1" + struct.pack(">H", 65535) + b"Exif\0\0" + b"\xaa" * 65527 for _ in range(40)
    )
    pnginfo = PngImagePlugin.PngInfo()
    pnginfo.add_text("comment", "x" * 100_000, zip=True)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    rgba = base.convert("RGBA")
    rgba.putalpha(Image.linear_gradient("L").resize(base.size))
    return {
        "png_by_content.jpg": Case(encoded(base, "PNG"), KEPT, psnr=40),
        "jpeg_by_content.png": Case(jpeg, KEPT, psnr=38),
        "no_end.jpg": Case(jpeg[:-2], "truncated"),
        "garbage_behind.jpg": Case(jpeg + b"\0garbage" * 1000, KEPT, psnr=38),
        "much_exif.jpg": Case(many + jpeg[2:], KEPT, psnr=38),
        "bad_exif.jpg": Case(encoded(base, "JPEG", quality=95, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"), KEPT, psnr=38),
        "orientation_99.jpg": Case(encoded(base, "JPEG", quality=95, exif=_exif(99)), KEPT, psnr=38),
        "bad_profile.jpg": Case(encoded(base, "JPEG", quality=95, icc_profile=b"\xff" * 300_000), KEPT, psnr=38),
        "bad_profile_cmyk.jpg": Case(
            encoded(base.convert("CMYK"), "JPEG", quality=95, icc_profile=b"\xff" * 3000), KEPT, psnr=36
        ),
        "rgb_profile_cmyk.jpg": Case(
            encoded(base.convert("CMYK"), "JPEG", quality=95, icc_profile=srgb), KEPT, psnr=36
        ),
        "progressive.jpg": Case(encoded(base, "JPEG", quality=95, progressive=True), KEPT, psnr=38),
        "subsampled.jpg": Case(encoded(base, "JPEG", quality=95, subsampling=2), KEPT, psnr=36),
        "cmyk.jpg": Case(encoded(base.convert("CMYK"), "JPEG", quality=95), KEPT, psnr=36),
        "grey.jpg": Case(encoded(base.convert("L"), "JPEG"), KEPT),
        "long_comment.png": Case(encoded(base, "PNG", pnginfo=pnginfo), KEPT, psnr=40),
        "interlaced.png": Case(_interlaced(), KEPT),
        "clear_in_part.png": Case(encoded(rgba, "PNG"), KEPT),
        "aspect_of_six.png": Case(encoded(scene(40, 240), "PNG"), KEPT),
        "nearly_flat.png": Case(encoded(Image.effect_noise((64, 64), 3), "PNG"), KEPT),
        "side_of_32.png": Case(encoded(scene(32, 40), "PNG"), KEPT),
    }


def other_formats() -> dict[str, Case]:
    base = scene()
    grey = base.convert("L")
    wide = np.asarray(grey).astype(np.uint16) * 257
    frames = [Image.new("RGB", base.size, colour) for colour in ("black", "white")]
    moving = {"save_all": True, "append_images": frames}
    palette = base.quantize(256)
    return {
        "sixteen_bits.png": Case(encoded(Image.fromarray(wide), "PNG"), KEPT),
        "sixteen_bits.tif": Case(encoded(Image.fromarray(wide), "TIFF"), KEPT),
        "floats.tif": Case(encoded(Image.fromarray(np.asarray(grey).astype(np.float32) / 255), "TIFF"), KEPT),
        "integers.tif": Case(encoded(Image.fromarray(np.asarray(grey).astype(np.int32) * 99_999), "TIFF"), KEPT),
        "palette.png": Case(encoded(palette, "PNG"), KEPT, psnr=28),
        "palette_with_holes.png": Case(encoded(palette, "PNG", transparency=0), KEPT, psnr=15),
        "grey_and_alpha.png": Case(encoded(grey.convert("LA"), "PNG"), KEPT),
        "one_bit.png": Case(encoded(base.convert("1"), "PNG"), KEPT),
        "moving.gif": Case(encoded(base, "GIF", **moving), KEPT, psnr=28),
        "moving.webp": Case(encoded(base, "WEBP", quality=95, **moving), KEPT, psnr=36),
        "moving.png": Case(encoded(base, "PNG", **moving), KEPT, psnr=40),
        "pages.tif": Case(encoded(base, "TIFF", **moving), KEPT, psnr=40),
        "pair.mpo": Case(encoded(base, "MPO", quality=95, **moving), KEPT, psnr=38),
        "still.webp": Case(encoded(base, "WEBP", lossless=True), KEPT, psnr=40),
        "still.avif": Case(encoded(base, "AVIF", quality=90, speed=10), KEPT, psnr=34),
        "still.jp2": Case(encoded(base, "JPEG2000"), KEPT, psnr=40),
        "still.bmp": Case(encoded(base, "BMP"), KEPT, psnr=40),
        "palette.bmp": Case(encoded(palette, "BMP"), KEPT, psnr=28),
        "still.ppm": Case(encoded(base, "PPM"), KEPT, psnr=40),
        "still.tga": Case(encoded(base, "TGA"), KEPT, psnr=40),
        "still.pcx": Case(encoded(base, "PCX"), KEPT, psnr=40),
        "still.ico": Case(encoded(scene(256, 256), "ICO"), KEPT),
        "deflated.tif": Case(encoded(base, "TIFF", compression="tiff_adobe_deflate"), KEPT, psnr=40),
        "cmyk.tif": Case(encoded(base.convert("CMYK"), "TIFF"), KEPT, psnr=38),
        "lab.tif": Case(encoded(_as_lab(base), "TIFF"), KEPT, psnr=30),
        "ycbcr.tif": Case(encoded(base.convert("YCbCr"), "TIFF"), KEPT, psnr=36),
    }


def turned() -> dict[str, Case]:
    """For every orientation the picture as a camera stores it that was turned that way."""
    undo: dict[int, Callable[[Image.Image], Image.Image]] = {
        1: lambda image: image,
        2: lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: lambda image: image.transpose(Image.Transpose.ROTATE_180),
        4: lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: lambda image: image.transpose(Image.Transpose.TRANSPOSE),
        6: lambda image: image.transpose(Image.Transpose.ROTATE_90),
        7: lambda image: image.transpose(Image.Transpose.TRANSVERSE),
        8: lambda image: image.transpose(Image.Transpose.ROTATE_270),
    }
    forms: dict[str, tuple[str, dict[str, Any], float]] = {
        "jpg": ("JPEG", {"quality": 95}, 37), "png": ("PNG", {}, 40), "webp": ("WEBP", {"lossless": True}, 40),
        "tif": ("TIFF", {}, 40),
    }  # fmt: skip
    cases = {
        f"turned_{turn}.{suffix}": Case(encoded(way(scene()), form, exif=_exif(turn), **options), KEPT, psnr=psnr)
        for turn, way in undo.items()
        for suffix, (form, options, psnr) in forms.items()
    }
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    cases["turned_by_xmp.jpg"] = Case(encoded(undo[6](scene()), "JPEG", quality=95, xmp=xmp), KEPT, psnr=37)
    return cases


def _exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x112] = orientation
    return exif.tobytes()


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _png(width: int, height: int, colour: int, body: bytes, before: list[bytes] | None = None, lace: int = 0) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, lace)
    parts = [_chunk(b"IHDR", head), *(before or []), _chunk(b"IDAT", body), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _text_bomb() -> bytes:
    return _chunk(b"zTXt", b"comment\0\0" + zlib.compress(bytes(16 << 20)))


def _profile_bomb() -> bytes:
    return _chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(16 << 20)))


def _interlaced() -> bytes:
    """Adam7, 64 x 64, grey: the seven passes of a slope."""
    slope = np.add.outer(np.arange(64), np.arange(64) * 3).astype(np.uint8)
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = [b"\0" + row.tobytes() for top, left, down, across in passes for row in slope[top::down, left::across]]
    return _png(64, 64, 0, zlib.compress(b"".join(rows)), lace=1)


def _tiff(width: int, height: int, tile: int = 0, compression: int = 8, offset: int = 0) -> bytes:
    """A grey TIFF of one strip, or of one tile of `tile x tile` pixels."""
    body = zlib.compress(bytes(range(256)) * 16)
    tags = {256: width, 257: height, 258: 8, 259: compression, 262: 1, 277: 1}
    places = (324, 325) if tile else (273, 279)
    tags |= {322: tile, 323: tile} if tile else {278: height}
    tags |= {places[0]: offset or 8, places[1]: len(body)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    body += b"\0" * (len(body) % 2)
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + struct.pack("<H", len(tags)) + entries + b"\0" * 4


def _as_lab(image: Image.Image) -> Image.Image:
    lab = ImageCms.profileToProfile(
        image, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert lab is not None
    return lab
