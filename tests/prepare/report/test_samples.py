"""Which samples are shown, and what is left of them."""

import io

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from omni_ray.prepare.records import Unusable
from omni_ray.prepare.report.samples import EXCERPT_CHARS, EXCERPT_SECONDS, SAMPLES, THUMBNAIL, choose, clip, excerpt
from omni_ray.prepare.report.samples import thumbnail as thumbnail_of


@given(st.integers(0, 10**9), st.text("abc_", min_size=1))
def test_one_of_each_twelfth(count: int, name: str) -> None:
    chosen = choose(name, count)
    assert len(chosen) == min(count, SAMPLES)
    assert chosen == choose(name, count)
    for number, place in enumerate(chosen):
        if count > SAMPLES:
            assert count * number // SAMPLES <= place < count * (number + 1) // SAMPLES


def test_a_source_that_repeats_its_classes_shows_several() -> None:
    assert len({place % 10 for place in choose("digits", 12_000)}) > 4


def test_a_long_text_is_cut() -> None:
    assert excerpt("short") == ("short", False)
    text, cut = excerpt("long " * 1000)
    assert cut
    assert len(text) <= EXCERPT_CHARS


def encoded(seconds: float, format_: str) -> bytes:
    sink = io.BytesIO()
    time = np.arange(round(16_000 * seconds)) / 16_000
    soundfile.write(sink, 0.5 * np.sin(2 * np.pi * 440 * time), 16_000, "PCM_16", format=format_)
    return sink.getvalue()


@pytest.mark.parametrize("format_", ["FLAC", "WAV"])
@pytest.mark.parametrize("seconds", [0.05, 2.0, 30.0])
def test_a_clip_becomes_a_small_mp3_of_the_same_sound(seconds: float, format_: str) -> None:
    data, heard = clip(encoded(seconds, format_))
    assert heard == pytest.approx(min(seconds, EXCERPT_SECONDS))
    assert len(data) < 50_000
    sound, rate = soundfile.read(io.BytesIO(data))
    assert (rate, sound.ndim) == (16_000, 1)
    assert heard - 0.01 <= len(sound) / rate < heard + 0.2
    if seconds >= 2:
        middle = sound[8000:24_000]
        assert np.abs(np.fft.rfft(middle)).argmax() == 440
        assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)
    assert clip(encoded(seconds, format_))[0] == data


def picture(mode: str, size: tuple[int, int], format_: str) -> bytes:
    sink = io.BytesIO()
    Image.new(mode, size, "red" if mode != "L" else 99).save(sink, format_)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("mode", "size", "format_", "expected"),
    [
        ("RGB", (224, 224), "JPEG", (192, 192)),
        ("L", (3000, 1000), "PNG", (192, 64)),
        ("RGBA", (50, 40), "PNG", (50, 40)),
        ("CMYK", (400, 800), "JPEG", (96, 192)),
    ],
)
def test_a_thumbnail_is_a_jpeg_of_the_same_shape(
    mode: str, size: tuple[int, int], format_: str, expected: tuple[int, int]
) -> None:
    made = thumbnail_of(picture(mode, size, format_))
    assert not isinstance(made, Unusable)
    data, shape = made
    assert shape == expected
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", expected)
    assert max(expected) <= THUMBNAIL


def test_what_is_no_picture_says_why() -> None:
    assert isinstance(thumbnail_of(b"nothing"), Unusable)
