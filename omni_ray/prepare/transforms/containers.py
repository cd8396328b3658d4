"""Encoded clips before they are decoded: which container they are, and whether the whole of it is there.

libsndfile decodes what it finds of a clip that was cut off and says nothing, and reads only the first of several Ogg
streams. So each container is walked first, by its headers alone, without decoding: RIFF and AIFF chunks (Microsoft
RIFF MCI 1991; EBU Tech 3306 for RF64; Apple AIFF-C 1991), the header of AU, the pages of Ogg (RFC 3533), MPEG frames
(`mpeg`). FLAC's own checksums are checked by its decoder. Only containers named here ever reach libsndfile.
"""

import struct
import zlib
from collections.abc import Callable

from omni_ray.prepare.transforms import mpeg

_UNKNOWN_FROM = 0x7FFFF000  # encoders that cannot go back to the header write a size from here on; no clip is that long
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_PADDING = 1 << 16  # zeros that may lie between a tag and the first frame
_LAST_PAGE = 4  # flag of an Ogg page


class BadClip(Exception):
    """An encoded clip that cannot be used: `reason` is what it is quarantined under, the message says what is wrong."""

    def __init__(self, reason: str, error: str) -> None:
        super().__init__(error)
        self.reason = reason


def checked(data: bytes) -> bytes:
    """What to give to libsndfile for the clip `data`: the same, or with a header that tells its length.

    Raises:
        BadClip: empty, unknown_format, truncated, corrupt or several_streams.
    """
    if not data:
        raise BadClip("empty", "the clip has no bytes")
    for recognised, check in _CONTAINERS:
        if recognised(data):
            return check(data)
    raise BadClip("unknown_format", f"no WAV, FLAC, MP3, Ogg, AIFF or AU: it begins with {data[:12]!r}")


def _riff(data: bytes) -> bytes:
    order = ">" if data[:4] == b"RIFX" else "<"
    long_size = None  # in RF64
    at = 12
    while at + 8 <= len(data):
        kind, size = data[at : at + 4], _number(f"{order}I", data, at + 4)
        if kind == b"ds64" and at + 24 <= len(data):
            long_size = _number("<Q", data, at + 16)
        if kind == b"data":
            if size == 0 and _number(f"{order}I", data, 4) <= at:
                # never finished: the file ends, if it is believed, where the samples begin
                return data[: at + 4] + struct.pack(f"{order}I", len(data) - at - 8) + data[at + 8 :]
            if size == 0xFFFFFFFF and long_size is not None:
                _need(data, at + 8 + long_size)
            elif size < _UNKNOWN_FROM:
                _need(data, at + 8 + size)
            return data
        at += 8 + size + size % 2
    raise BadClip("truncated", f"the file ends before its samples begin, after {len(data)} bytes")


def _aiff(data: bytes) -> bytes:
    at = 12
    while at + 8 <= len(data):
        kind, size = data[at : at + 4], _number(">I", data, at + 4)
        if kind == b"SSND":
            _need(data, at + 8 + size)
            return data
        at += 8 + size + size % 2
    raise BadClip("truncated", f"the file ends before its samples begin, after {len(data)} bytes")


def _au(data: bytes) -> bytes:
    if len(data) < 24:
        raise BadClip("truncated", f"the file ends inside its header, after {len(data)} bytes")
    start, size = struct.unpack_from(">II" if data[:4] == b".snd" else "<II", data, 4)
    if size < _UNKNOWN_FROM:
        _need(data, start + size)
    return data


def _ogg(data: bytes) -> bytes:
    """Walk the pages up to the one that says it is the last."""
    at, serial, number, ended = 0, None, 0, False
    while data[at : at + 4] == b"OggS":
        head = at + 27
        if head > len(data) or (body := head + data[head - 1]) > len(data):
            break
        end = body + sum(data[head:body])
        if end > len(data):
            break
        if serial is not None and (ended or _number("<I", data, at + 14) != serial):
            raise BadClip("several_streams", f"another Ogg stream begins at byte {at}; store one stream a file")
        if _checksum(data, at, end) != _number("<I", data, at + 22):
            raise BadClip("corrupt", f"the checksum of the Ogg page at byte {at} does not fit its content")
        if serial is not None and _number("<I", data, at + 18) != number + 1:
            raise BadClip("corrupt", f"an Ogg page is missing before byte {at}")
        serial, number, ended = *struct.unpack_from("<II", data, at + 14), bool(data[at + 5] & _LAST_PAGE)
        at = end
    if not ended:
        raise BadClip("truncated", f"no whole Ogg page after byte {at}, and none before it is the last of the stream")
    return data


def _mp3(data: bytes) -> bytes:
    """The frames alone, without tags, behind an Info frame that tells their number.

    libsndfile guesses the number from the first frame's bit rate where none is stored, as is common (made through a
    pipe): of a file with a variable one it may then give a quarter and say nothing.
    """
    start = mpeg.after_tags(data)
    if data[start : start + 4] == b"fLaC":
        return data[start:]
    start += len(data[start : start + _PADDING]) - len(data[start : start + _PADDING].lstrip(b"\0"))
    first = mpeg.frame_at(data, start)
    if first is None:
        cut = start >= len(data)
        raise (
            BadClip("truncated", "its tag is longer than the file")
            if cut
            else BadClip("unknown_format", f"its tag is not followed by MP3: {data[start : start + 12]!r}")
        )
    found = mpeg.walk(data, start, first)
    if found.other:
        before, behind = (f"{one.rate} Hz and {one.channels} channels" for one in (first, found.other))
        raise BadClip("several_streams", f"{before}, but {behind} from byte {found.end} on; store one stream a file")
    if found.missing:
        raise BadClip("truncated", f"{found.missing} bytes of the last frame are missing")
    if found.resumed:
        raise BadClip("corrupt", f"no MP3 frame in bytes {found.end} to {found.resumed}, and others go on behind")
    told = mpeg.told_frames(data, start, first)
    if told is not None:
        if told == found.frames - 1:
            return data[start : found.end]
        if told > found.frames - 1:
            raise BadClip("truncated", f"its header tells of {told} frames, and there are {found.frames - 1}")
        start += first.size
    frames = data[start : found.end]
    return mpeg.info_frame(data[start : start + 4], found.frames - (told is not None), len(frames)) + frames


def _checksum(data: bytes, start: int, stop: int) -> int:
    """Ogg's CRC of a page, its own field taken for zeros: zlib's polynomial, with bits the other way round."""
    page = data[start : start + 22] + bytes(4) + data[start + 26 : stop]
    mirrored = ~zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) & 0xFFFFFFFF
    return int.from_bytes(mirrored.to_bytes(4, "little").translate(_REVERSED), "big")


def _need(data: bytes, end: int) -> None:
    if end > len(data):
        raise BadClip("truncated", f"its header tells of {end} bytes, and there are {len(data)}")


def _number(kind: str, data: bytes, at: int) -> int:
    return int(struct.unpack_from(kind, data, at)[0])


def _begins(*marks: bytes, form: tuple[bytes, ...] = ()) -> Callable[[bytes], bool]:
    """Whether a clip begins with one of `marks` and has one of `form` at byte 8, where any is given."""
    return lambda data: data.startswith(marks) and (not form or data[8:12] in form)


_CONTAINERS: tuple[tuple[Callable[[bytes], bool], Callable[[bytes], bytes]], ...] = (
    (_begins(b"RIFF", b"RIFX", b"RF64", form=(b"WAVE",)), _riff),
    (_begins(b"fLaC"), lambda data: data),
    (_begins(b"OggS"), _ogg),
    (_begins(b"FORM", form=(b"AIFF", b"AIFC")), _aiff),
    (_begins(b".snd", b"dns."), _au),
    (lambda data: data.startswith(b"ID3") or mpeg.frame_at(data, 0) is not None, _mp3),
)
