"""Clips to mono 16 kHz: what is heard stays, at its level and length, whatever the format, rate and channels."""

import hashlib
import io
import tarfile
import unicodedata
import wave
import zipfile
from collections import Counter
from collections.abc import Iterator
from math import floor
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from omni_ray.catalog import Source, load_catalog
from omni_ray.errors import CatalogError
from omni_ray.prepare.records import Drop, MediaSample, Unusable
from omni_ray.prepare.transforms import audio, containers
from omni_ray.prepare.transforms.audio import SAMPLE_RATE, AudioTransform
from tests.prepare.hostile import clips

SHARED = Path(__file__).resolve().parents[4] / "shared/data/audio"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the folder of real test data is not beside the checkout")
RATES = [8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000, 192_000]
EDGE = 1_000  # samples at either end, where the filter has heard less than all
Array = NDArray[np.float64]


def transform(audio_format: audio.AudioFormat = "flac", **rules: float | bool) -> AudioTransform:
    source = Source.model_validate(
        {
            "name": "s", "modality": "audio", "category": "general", "url": ("x",), "reader": "table", "license": "MIT",
            "fields": {"audio": "audio", "text": "{text}"}, "rules": rules, "base": Path(),
        }
    )  # fmt: skip
    return AudioTransform(source, audio_format)


def heard(data: bytes, audio_format: audio.AudioFormat = "flac", **rules: float | bool) -> NDArray[np.int16]:
    """The samples of the file that is made of `data`."""
    result = transform(audio_format, **rules)(data, "text")
    assert isinstance(result, MediaSample), result
    with soundfile.SoundFile(io.BytesIO(result.data)) as file:
        assert (file.channels, file.samplerate, file.subtype) == (1, SAMPLE_RATE, "PCM_16")
        assert (file.format, result.suffix) == (audio_format.upper(), f".{audio_format}")
        samples: NDArray[np.int16] = file.read(dtype="int16")
    assert result.seconds == len(samples) / SAMPLE_RATE
    return samples


def db(ratio: float) -> float:
    return 20 * float(np.log10(max(ratio, 1e-12)))


def rms(samples: Array) -> float:
    return float(np.sqrt(np.mean(samples**2)))


def fitted(samples: Array, frequency: float) -> tuple[float, Array]:
    """Level of the sine of `frequency` that is in `samples`, whatever its phase, and what else is in them."""
    angle = 2 * np.pi * frequency * np.arange(len(samples)) / SAMPLE_RATE
    parts = np.stack([np.sin(angle), np.cos(angle)], axis=1)
    shares, *_ = np.linalg.lstsq(parts, samples, rcond=None)
    return float(np.hypot(*shares)), samples - parts @ shares


def inner(samples: NDArray[np.int16]) -> Array:
    return samples[EDGE:-EDGE] / 32768


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("share", [0.01, 0.1, 0.33, 0.5, 0.71, 0.85])
def test_tones_keep_level_and_form(rate: int, share: float) -> None:
    """Of all tones below 0.85 of Nyquist, that of the lower of the two rates."""
    frequency = share * min(rate, SAMPLE_RATE) / 2
    samples = inner(heard(clips.encoded(clips.tone(frequency, rate=rate, level=0.5), rate, subtype="PCM_24")))
    level, rest = fitted(samples, frequency)
    assert abs(db(level / 0.5)) < 0.1
    assert db(rms(rest) / (level / np.sqrt(2))) < -60
    here = (np.arange(len(samples)) + EDGE) / SAMPLE_RATE
    assert db(rms(samples - 0.5 * np.sin(2 * np.pi * frequency * here)) / rms(samples)) < -60, "moved in time"


@pytest.mark.parametrize("rate", [rate for rate in RATES if rate > SAMPLE_RATE])
@pytest.mark.parametrize("share", [0.0, 0.03, 0.2, 0.5, 0.8, 0.99])
def test_what_is_beyond_nyquist_is_gone(rate: int, share: float) -> None:
    """Of all tones from the output's Nyquist frequency to the input's."""
    frequency = 8_000 + 1 + share * (rate / 2 - 8_001)
    data = clips.encoded(clips.tone(frequency, rate=rate, level=0.5), rate, subtype="PCM_24")
    assert db(rms(inner(heard(data, min_peak_dbfs=-200))) / (0.5 / np.sqrt(2))) < -60


@given(st.sampled_from([*RATES, 8_001, 12_345, 37_800]), st.integers(12, 3_000))
def test_length_is_exact(rate: int, frames: int) -> None:
    made = heard(clips.encoded(np.full(frames, 0.5, np.float32), rate), min_seconds=0, min_peak_dbfs=-300)
    assert len(made) == floor(frames * SAMPLE_RATE / rate + 0.5)


@given(st.binary(min_size=2, max_size=4_000), st.sampled_from(["flac", "wav"]))
def test_16_bits_at_16_khz_come_through_unchanged(data: bytes, audio_format: audio.AudioFormat) -> None:
    samples = np.frombuffer(b"\1\0" + data[: len(data) // 2 * 2], "<i2")  # silence would be dropped
    made = heard(
        clips.wav(samples.tobytes(), rate=SAMPLE_RATE), audio_format, min_seconds=0, min_peak_dbfs=-300, max_clipped=1
    )
    assert np.array_equal(made, samples)


def test_rounding_is_to_the_nearest_and_clips() -> None:
    values = np.array([0, 0.49, 0.5, 0.51, 1.5, -0.5, -0.51, -1.5, 32766.6, 32767.6, 40000, -32768.4, -40000])
    data = clips.encoded((values / 32768).astype(np.float32), SAMPLE_RATE, subtype="FLOAT")
    expected = [0, 0, 0, 1, 2, 0, -1, -2, 32767, 32767, 32767, -32768, -32768]
    assert heard(data, min_seconds=0).tolist() == expected


@pytest.mark.parametrize("channels", range(1, 9))
@pytest.mark.parametrize("container", ["WAV", "FLAC"])
def test_channels_are_mixed_to_their_mean(channels: int, container: str) -> None:
    tones = [clips.tone(300 + 200 * number, rate=SAMPLE_RATE) for number in range(channels)]
    made = heard(clips.encoded(np.stack(tones, axis=1), SAMPLE_RATE, container, "PCM_24"))
    assert np.abs(made / 32768 - np.mean(tones, axis=0)).max() <= 0.51 / 32768


FORMATS = [  # container, sample format, and how far what is heard may be from what was said, in dB below it
    *(("WAV", subtype, error) for subtype, error in {
        "PCM_U8": -35, "PCM_16": -80, "PCM_24": -85, "PCM_32": -85, "FLOAT": -85, "DOUBLE": -85, "ULAW": -33,
        "ALAW": -33, "IMA_ADPCM": -30, "MS_ADPCM": -30, "GSM610": -20,
    }.items()),
    ("WAVEX", "PCM_24", -85), ("WAVEX", "FLOAT", -85), ("RF64", "PCM_16", -80), ("RF64", "DOUBLE", -85),
    ("AIFF", "PCM_S8", -35), ("AIFF", "PCM_24", -85), ("AIFF", "DOUBLE", -85),
    ("AU", "PCM_16", -80), ("AU", "ULAW", -33), ("AU", "FLOAT", -85),
    ("FLAC", "PCM_S8", -35), ("FLAC", "PCM_16", -80), ("FLAC", "PCM_24", -85),
    ("OGG", "VORBIS", -25), ("OGG", "OPUS", -15), ("MP3", "MPEG_LAYER_III", -25),
]  # fmt: skip


@pytest.mark.parametrize(("container", "subtype", "error"), FORMATS)
@pytest.mark.parametrize("channels", [1, 2])
def test_every_sample_format(container: str, subtype: str, error: float, channels: int) -> None:
    if subtype == "GSM610" and channels == 2:
        pytest.skip("GSM 6.10 is mono")
    said = clips.tone(440, rate=16_000, level=0.4)
    made = heard(clips.encoded(np.stack([said] * channels, axis=1), 16_000, container, subtype))
    level, rest = fitted(inner(made), 440)
    assert abs(db(level / 0.4)) < 0.4
    assert db(rms(rest) / (level / np.sqrt(2))) < error
    assert abs(len(made) - len(said)) <= {"OPUS": 320, "GSM610": 320, "IMA_ADPCM": 1_100, "MS_ADPCM": 1_100}.get(
        subtype, 0
    )


@pytest.mark.parametrize("endian", ["LITTLE", "BIG"])
def test_both_byte_orders(endian: str) -> None:
    samples = clips.sixteen(clips.tone(rate=16_000))
    for container in ("WAV", "AU"):
        data = clips.encoded(np.frombuffer(samples, "<i2"), 16_000, container, "PCM_16", endian=endian)
        assert heard(data).tobytes() == samples


@pytest.mark.parametrize("rate", [8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000])
@pytest.mark.parametrize("variable", [False, True])
def test_mp3_without_a_length_is_heard_to_its_end(rate: int, variable: bool) -> None:
    """A tone, then noise: guessing by the first frame's bit rate gives a part of it. What LAME writes beside the length
    is lost too, so its delay of 576 samples comes before what was said, and padding behind it."""
    said = np.concatenate([clips.tone(440, 2, rate), clips.noise(2, rate)])
    data = clips.mp3(said, rate, variable)
    whole, _ = soundfile.read(io.BytesIO(data))
    cut, _ = soundfile.read(io.BytesIO(containers.checked(clips.without_info(data))))
    assert len(whole) == len(said)
    assert 0 <= len(cut) - len(whole) - 576 < 2 * 1152
    assert np.abs(cut[576 : 576 + len(whole)] - whole).max() < 1e-6
    assert len(heard(clips.without_info(data))) == floor(len(cut) * SAMPLE_RATE / rate + 0.5)


def test_mp3_tags_are_stepped_over() -> None:
    data = clips.mp3(clips.tone())
    tags = [
        clips.id3(500, bytes(500)),
        clips.id3(20, b"\xff\xfb\x90\x64" * 5),
        b"TAG" + bytes(125),
        b"APETAGEX" + bytes(32),
    ]
    expected = heard(data).tobytes()
    assert heard(tags[0] + tags[1] + bytes(100) + data + tags[3] + tags[2]).tobytes() == expected


def test_flac_of_unknown_length_is_heard_to_its_end() -> None:
    data = clips.encoded(clips.noise(3, 44_100), 44_100, "FLAC")
    assert heard(clips.flac_of(0, data)).tobytes() == heard(data).tobytes()


@given(st.lists(st.integers(1, 50), min_size=1, max_size=8))
def test_the_checksum_of_an_ogg_page(sizes: list[int]) -> None:
    page = b"OggS\0\4" + bytes(20) + bytes([len(sizes), *sizes]) + b"x" * sum(sizes)
    assert containers.checked(clips.sealed(page)) == clips.sealed(page)
    with pytest.raises(containers.BadClip, match="checksum"):
        containers.checked(clips.sealed(page)[:-1] + b"y")


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
@pytest.mark.parametrize("container", ["WAV", "FLAC", "OGG", "MP3"])
def test_blocks_of_decoding_leave_no_trace(rate: int, container: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = clips.encoded(clips.noise(0.3, rate, channels=2), rate, container)
    expected = heard(data).tobytes()
    for size in (13, 500, 1_152, 4_096, 20_001, 1 << 22):
        monkeypatch.setattr(audio, "BLOCK_SAMPLES", size)
        assert heard(data).tobytes() == expected, size


def test_clips_leave_no_trace_in_each_other() -> None:
    """One instance serves clips of all rates, also after one that broke off in the middle."""
    datas = [clips.encoded(clips.noise(rate=rate), rate) for rate in (44_100, 8_000, 44_100, 16_000, 8_000)]
    late = clips.noise(9, 8_000)
    late[-1] = np.nan
    nan = clips.encoded(late, 8_000, subtype="FLOAT")
    one = transform()
    for data in datas:
        assert one(data, "text") == transform()(data, "text")
        assert isinstance(one(nan, "text"), Unusable)


# sha256 of the samples, and of the FLAC file: other samples mean that OUTPUT_VERSION is to be raised, another file with
# the same samples that libFLAC packs them in another way
GOLDEN: dict[str, tuple[str, str]] = {
    "wav 16000": ("6aa758a8523dc41a", "06cd42b337c48f7e"),
    "wav 8000 mono": ("4396f2251d2a5bb8", "885b81bea8408c57"),
    "wav 22050 stereo": ("1b1b9d230d07b07f", "41a4695dd0570881"),
    "wav 44100 mono": ("e2c07be2806038a3", "48155a1c5d1858cf"),
    "wav 48000 of 8 bits": ("03e67f4e66d67502", "fca0a313b2b453ee"),
    "wav 8000 mu-law": ("388ad7e4f8bc7c67", "ba58ec8ca49bedca"),
}


def golden() -> Iterator[tuple[str, bytes]]:
    """Clips made of integers alone, so that no library has a say in them."""
    state, values = 1, []
    for _ in range(12_000):
        state = (state * 1_103_515_245 + 12_345) % 2**31
        values.append((state >> 16) % 20_000 - 10_000 + (state >> 8) % 64 * 100)
    words = np.array(values, "<i2").tobytes()
    yield "wav 16000", clips.wav(words, rate=16_000)
    yield "wav 8000 mono", clips.wav(words, rate=8_000)
    yield "wav 22050 stereo", clips.wav(words, rate=22_050, channels=2)
    yield "wav 44100 mono", clips.wav(words, rate=44_100)
    yield "wav 48000 of 8 bits", clips.wav(words, rate=48_000, bits=8)
    yield "wav 8000 mu-law", clips.wav(words, rate=8_000, tag=7, bits=8)


def test_bytes_are_the_golden_ones() -> None:
    made = {
        name: tuple(
            hashlib.sha256(part).hexdigest()[:16]
            for part in (heard(data, max_clipped=1).tobytes(), transform(max_clipped=1)(data, "text").data)
        )
        for name, data in golden()
    }
    assert made == GOLDEN


SECOND = clips.encoded(clips.tone())


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("  two\n\twords \r\n here ", "two words here"),
        ("nul\0 and bell\7", "nul and bell"),
        ('she said "yes",\nand left', 'she said "yes", and left'),
        ("cafe\u0301", "caf\u00e9"),
        ("東京", "東京"),
        ("", Drop("require_text")),
        ("\0 \n\u2003", Drop("require_text")),
        ("a lone \ud800", Unusable("undecodable", "a lone surrogate at character 7")),
    ],
)
def test_transcripts(said: str, expected: object) -> None:
    result = transform()(SECOND, said)
    assert (result.text if isinstance(result, MediaSample) else result) == expected


@given(st.text(max_size=100))
def test_a_transcript_is_one_clean_line(text: str) -> None:
    result = transform(require_text=False, max_seconds=2)(SECOND[:44] + bytes(8) + SECOND[52:], text)
    if isinstance(result, MediaSample):
        assert len(result.text.encode().decode().splitlines()) <= 1
        assert result.text == result.text.strip()
        assert unicodedata.is_normalized("NFC", result.text)
        assert not any(unicodedata.category(char) == "Cc" for char in result.text)
    else:
        assert result == Unusable("undecodable", result.error)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({"min_seconds": 1.0}, None),
        ({"min_seconds": 1.00001}, "min_seconds"),
        ({"max_seconds": 1}, None),
        ({"max_seconds": 0.99999}, "max_seconds"),
        ({"min_peak_dbfs": -10.5}, None),
        ({"min_peak_dbfs": -10.4}, "min_peak_dbfs"),
        ({"max_clipped": 0}, None),
    ],
)
def test_rules_at_their_limits(rules: dict[str, float], expected: str | None) -> None:
    """Of a second at 22.05 kHz, its peak 0.3 of full scale: -10.46 dBFS."""
    result = transform(**rules)(SECOND, "text")
    assert result.rule == expected if isinstance(result, Drop) else expected is None


@pytest.mark.parametrize(("share", "kept"), [(0.49, True), (0.5, True), (0.51, False)])
def test_clipped_share(share: float, kept: bool) -> None:
    samples = np.full((1000, 2), 0.5, np.float32)
    samples[: round(share * 1000)] = [1.0, -1.0]
    result = transform(min_seconds=0)(clips.encoded(samples, SAMPLE_RATE), "text")
    assert result == Drop("max_clipped") if not kept else isinstance(result, MediaSample)


def test_a_clip_without_text_where_none_is_required() -> None:
    result = transform(require_text=False)(SECOND, " ")
    assert isinstance(result, MediaSample)
    assert result.text == ""


CATALOG = """[[source]]
name = "s"
modality = "audio"
category = "general"
url = "a.parquet"
reader = "table"
license = "MIT"
[source.fields]
audio = "audio"
text = "{text}"
[source.rules]
"""


def test_rules_of_a_catalog(tmp_path: Path) -> None:
    def load(rule: str) -> Source:
        (tmp_path / "c.toml").write_text(CATALOG + rule)
        return load_catalog(tmp_path / "c.toml").sources[0]

    rules = load("max_seconds = 20\nrequire_text = false\nmin_peak_dbfs = -40").resolved_rules()
    assert rules["max_seconds"] == 20.0
    assert rules["require_text"] is False
    assert load("").settings()["rules"]["require_text"] == 1.0
    for rule in (
        "require_text = 1",
        "min_seconds = true",
        "max_seconds = 3601",
        "min_peak_dbfs = 3",
        "max_clipped = 2",
    ):
        with pytest.raises(CatalogError, match=f"source 's': rules.{rule.split()[0]}: "):
            load(rule)


def shared() -> Iterator[tuple[str, bytes]]:
    """All real clips."""
    with zipfile.ZipFile(SHARED / "fsdd-recordings.zip") as archive:
        yield from ((name, archive.read(name)) for name in archive.namelist() if name.endswith(".wav"))
    for row in pq.read_table(SHARED / "fsdd-00000-of-00001.parquet").to_pylist():
        yield row["audio"]["path"], row["audio"]["bytes"]
    for name in ("ljspeech-mini.tar.gz", "librispeech-layout-mini.tar.gz"):
        with tarfile.open(SHARED / name) as tar:
            for member in tar:
                if member.name.endswith((".wav", ".flac")):
                    file = tar.extractfile(member)
                    assert file is not None
                    yield member.name, file.read()


@needs_shared
def test_real_clips() -> None:
    one, found = transform(), Counter[str]()
    for name, data in shared():
        result = one(data, "text")
        if data[:4] == b"RIFF":
            with wave.open(io.BytesIO(data)) as file:
                frames, rate = file.getnframes(), file.getframerate()
        else:
            info = soundfile.info(io.BytesIO(data))
            frames, rate = info.frames, info.samplerate
        found[type(result).__name__] += 1
        if frames / rate < 0.2:
            assert result == Drop("min_seconds"), name
        else:
            assert isinstance(result, MediaSample), (name, result)
            made = soundfile.info(io.BytesIO(result.data))
            assert (made.channels, made.samplerate, made.subtype) == (1, SAMPLE_RATE, "PCM_16")
            assert made.frames == floor(frames * SAMPLE_RATE / rate + 0.5)
    assert found.total() == 1_400 + 600 + 5 + 8
