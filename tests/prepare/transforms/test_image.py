import hashlib
import io
import math
import random
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from omni_ray.catalog import Source
from omni_ray.prepare.records import Drop, MediaSample, Unusable
from omni_ray.prepare.transforms import image_decode, image_resize
from omni_ray.prepare.transforms.image import SPARE, ImageTransform, crop_box, encode, is_flat, on_white
from tests.prepare.hostile.image_files import KEPT, Case, encoded, hostile, scene

ROOT = Path(__file__).resolve().parents[3]
SHARED = ROOT.parent / "shared/data/images"
HOSTILE = hostile()
BICUBIC = Image.Resampling.BICUBIC
needs_simd = pytest.mark.skipif(image_resize.RESIZER != "simd", reason="no wheel of the SIMD resizer for this machine")


def transform(size: int = 224, keep_original: bool = False, **rules: float) -> ImageTransform:
    source = Source.model_validate(
        {
            "name": "s", "modality": "image", "category": "general", "url": ("x",), "reader": "imagefolder",
            "license": "MIT", "fields": {"caption": "a {class}"}, "rules": rules,
        }
    )  # fmt: skip
    return ImageTransform(source, size, keep_original)


def made(data: bytes, one: ImageTransform | None = None, text: str = "a caption") -> MediaSample:
    result = (one or transform())(data, text)
    assert isinstance(result, MediaSample), result
    return result


def pixels(data: bytes) -> Any:
    """[height, width, RGB] of what was written."""
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.mode) == ("JPEG", "RGB")
        return np.asarray(image)


def reference(image: Image.Image, size: int = 224) -> Any:
    """As torchvision's Resize(size, BICUBIC, antialias=True) and CenterCrop(size) make it from a PIL image."""
    shorter = min(image.size)
    columns, rows = (int(size * side / shorter) for side in image.size)
    left, top = round((columns - size) / 2.0), round((rows - size) / 2.0)
    scaled = image.resize((columns, rows), BICUBIC).crop((left, top, left + size, top + size))
    return np.asarray(scaled.convert("RGB"))


def psnr(one: Any, other: Any) -> float:
    error = float(((one.astype(np.float64) - other) ** 2).mean())
    return 10 * math.log10(255**2 / error) if error else math.inf


@pytest.mark.parametrize("name", HOSTILE)
def test_what_becomes_of_hostile_and_odd_files(name: str) -> None:
    case: Case = HOSTILE[name]
    result = transform()(case.data, "a caption")
    if case.outcome != KEPT:
        assert isinstance(result, Drop | Unusable), name
        assert (result.rule if isinstance(result, Drop) else result.reason) == case.outcome
        assert not isinstance(result, Unusable) or (case.words in result.error and 0 < len(result.error) < 250)
        return
    assert isinstance(result, MediaSample), result
    assert result[1:] == (".jpg", "a caption", None, 224, 224)
    written = pixels(result.data)
    assert written.shape == (224, 224, 3)
    assert written.std(axis=(0, 1)).max() > 1
    if case.psnr:
        assert psnr(reference(scene()), written) > case.psnr


def test_there_are_as_many_hostile_files_as_were_promised() -> None:
    assert sum(case.outcome != KEPT for case in HOSTILE.values()) >= 40


def test_grey_of_any_depth_keeps_its_levels() -> None:
    grey = reference(scene().convert("L"))
    for name in ("grey.jpg", "sixteen_bits.png", "sixteen_bits.tif", "grey_and_alpha.png"):
        assert psnr(grey, pixels(made(HOSTILE[name].data).data)) > 38, name
    level = np.asarray(scene().convert("L")).astype(np.float64)
    stretched = Image.fromarray(np.rint((level - level.min()) * 255 / (level.max() - level.min())).astype(np.uint8))
    for name in ("floats.tif", "integers.tif"):
        assert psnr(reference(stretched), pixels(made(HOSTILE[name].data).data)) > 38, name


def test_what_is_transparent_shows_white() -> None:
    gradient = Image.linear_gradient("L").resize((300, 240))
    expected = Image.new("RGB", (300, 240), "white")
    expected.paste(scene(), mask=gradient)
    assert psnr(reference(expected), pixels(made(HOSTILE["clear_in_part.png"].data).data)) > 40


@pytest.mark.skipif(not SHARED.is_dir(), reason="the folder of real test data is not beside the checkout")
@pytest.mark.slow
def test_real_pictures_are_what_pillow_makes_of_them() -> None:
    found = real_pictures()
    assert len(found) == 335
    one = transform()
    for name, data in found.items():
        sample = made(data, one)
        with Image.open(io.BytesIO(data)) as image:
            likeness = psnr(reference(image.convert("RGB")), pixels(sample.data))
        assert likeness >= 40, name


def real_pictures() -> dict[str, bytes]:
    found = {}
    for archive in SHARED.glob("*.tar.gz"):
        with tarfile.open(archive) as members:
            for member in members:
                if member.name.lower().endswith((".jpeg", ".jpg", ".png")):
                    content = members.extractfile(member)
                    assert content is not None
                    found[member.name] = content.read()
    for table in SHARED.glob("*.parquet"):
        found |= {
            f"{table.name}/{row}": cell["bytes"] for row, cell in enumerate(pq.read_table(table)["image"].to_pylist())
        }
    return found


GOLDEN = {
    "png_by_content.jpg": "803053f1a5b6579b",
    "jpeg_by_content.png": "4df345f0406cf82a",
    "sixteen_bits.png": "f6c0091b9753b1f5",
    "clear_in_part.png": "d728f036925014e0",
    "turned_6.jpg": "d0467d4dfb1590e2",
    "side_of_32.png": "162fd933932301c2",
}


@needs_simd
@pytest.mark.parametrize("name", GOLDEN)
def test_bytes_never_change_while_the_output_version_stays(name: str) -> None:
    assert hashlib.sha256(made(HOSTILE[name].data).data).hexdigest()[:16] == GOLDEN[name]


@given(st.integers(1, 70_000), st.integers(1, 70_000), st.integers(1, 1024))
def test_the_middle_is_cut_out_and_the_aspect_kept(width: int, height: int, size: int) -> None:
    box = crop_box(width, height, size)
    assert 0 <= box.left < box.right <= width
    assert 0 <= box.top < box.bottom <= height
    # One column more or less of the scaled picture is all that rounding may move the middle or change the aspect.
    pixel = min(width, height) / size
    assert abs((box.left + box.right) - width) <= 1.5 * pixel + 1e-6
    assert abs((box.top + box.bottom) - height) <= 1.5 * pixel + 1e-6
    assert min(width, height) - 1e-6 <= max(box.right - box.left, box.bottom - box.top)
    assert abs((box.right - box.left) - (box.bottom - box.top)) <= pixel


@pytest.mark.parametrize("size", [224, 300, 336])
def test_no_grid_ends_the_process(size: int) -> None:
    """Sides whose scale is no binary fraction, such as 32 to 224, with many widths and heights; a crash of the resizer
    takes the whole process with it."""
    program = (
        "import sys\n"
        "from omni_ray.prepare.transforms.image import crop_box\n"
        "from omni_ray.prepare.transforms.image_decode import Pixels\n"
        "from omni_ray.prepare.transforms.image_resize import resized\n"
        "size = int(sys.argv[1])\n"
        "for side in (32, 48, 80, 96, 100, 112, 160, 240):\n"
        "    for other in range(side + 1, side + 120):\n"
        "        for width, height in ((side, other), (other, side)):\n"
        "            pixels = Pixels('L', width, height, width, height, 1, bytes(width * height), '')\n"
        "            resized(pixels, crop_box(width, height, size), size)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(size)], cwd=ROOT, capture_output=True, timeout=240)
    assert done.returncode == 0, done.stderr.decode()


@given(st.integers(32, 700), st.integers(32, 700), st.sampled_from([32, 224, 256]), st.sampled_from(["PNG", "JPEG"]))
@settings(max_examples=40)
def test_every_size_gives_the_wanted_one(width: int, height: int, size: int, form: str) -> None:
    picture = scene(width, height)
    data = encoded(picture, form)
    sample = made(data, transform(size, max_aspect=100))
    assert (sample.width, sample.height) == (size, size)
    assert psnr(reference(Image.open(io.BytesIO(data)).convert("RGB"), size), pixels(sample.data)) > 40


@needs_simd
@pytest.mark.parametrize("name", ["png_by_content.jpg", "clear_in_part.png", "grey.jpg", "side_of_32.png"])
def test_both_resizers_agree_within_a_level(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = image_decode.decode(HOSTILE[name].data)
    assert not isinstance(found, Unusable)
    box = crop_box(found.width, found.height, 224)
    fast = np.asarray(on_white(image_resize.resized(found, box, 224))).astype(int)
    monkeypatch.setattr(image_resize, "simd", None)
    slow = np.asarray(on_white(image_resize.resized(found, box, 224))).astype(int)
    assert np.abs(fast - slow).max() <= 2
    assert psnr(fast, slow) > 48


@pytest.mark.parametrize(
    "name", ["jpeg_by_content.png", "grey.jpg", "subsampled.jpg", "progressive.jpg", "turned_5.jpg"]
)
def test_both_jpeg_decoders_give_the_same_pixels(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = made(HOSTILE[name].data)
    called = []
    monkeypatch.setattr(image_decode, "_turbo", lambda *_: called.append(1))
    assert made(HOSTILE[name].data) == fast
    assert called


@pytest.mark.parametrize(
    ("size", "turn", "scale"),
    [((2300, 2241), 1, 2), ((2240, 3001), 1, 2), ((4482, 4500), 1, 4), ((2304, 2242), 6, 2), ((2300, 2241), 6, 1)],
)
def test_a_large_jpeg_decoded_at_a_fraction_is_the_same_picture(size: tuple[int, int], turn: int, scale: int) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8))
    exif = Image.Exif()
    exif[0x112] = turn
    data = encoded(noise, "JPEG", quality=95, exif=exif)
    part, whole = image_decode.decode(data, SPARE * 224), image_decode.decode(data)
    assert isinstance(part, image_decode.Pixels)
    assert isinstance(whole, image_decode.Pixels)
    shown = size if turn == 1 else size[::-1]
    assert [part.scale, part.width, part.height, whole.scale, whole.width, whole.height] == [scale, *shown, 1, *shown]
    box = crop_box(part.width, part.height, 224)
    ways = [np.asarray(image_resize.resized(found, box, 224)) for found in (part, whole)]
    likeness = psnr(*ways), psnr(reference(whole.image()), pixels(made(data).data))
    assert likeness[0] > 44
    assert likeness[1] >= 40


def test_noise_keeps_within_40_db_of_what_is_encoded() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    assert psnr(noise, pixels(encode(Image.fromarray(noise)))) >= 40


@given(st.integers(0, 2**32 - 1), st.floats(0, 3), st.floats(0.01, 3), st.integers(1, 50))
def test_flat_is_what_its_standard_deviation_says(seed: int, spread: float, min_std: float, side: int) -> None:
    values = np.random.default_rng(seed).normal(128, spread, (side, side, 3)).clip(0, 255).astype(np.uint8)
    assert is_flat(Image.fromarray(values), min_std) == (values.std(axis=(0, 1)).max() < min_std)


def test_a_rule_can_be_overridden() -> None:
    assert isinstance(transform(min_side=1, min_std=0)(HOSTILE["point.png"].data, "x"), MediaSample)
    assert transform(max_aspect=1.2)(HOSTILE["jpeg_by_content.png"].data, "x") == Drop("max_aspect")
    assert transform(min_std=100)(HOSTILE["jpeg_by_content.png"].data, "x") == Drop("min_std")


def test_originals_are_kept_where_they_need_no_mending() -> None:
    one = transform(keep_original=True)
    for name, suffix in (("jpeg_by_content.png", ".jpg"), ("progressive.jpg", ".jpg"), ("grey.jpg", ".jpg"),
                         ("png_by_content.jpg", ".png"), ("palette.png", ".png")):  # fmt: skip
        assert made(HOSTILE[name].data, one) == (HOSTILE[name].data, suffix, "a caption", None, 300, 240), name
    for name in ("turned_6.jpg", "turned_6.png", "cmyk.jpg", "clear_in_part.png", "sixteen_bits.png", "moving.png",
                 "moving.gif", "still.webp", "still.bmp"):  # fmt: skip
        sample = made(HOSTILE[name].data, one)
        assert sample[1:] == (".jpg", "a caption", None, 300, 240), name
        assert pixels(sample.data).shape == (240, 300, 3)
    assert psnr(np.asarray(scene()), pixels(made(HOSTILE["turned_6.png"].data, one).data)) > 40
    assert one(HOSTILE["black.jpg"].data, "x") == Drop("min_std")
    assert transform(keep_original=True, max_aspect=1e6)(encoded(scene(66_000, 40), "BMP"), "x") == Unusable(
        "too_large", "a side of 66,000 pixels; a JPEG has 65,500 at most"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" two\n\twords \x07here\u2028", "two words here"),
        ("cafe\u0301", "café"),
        (" \n\x00", Unusable("no_caption", "the caption is empty")),
        ("a \ud800 b", Unusable("undecodable", "a lone surrogate at character 2")),
    ],
)
def test_captions(text: str, expected: object) -> None:
    result = transform()(HOSTILE["jpeg_by_content.png"].data, text)
    assert (result.text if isinstance(result, MediaSample) else result) == expected


def test_settings_tell_what_can_change_the_bytes() -> None:
    assert transform().settings() != transform(225).settings()
    assert transform().settings() != transform(keep_original=True).settings()


@given(st.sampled_from(sorted(HOSTILE)), st.randoms(use_true_random=False))
@settings(max_examples=300)
def test_nothing_but_a_sample_a_drop_or_a_reason_comes_of_any_bytes(name: str, dice: random.Random) -> None:
    data = bytearray(HOSTILE[name].data[: 1 << 16])
    for _ in range(dice.randint(1, 8)):
        if data:
            at = min(dice.randrange(len(data)), dice.randrange(len(data)))
            data[at : at + dice.randint(0, 4)] = dice.randbytes(dice.randint(0, 4))
    result = transform()(bytes(data), "x")
    assert isinstance(result, MediaSample | Drop | Unusable)


@pytest.mark.slow
def test_no_picture_takes_a_gigabyte(tmp_path: Path) -> None:
    """The bombs, and pictures that are just not too large, in a process of their own."""
    bombs = {name: case.data for name, case in HOSTILE.items() if case.outcome == "too_large"}
    allowed = just_not_too_large()
    for name, data in (bombs | allowed).items():
        (tmp_path / name).write_bytes(data)
    script = """
import sys
from pathlib import Path
from tests.prepare.transforms.test_image import transform
for path in sorted(Path(sys.argv[1]).iterdir()):
    result = transform()(path.read_bytes(), "x")
    print(path.name, getattr(result, "reason", "decoded"))
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    *lines, peak = done.stdout.splitlines()
    assert {line.split()[0] for line in lines if line.endswith("decoded")} == set(allowed)
    assert int(peak) * 1024 < 1_000_000_000


def just_not_too_large() -> dict[str, bytes]:
    """Of one colour, since that is quickly written; decoding them takes what any picture of their size takes."""

    def picture(bytes_per_pixel: float, mode: str) -> Image.Image:
        side = math.isqrt(int(image_decode.MAX_DECODE_BYTES / bytes_per_pixel)) - 2
        return Image.new(mode, (side, side), "grey")

    return {
        "full.png": encoded(picture(16, "LA"), "PNG", compress_level=1),
        "full.tif": encoded(picture(20, "RGBA"), "TIFF", compression="tiff_adobe_deflate"),
        "full.webp": encoded(picture(24, "RGBA"), "WEBP", lossless=True, method=0, quality=0),
        "full.jp2": encoded(picture(24, "RGBA"), "JPEG2000"),
        "full.jpg": encoded(picture(6.3, "RGB"), "JPEG", progressive=True, subsampling=0),
    }
