"""Audio files that no careful program would make, each with what becomes of it; and the ways to make them."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray

RATE = 22_050  # Hz
Samples = NDArray[np.float32]


class Hostile(NamedTuple):
    """`dropped` is the rule that leaves the clip out, `quarantined` the reason for it; neither where it is kept."""

    data: bytes
    dropped: str = ""
    quarantined: str = ""


def tone(frequency: float = 440.0, seconds: float = 1.0, rate: int = RATE, level: float = 0.3) -> Samples:
    return (level * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def noise(seconds: float = 1.0, rate: int = RATE, level: float = 0.1, channels: int = 1) -> Samples:
    """Noise [samples] or [samples, channels] that an encoder cannot make small."""
    size = (round(seconds * rate), channels) if channels > 1 else round(seconds * rate)
    return (level * np.random.default_rng(0).standard_normal(size)).astype(np.float32)


def encoded(
    samples: Samples, rate: int = RATE, container: str = "WAV", subtype: str | None = None, **more: object
) -> bytes:
    sink = io.BytesIO()
    soundfile.write(sink, samples, rate, subtype, format=container, **more)
    return sink.getvalue()


def wav(
    data: bytes = bytes(2 * RATE), *, tag: int = 1, channels: int = 1, rate: int = RATE, bits: int = 16,
    size: int | None = None, riff: int | None = None, mark: bytes = b"RIFF", before: bytes = b"",
) -> bytes:  # fmt: skip
    """A WAV file with a header that says what it is told to; `before` are chunks in front of the samples."""
    order = ">" if mark == b"RIFX" else "<"
    align = channels * bits // 8
    head = struct.pack(f"{order}HHIIHH", tag, channels, rate, rate * align & 0xFFFFFFFF, align & 0xFFFF, bits)
    chunks = chunk(order, b"fmt ", head) + before + chunk(order, b"data", data, size)
    return mark + struct.pack(f"{order}I", len(chunks) + 4 if riff is None else riff) + b"WAVE" + chunks


def chunk(order: str, kind: bytes, data: bytes, size: int | None = None) -> bytes:
    return kind + struct.pack(f"{order}I", len(data) if size is None else size) + data + bytes(len(data) % 2)


def sixteen(samples: Samples) -> bytes:
    return np.round(samples * 32767).astype("<i2").tobytes()


def id3(size: int, body: bytes) -> bytes:
    """An ID3v2 tag that claims to be `size` bytes long."""
    return b"ID3\4\0\0" + bytes(size >> shift & 127 for shift in (21, 14, 7, 0)) + body


def mp3(samples: Samples, rate: int = RATE, variable: bool = False) -> bytes:
    mode = "VARIABLE" if variable else "CONSTANT"
    return encoded(samples, rate, "MP3", "MPEG_LAYER_III", bitrate_mode=mode, compression_level=0.5)


def without_info(data: bytes) -> bytes:
    """An MP3 file without the first frame, which tells how many follow: as made through a pipe."""
    at = min(place for mark in (b"Xing", b"Info") if (place := data.find(mark)) > 0)
    return data[data.index(data[:2], at) :]


def pages(data: bytes) -> list[bytes]:
    """The pages of an Ogg file."""
    found, at = [], 0
    while at < len(data):
        segments = data[at + 26]
        end = at + 27 + segments + sum(data[at + 27 : at + 27 + segments])
        found.append(data[at:end])
        at = end
    return found


def sealed(page: bytes) -> bytes:
    """An Ogg page with the checksum that its content has, computed bit by bit (RFC 3533)."""
    blank = page[:22] + bytes(4) + page[26:]
    crc = 0
    for byte in blank:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc & 1 << 31 else 0)) & 0xFFFFFFFF
    return page[:22] + struct.pack("<I", crc) + page[26:]


def flac_of(total: int, data: bytes) -> bytes:
    """A FLAC file whose header tells of `total` samples; 0 is "not known"."""
    number = int.from_bytes(data[18:26], "big") >> 36 << 36 | total
    return data[:18] + number.to_bytes(8, "big") + data[26:]


def flac_head(data: bytes) -> bytes:
    """The blocks of metadata of a FLAC file, without what follows them."""
    at, last = 4, False
    while not last:
        last = data[at] > 127
        at += 4 + int.from_bytes(data[at + 1 : at + 4], "big")
    return data[:at]


def flac_bomb(seconds: float, rate: int = 48_000, channels: int = 8) -> bytes:
    """Digital silence: a hundred megabytes of samples in some kilobytes."""
    sink = io.BytesIO()
    silence = np.zeros((rate, channels), np.int16)
    with soundfile.SoundFile(sink, "w", rate, channels, "PCM_16", format="FLAC", compression_level=1.0) as file:
        for _ in range(round(seconds)):
            file.write(silence)
    return sink.getvalue()


def hostile() -> Iterator[tuple[str, Callable[[], Hostile]]]:
    """name -> what makes the file. Names end as the files do in the wild, which may be wrong of their content."""
    yield from _no_audio().items()
    yield from _headers().items()
    yield from _cut_off().items()
    yield from _corrupt().items()
    yield from _samples().items()
    yield from _bombs().items()


Makers = dict[str, Callable[[], Hostile]]


def _no_audio() -> Makers:
    html = b"<!DOCTYPE html><html><head><title>Log in</title></head></html>"
    return {
        "empty.wav": lambda: Hostile(b"", quarantined="empty"),
        "one-byte.wav": lambda: Hostile(b"R", quarantined="unknown_format"),
        "login-page.flac": lambda: Hostile(html, quarantined="unknown_format"),
        "picture.wav": lambda: Hostile(b"\x89PNG\r\n\x1a\n" + bytes(100), quarantined="unknown_format"),
        "video.wav": lambda: Hostile(b"RIFF\x24\0\0\0AVI LIST" + bytes(100), quarantined="unknown_format"),
        "aac.mp3": lambda: Hostile(b"\xff\xf1\x50\x80\x02\x1f\xfc" + bytes(500), quarantined="unknown_format"),
        "mp4.mp3": lambda: Hostile(b"\0\0\0\x20ftypM4A " + bytes(500), quarantined="unknown_format"),
        "zeros.mp3": lambda: Hostile(bytes(100_000), quarantined="unknown_format"),
        "ones.mp3": lambda: Hostile(b"\xff" * 100_000, quarantined="unknown_format"),
        "tag-alone.mp3": lambda: Hostile(id3(100, bytes(100)), quarantined="truncated"),
        "tag-and-text.mp3": lambda: Hostile(id3(100, bytes(100)) + html, quarantined="unknown_format"),
        "flac-in-truth.wav": lambda: Hostile(encoded(tone(), container="FLAC")),
        "wav-in-truth.mp3": lambda: Hostile(encoded(tone())),
        "theora.ogg": lambda: Hostile(
            sealed(b"OggS\0\6" + bytes(20) + b"\1\x2a\x80theora" + bytes(35)), quarantined="unknown_format"
        ),
    }


def _headers() -> Makers:
    speech = sixteen(tone())
    return {
        "header-alone.wav": lambda: Hostile(wav()[:44], quarantined="truncated"),
        "half-a-header.wav": lambda: Hostile(wav()[:20], quarantined="truncated"),
        "riff-alone.wav": lambda: Hostile(b"RIFF", quarantined="unknown_format"),
        "header-alone.au": lambda: Hostile(encoded(tone(), container="AU")[:10], quarantined="truncated"),
        "marker-alone.flac": lambda: Hostile(b"fLaC", quarantined="corrupt"),
        "no-samples.wav": lambda: Hostile(wav(b""), dropped="min_seconds"),
        "no-samples.flac": lambda: Hostile(
            flac_of(0, flac_head(encoded(tone(), container="FLAC"))), dropped="min_seconds"
        ),
        "no-channels.wav": lambda: Hostile(wav(speech, channels=0), quarantined="corrupt"),
        "65535-channels.wav": lambda: Hostile(wav(channels=65_535), quarantined="corrupt"),
        "1000-channels.wav": lambda: Hostile(wav(sixteen(np.repeat(tone(), 1_000)), channels=1_000)),
        "0-hz.wav": lambda: Hostile(wav(speech, rate=0), quarantined="corrupt"),
        "1-hz.wav": lambda: Hostile(wav(speech, rate=1), quarantined="unsupported_rate"),
        "7999-hz.wav": lambda: Hostile(wav(speech, rate=7_999), quarantined="unsupported_rate"),
        "192001-hz.wav": lambda: Hostile(wav(speech, rate=192_001), quarantined="unsupported_rate"),
        "2-ghz.wav": lambda: Hostile(wav(speech, rate=2**31 - 1), quarantined="unsupported_rate"),
        "minus-1-hz.wav": lambda: Hostile(wav(speech, rate=2**32 - 1), quarantined="corrupt"),
        "0-bits.wav": lambda: Hostile(wav(speech, bits=0), quarantined="unknown_format"),
        "255-bits.wav": lambda: Hostile(wav(speech, bits=255), quarantined="unknown_format"),
        "unknown-codec.wav": lambda: Hostile(wav(speech, tag=0x161), quarantined="corrupt"),
        "riff-says-0.wav": lambda: Hostile(wav(speech, riff=0)),
        "riff-says-4-gb.wav": lambda: Hostile(wav(speech, riff=0xFFFFFFFF)),
        "data-says-4-gb.wav": lambda: Hostile(wav(speech, size=0xFFFFFFFF)),
        "data-says-2-gb.wav": lambda: Hostile(wav(speech, size=0x7FFFFFFF)),
        "never-finished.wav": lambda: Hostile(wav(speech, size=0, riff=36)),
        "data-says-1-gb.wav": lambda: Hostile(wav(speech, size=1 << 30), quarantined="truncated"),
        "chunk-without-end.wav": lambda: Hostile(
            wav(speech, before=b"LIST\xff\xff\xff\x7f" + bytes(20)), quarantined="truncated"
        ),
        "chunk-of-10-mb.wav": lambda: Hostile(wav(speech, before=chunk("<", b"LIST", b"INFO" + bytes(10_000_000)))),
        "10000-chunks.wav": lambda: Hostile(
            wav(speech, before=chunk("<", b"LIST", b"INFO") * 10_000), quarantined="corrupt"
        ),
        "junk-behind.wav": lambda: Hostile(wav(speech) + b"junk" * 1_000),
    }


def _cut_off() -> Makers:
    def half(container: str, subtype: str | None = None, rate: int = 24_000) -> bytes:
        data = encoded(noise(rate=rate), rate, container, subtype)
        return data[: len(data) // 2]

    def whole_pages(count: int) -> bytes:
        return b"".join(pages(encoded(noise(5), container="OGG"))[:count])

    return {
        "half.wav": lambda: Hostile(half("WAV"), quarantined="truncated"),
        "half.rf64": lambda: Hostile(half("RF64"), quarantined="truncated"),
        "half.aiff": lambda: Hostile(half("AIFF"), quarantined="truncated"),
        "half.au": lambda: Hostile(half("AU"), quarantined="truncated"),
        "half.flac": lambda: Hostile(half("FLAC"), quarantined="corrupt"),
        "half.ogg": lambda: Hostile(half("OGG", "VORBIS"), quarantined="truncated"),
        "half.opus": lambda: Hostile(half("OGG", "OPUS"), quarantined="truncated"),
        "half.mp3": lambda: Hostile(half("MP3"), quarantined="truncated"),
        "one-byte-less.wav": lambda: Hostile(encoded(tone())[:-1], quarantined="truncated"),
        "one-byte-less.mp3": lambda: Hostile(mp3(tone())[:-1], quarantined="truncated"),
        "fewer-pages.ogg": lambda: Hostile(whole_pages(5), quarantined="truncated"),
        "fewer-frames.mp3": lambda: Hostile(_frames_short(mp3(noise())), quarantined="truncated"),
        "says-more.flac": lambda: Hostile(
            flac_of(RATE * 2, encoded(tone(), container="FLAC")), quarantined="truncated"
        ),
    }


def _frames_short(data: bytes) -> bytes:
    return data[: data.rindex(data[:2])]


def _corrupt() -> Makers:
    def flipped(data: bytes) -> bytes:
        at = len(data) // 2
        return data[:at] + bytes(byte ^ 0xFF for byte in data[at : at + 8]) + data[at + 8 :]

    def page_missing() -> bytes:
        found = pages(encoded(noise(5), container="OGG"))
        return b"".join(found[:4] + found[5:])

    def gap() -> bytes:
        data = without_info(mp3(noise()))
        at = data.index(data[:2], len(data) // 2)
        return data[:at] + bytes(300) + data[at:]

    ogg = "OGG"
    return {
        "flipped.flac": lambda: Hostile(flipped(encoded(noise(), container="FLAC")), quarantined="corrupt"),
        "flipped.ogg": lambda: Hostile(flipped(encoded(noise(5), container=ogg)), quarantined="corrupt"),
        "flipped.opus": lambda: Hostile(flipped(encoded(noise(5, 24_000), 24_000, ogg, "OPUS")), quarantined="corrupt"),
        "page-missing.ogg": lambda: Hostile(page_missing(), quarantined="corrupt"),
        "gap.mp3": lambda: Hostile(gap(), quarantined="corrupt"),
        "two-streams.ogg": lambda: Hostile(encoded(tone(), container=ogg) * 2, quarantined="several_streams"),
        "two-rates.mp3": lambda: Hostile(mp3(tone()) + mp3(tone(), 44_100), quarantined="several_streams"),
        "two-channels.mp3": lambda: Hostile(mp3(tone()) + mp3(noise(channels=2)), quarantined="several_streams"),
        "deflated.wav": lambda: Hostile(zlib.compress(wav()), quarantined="unknown_format"),
    }


def _samples() -> Makers:
    def with_sample(value: float, subtype: str = "FLOAT") -> Hostile:
        samples = tone().astype(np.float64)
        samples[RATE // 2] = value
        return Hostile(encoded(samples, subtype=subtype), quarantined="bad_samples")

    square = np.where(tone() > 0, 1.0, -1.0).astype(np.float32)
    ultrasound = tone(15_000, rate=48_000) * np.hanning(48_000).astype(np.float32)
    opposed = np.stack([tone(), -tone()], axis=1)
    return {
        "nan.wav": lambda: with_sample(np.nan),
        "infinity.wav": lambda: with_sample(np.inf),
        "minus-infinity.wav": lambda: with_sample(-np.inf, "DOUBLE"),
        "1e300.wav": lambda: with_sample(1e300, "DOUBLE"),
        "1e30.wav": lambda: with_sample(1e30),
        "denormal.wav": lambda: Hostile(encoded(np.full(RATE, 1e-40, np.float32), subtype="FLOAT"), "min_peak_dbfs"),
        "silence.wav": lambda: Hostile(encoded(tone(level=0)), dropped="min_peak_dbfs"),
        "whisper.wav": lambda: Hostile(encoded(tone(level=0.0009), subtype="FLOAT"), dropped="min_peak_dbfs"),
        "opposed-channels.wav": lambda: Hostile(encoded(opposed), dropped="min_peak_dbfs"),
        "ultrasound.wav": lambda: Hostile(encoded(ultrasound, 48_000), dropped="min_peak_dbfs"),
        "below-zero.wav": lambda: Hostile(encoded(-np.abs(tone()))),
        "clipped.wav": lambda: Hostile(encoded(square), dropped="max_clipped"),
        "clipped-8-bit.wav": lambda: Hostile(encoded(square, subtype="PCM_U8"), dropped="max_clipped"),
        "clipped-mu-law.wav": lambda: Hostile(encoded(square, subtype="ULAW"), dropped="max_clipped"),
        "clipped-a-law.wav": lambda: Hostile(encoded(square, subtype="ALAW"), dropped="max_clipped"),
        "floats-of-integers.wav": lambda: Hostile(encoded(tone() * 32768, subtype="FLOAT"), dropped="max_clipped"),
        "one-sample.wav": lambda: Hostile(wav(b"\0\x40"), dropped="min_seconds"),
        "too-short.flac": lambda: Hostile(encoded(tone(seconds=0.19), container="FLAC"), dropped="min_seconds"),
        "too-long.ogg": lambda: Hostile(encoded(noise(30.1, 8_000), 8_000, "OGG"), dropped="max_seconds"),
    }


def _bombs() -> Makers:
    def promises_hours(total: int) -> bytes:
        return flac_of(total, encoded(tone(), container="FLAC"))

    return {
        "10-hours-of-silence.flac": lambda: Hostile(flac_bomb(36_000, 8_000, 1), dropped="max_seconds"),
        "8-channels-length-unknown.flac": lambda: Hostile(flac_of(0, flac_bomb(60)), dropped="max_seconds"),
        "promises-10-hours.flac": lambda: Hostile(promises_hours(RATE * 36_000), dropped="max_seconds"),
        "promises-all.flac": lambda: Hostile(promises_hours((1 << 36) - 1), dropped="max_seconds"),
        "an-hour.mp3": lambda: Hostile(without_info(mp3(tone(seconds=1.0))) * 3_600, dropped="max_seconds"),
        "tag-of-256-mb.mp3": lambda: Hostile(id3((1 << 28) - 1, bytes(100)) + mp3(tone()), quarantined="truncated"),
        "100000-tags.mp3": lambda: Hostile(id3(10, bytes(10)) * 100_000 + mp3(tone())),
        "picture-of-16-mb.flac": lambda: Hostile(_with_block(6, (1 << 24) - 1), quarantined="corrupt"),
        "comments-of-4-gb.flac": lambda: Hostile(_with_block(4, 8, b"\xff" * 8), quarantined="corrupt"),
        "comments-of-4-gb.ogg": lambda: Hostile(_with_comments(), quarantined="corrupt"),
        "promises-years.ogg": lambda: Hostile(_with_position(1 << 40), dropped="max_seconds"),
        "position-below-0.ogg": lambda: Hostile(_with_position(-5), quarantined="corrupt"),
    }


def _with_block(kind: int, size: int, content: bytes = b"") -> bytes:
    """A FLAC file with one more block of metadata, which claims `size` bytes and has those of `content`."""
    data = encoded(tone(), container="FLAC")
    return data[:42] + bytes([kind]) + size.to_bytes(3, "big") + content + data[42:]


def _with_comments() -> bytes:
    """A Vorbis file whose comments claim to be longer than the memory of most machines."""
    first, second, *others = pages(encoded(tone(), container="OGG"))
    at = second.index(b"\3vorbis") + 7
    return b"".join([first, sealed(second[:at] + b"\xf0\xff\xff\xff" + second[at + 4 :]), *others])


def _with_position(position: int) -> bytes:
    """A Vorbis file whose last page says that it ends at sample `position`."""
    *others, last = pages(encoded(noise(5), container="OGG"))
    return b"".join([*others, sealed(last[:6] + struct.pack("<q", position) + last[14:])])
