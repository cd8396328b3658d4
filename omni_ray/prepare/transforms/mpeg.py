"""The frames of an MP3 file, counted by their headers (ISO 11172-3 2.4.1.3, ISO 13818-3; 2.5 is Fraunhofer's)."""

import struct
from functools import lru_cache
from typing import NamedTuple

_BITRATES = {  # kbit/s by index, layer III
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),  # MPEG 1
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),  # MPEG 2 and 2.5
}
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # Hz by version and index
_MONO = 3
_INFO_BYTES = 16  # "Info", flags, number of frames, bytes
_HAS_FRAMES, _HAS_BYTES = 1, 2
_RESYNC_BYTES = 1 << 16  # behind the last frame, in which frames that go on are looked for


class Frame(NamedTuple):
    rate: int  # Hz
    channels: int
    size: int  # bytes
    info: int  # where in a frame an encoder writes "Xing" or "Info", if checksums are off


class Walk(NamedTuple):
    """What the frames from one place on are."""

    frames: int  # whole ones, of the first one's rate and channels
    end: int  # of the last one
    other: Frame | None  # a frame of another rate or other channels at `end`
    missing: int  # bytes of the last frame that are not there
    resumed: int  # where frames go on behind something that is none; 0 where they do not


def frame_at(data: bytes, at: int) -> Frame | None:
    """The frame of layer III whose header is at `at`; None where there is none, or one of free format."""
    return _frame(data[at : at + 4])


def after_tags(data: bytes) -> int:
    """Where an ID3v2 tag and those behind it end; behind the end of `data` where they claim to."""
    at = 0
    while data[at : at + 3] == b"ID3" and at + 10 <= len(data):
        high, middle, low, lowest = data[at + 6 : at + 10]
        at += 10 + (high << 21 | middle << 14 | low << 7 | lowest)
    return at


def walk(data: bytes, at: int, first: Frame) -> Walk:
    """Follow the frames from `at` on, where `first` is."""
    frames = 0
    while frame := _frame(data[at : at + 4]):
        if (frame.rate, frame.channels) != (first.rate, first.channels):
            return Walk(frames, at, frame, 0, 0)
        if at + frame.size > len(data):
            return Walk(frames, at, None, at + frame.size - len(data), 0)
        frames += 1
        at += frame.size
    return Walk(frames, at, None, 0, _resumed(data, at, first))


def told_frames(data: bytes, at: int, first: Frame) -> int | None:
    """How many frames follow the first according to it; None where it is no header, 0 where it does not say."""
    if data[at + 36 : at + 40] == b"VBRI":
        return 0
    place = at + first.info
    if data[place : place + 4] not in (b"Xing", b"Info"):
        return None
    flags, frames = struct.unpack_from(">II", data, place + 4)
    return frames if flags & _HAS_FRAMES else 0


def info_frame(header: bytes, frames: int, size: int) -> bytes:
    """A frame that tells a decoder that `frames` follow it, in `size` bytes, and is not decoded."""
    for index in range(1, 15):
        made = bytes([header[0], header[1] | 1, index << 4 | header[2] & 0x0C, header[3]])
        frame = _frame(made)
        if frame and frame.size >= frame.info + _INFO_BYTES:
            info = struct.pack(">4sIII", b"Info", _HAS_FRAMES | _HAS_BYTES, frames, size + frame.size)
            return (made.ljust(frame.info, b"\0") + info).ljust(frame.size, b"\0")
    raise AssertionError(f"no bit rate has room for an Info frame: {header!r}")


@lru_cache(maxsize=1 << 10)
def _frame(header: bytes) -> Frame | None:
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return None
    version, bitrate, rate = header[1] >> 3 & 3, header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or bitrate in (0, 15) or rate == 3:
        return None
    first = version == 3
    hertz = _RATES[version][rate]
    channels = 1 if header[3] >> 6 == _MONO else 2
    size = (144 if first else 72) * _BITRATES[first][bitrate] * 1000 // hertz + (header[2] >> 1 & 1)
    side = (17 if first else 9) if channels == 1 else (32 if first else 17)
    return Frame(hertz, channels, size, 4 + side)


def _resumed(data: bytes, at: int, first: Frame) -> int:
    """Where two frames in a row follow something that is no frame; 0 where none do, or far away."""
    stop = min(len(data), at + _RESYNC_BYTES)
    while (at := data.find(b"\xff", at, stop)) >= 0:
        frame = _frame(data[at : at + 4])
        if frame and frame.rate == first.rate and _frame(data[at + frame.size : at + frame.size + 4]):
            return at
        at += 1
    return 0
