"""One clip as it is published to the mono 16 kHz file that training reads, or to the reason for which there is none.

Samples are decoded in blocks, mixed down, resampled and rounded as they come, so memory depends on the length that the
rules allow and never on what a header or a compressed stream claims.
"""

import io
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from omni_ray.catalog import Source
from omni_ray.prepare.records import Drop, MediaSample, Unusable
from omni_ray.prepare.transforms import containers, fields
from omni_ray.prepare.transforms.containers import BadClip

AudioFormat = Literal["flac", "wav"]
Float = NDArray[np.float32]

OUTPUT_VERSION = 1  # raised with any change that gives other bytes for the same clip
SAMPLE_RATE = 16_000  # Hz
RATES = (8_000, 192_000)  # Hz, the lowest and the highest that is read
BLOCK_SAMPLES = 1 << 18  # of all channels, decoded at a time: a clip of ten seconds in one piece, in a megabyte
LARGEST = 2.0**32  # a sample beyond is none; floats that hold integers are clipped, not refused
FULL_SCALE = 32768.0
# The largest sample that a format has; anything else has at least 32767 of 32768.
_RAILS = {"PCM_U8": 127 / 128, "PCM_S8": 127 / 128, "ULAW": 32124 / 32768, "ALAW": 32256 / 32768}
_RAIL = 32767 / 32768
_NO_MEMORY = 17  # errors of libsndfile (sf_error_number)
_UNIMPLEMENTED = (4, 18)
_UNKNOWN = (1 << 63) - 1  # libsndfile's number of samples for a stream that does not tell (SF_COUNT_MAX)


class Heard(NamedTuple):
    """A decoded clip: its samples `[samples]` at SAMPLE_RATE, and what the rules ask about it."""

    samples: NDArray[np.int16]
    seconds: float  # of the clip as published
    clipped: float  # share of the published samples that are at the largest value of their format


class AudioTransform:
    """What a source's rules make of a clip. Pure; one instance serves any number of records, one at a time."""

    def __init__(self, source: Source, audio_format: AudioFormat = "flac") -> None:
        rules = source.resolved_rules()
        self._format = audio_format
        self._min_seconds = float(rules["min_seconds"])
        self._max_seconds = float(rules["max_seconds"])
        self._min_peak = FULL_SCALE * 10 ** (float(rules["min_peak_dbfs"]) / 20)
        self._max_clipped = float(rules["max_clipped"])
        self._require_text = bool(rules["require_text"])
        self._buffer = np.empty(BLOCK_SAMPLES, np.float32)
        self._resampler: tuple[int, soxr.ResampleStream] | None = None  # of the last rate: making one takes a while

    def settings(self) -> dict[str, Any]:
        """What, besides the source's own settings, can change the bytes of a clip."""
        return {"audio": OUTPUT_VERSION, "audio_format": self._format}

    def __call__(self, data: bytes, text: str) -> MediaSample | Drop | Unusable:
        """`data` is the encoded clip, `text` its transcript as found."""
        try:
            transcript = fields.clean(text)
        except UnicodeEncodeError as error:
            return fields.undecodable(error)
        if self._require_text and not transcript:
            return Drop("require_text")
        try:
            heard = self._hear(containers.checked(data))
        except BadClip as error:
            return Unusable(error.reason, str(error))
        if heard is None:
            return Drop("max_seconds")
        if heard.seconds < self._min_seconds or not len(heard.samples):
            return Drop("min_seconds")
        if heard.clipped > self._max_clipped:
            return Drop("max_clipped")
        if max(int(heard.samples.max()), -int(heard.samples.min())) < self._min_peak:
            return Drop("min_peak_dbfs")
        return MediaSample(
            encode(heard.samples, self._format), f".{self._format}", transcript, len(heard.samples) / SAMPLE_RATE
        )

    def _hear(self, data: bytes) -> Heard | None:
        """Decode a clip; None for one that is longer than the rules allow, of which no more is decoded than that."""
        with _opened(data) as clip:
            rate, promised = clip.samplerate, clip.frames
            if not RATES[0] <= rate <= RATES[1]:
                raise BadClip("unsupported_rate", f"{rate} Hz; {RATES[0]} to {RATES[1]} Hz are read")
            if promised != _UNKNOWN and promised / rate > self._max_seconds:
                return None
            if not promised and clip.format == "OGG":  # as libsndfile opens one whose second or third header is damaged
                raise BadClip("corrupt", "no sample of it can be decoded")
            level, resampled = _Level(clip.subtype), self._resampled(rate)
            parts: list[NDArray[np.int16]] = []
            frames = 0
            while frames < promised:
                block = _read(clip, self._buffer, promised - frames)
                frames += len(block)
                if frames / rate > self._max_seconds:
                    return None
                if len(block):
                    level.add(block)
                last = frames == promised or not len(block)
                parts.append(rounded(resampled(mixed_down(block), last)))
                if not len(block):
                    break
        if promised not in (frames, _UNKNOWN):
            raise BadClip("truncated", f"its header tells of {promised} samples, and {frames} can be decoded")
        samples = np.concatenate(parts) if parts else np.empty(0, np.int16)
        return Heard(samples, frames / rate, level.clipped)

    def _resampled(self, rate: int) -> Callable[[Float, bool], Float]:
        """What takes the mono samples of one clip in turn, with whether they are its last, and gives them at
        SAMPLE_RATE."""
        if rate == SAMPLE_RATE:
            return lambda mono, last: mono
        if self._resampler is None or self._resampler[0] != rate:
            self._resampler = rate, soxr.ResampleStream(rate, SAMPLE_RATE, 1, "float32", "HQ")
        self._resampler[1].clear()
        return self._resampler[1].resample_chunk  # type: ignore[no-any-return]


class _Stream(soundfile.SoundFile):  # type: ignore[misc]
    """A file that is read once, forward: soundfile otherwise seeks after each read, which MP3 does not survive."""

    def seekable(self) -> bool:
        return False


def _opened(data: bytes) -> _Stream:
    try:
        return _Stream(io.BytesIO(data))
    except soundfile.LibsndfileError as error:
        raise _refusal(error) from error


def _read(clip: _Stream, buffer: Float, most: int) -> Float:
    """The next samples `[frames, channels]`, `most` frames or what `buffer` has room for; they lie in it."""
    frames = min(max(1, len(buffer) // clip.channels), most)
    try:
        return clip.read(out=buffer[: frames * clip.channels].reshape(frames, clip.channels))  # type: ignore[no-any-return]
    except soundfile.LibsndfileError as error:
        raise _refusal(error) from error


def _refusal(error: Any) -> Exception:
    """What an error of libsndfile means for the clip."""
    if error.code == _NO_MEMORY:
        return MemoryError(error.error_string)
    return BadClip("unknown_format" if error.code in _UNIMPLEMENTED else "corrupt", error.error_string)


class _Level:
    """Counts clipped samples, and finds those that are no numbers."""

    def __init__(self, subtype: str) -> None:
        self._rail = _RAILS.get(subtype, _RAIL)
        self._samples = 0
        self._clipped = 0

    def add(self, block: Float) -> None:
        low, high = float(block.min()), float(block.max())
        if not -LARGEST <= low <= high <= LARGEST:
            frame, channel = np.argwhere(~(np.abs(block) <= LARGEST))[0]
            at = self._samples // block.shape[1] + frame
            raise BadClip("bad_samples", f"sample {at} of channel {channel} is {block[frame, channel]}")
        self._samples += block.size
        if high >= self._rail or low <= -self._rail:
            self._clipped += int(np.count_nonzero(np.abs(block) >= self._rail))

    @property
    def clipped(self) -> float:
        return self._clipped / max(self._samples, 1)


def mixed_down(block: Float) -> Float:
    """The mean of the channels: `[frames, channels]` -> `[frames]`. Added up in their order, so always the same."""
    channels = block.shape[1]
    if channels == 1:
        return block[:, 0]
    mono = block[:, 0] + block[:, 1]
    for channel in range(2, channels):
        mono += block[:, channel]
    mono /= channels
    return mono


def rounded(samples: Float) -> NDArray[np.int16]:
    """Samples of 16 bits: full scale is 32768, halves go to the even one, what lies beyond is clipped.

    There is no dither: its noise, 5 dB above that of rounding, would stand in every silence of the training data and
    cost bytes of FLAC there, and a 16-bit clip at 16 kHz would not come through unchanged, as it does.
    """
    scaled = samples * np.float32(FULL_SCALE)
    np.rint(scaled, out=scaled)
    np.clip(scaled, -FULL_SCALE, FULL_SCALE - 1, out=scaled)
    return scaled.astype(np.int16)


def encode(samples: NDArray[np.int16], audio_format: AudioFormat) -> bytes:
    """A mono file of 16 bits at SAMPLE_RATE."""
    sink = io.BytesIO()
    soundfile.write(sink, samples, SAMPLE_RATE, "PCM_16", format=audio_format.upper())
    return sink.getvalue()
