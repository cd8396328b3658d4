"""Synthetic speech: short sentences read letter by letter, each letter a sound of its own.

A source-filter synthesiser (Fant 1960; Klatt 1980 for the ranges of the formants): a train of pulses, or noise, or a
burst after a closure, shaped by an envelope and sent through the letter's resonances. What is heard is a function of
the transcript and of the speaker (pitch, rate, length of the vocal tract, breath), so recognition and synthesis can
both be learned from it. Letters are slow enough for CTC at 12.5 frames per second.
"""

import io
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import soundfile

from omni_ray.prepare.synthetic.dice import Dice
from omni_ray.prepare.synthetic.image import COLOURS, SHAPES, SIZES
from omni_ray.prepare.synthetic.words import DAYS, plural, spoken

Array = npt.NDArray[np.float64]

CLIPS = 206
SAMPLE_RATE = 16_000  # Hz
SPEAKERS = 8
PAUSE = 0.10  # seconds of silence for a space, and before and after the sentence
RELATIONS = ["above", "below", "left of", "right of"]
PEAK = 0.4  # of full scale
_RING = 1024  # samples for which a resonance is followed
_GLOTTIS = 60 * np.hanning(12)  # one opening of the vocal folds, 0.7 ms: takes the edge off the pulses


class Sound(NamedTuple):
    """How a letter sounds: shares of voice and noise, seconds of closure before it, seconds, resonances in Hz."""

    voice: float
    noise: float
    closure: float
    seconds: float
    formants: tuple[int, ...]


class Speaker(NamedTuple):
    name: str
    pitch: float  # Hz
    rate: float  # of speaking; 1 is the table's
    tract: float  # factor on every formant: below 1 for a long vocal tract
    breath: float  # share of noise in the voice


SOUNDS = {
    "a": Sound(1.0, 0.00, 0, 0.15, (780, 1250, 2550)),
    "e": Sound(0.9, 0.00, 0, 0.14, (530, 1850, 2500)),
    "i": Sound(0.9, 0.00, 0, 0.14, (290, 2250, 3000)),
    "o": Sound(1.0, 0.00, 0, 0.15, (480, 850, 2400)),
    "u": Sound(0.9, 0.00, 0, 0.15, (310, 700, 2250)),
    "y": Sound(0.8, 0.05, 0, 0.13, (270, 1650, 2150)),
    "l": Sound(0.6, 0.00, 0, 0.12, (360, 1050, 2800)),
    "r": Sound(0.6, 0.00, 0, 0.12, (420, 1200, 1600)),
    "m": Sound(0.5, 0.00, 0, 0.12, (250, 1000, 2100)),
    "n": Sound(0.5, 0.00, 0, 0.12, (250, 1500, 2600)),
    "w": Sound(0.6, 0.00, 0, 0.12, (300, 610, 2100)),
    "j": Sound(0.5, 0.25, 0, 0.12, (280, 2500, 3600)),
    "v": Sound(0.4, 0.20, 0, 0.12, (220, 1300, 4400)),
    "z": Sound(0.4, 0.45, 0, 0.12, (240, 4600, 6300)),
    "f": Sound(0.0, 0.30, 0, 0.12, (1400, 4300, 7100)),
    "s": Sound(0.0, 0.60, 0, 0.13, (4900, 5900, 7200)),
    "x": Sound(0.0, 0.60, 0.02, 0.13, (2900, 4900, 6600)),
    "h": Sound(0.0, 0.35, 0, 0.12, (700, 1600, 2600)),
    "c": Sound(0.0, 0.60, 0.02, 0.12, (2300, 3300, 4300)),
    "p": Sound(0.0, 0.80, 0.06, 0.06, (500, 1100, 2000)),
    "t": Sound(0.0, 0.80, 0.06, 0.06, (3400, 4400, 5600)),
    "k": Sound(0.0, 0.80, 0.06, 0.06, (1500, 2300, 3100)),
    "q": Sound(0.0, 0.80, 0.06, 0.06, (900, 1900, 2500)),
    "b": Sound(0.6, 0.20, 0.05, 0.07, (300, 900, 2100)),
    "d": Sound(0.6, 0.20, 0.05, 0.07, (300, 1700, 2700)),
    "g": Sound(0.6, 0.20, 0.05, 0.07, (300, 2000, 2300)),
}


def speakers(seed: int) -> list[Speaker]:
    """The voices of a data set, from low and slow to high and quick, each a little off its place."""
    found = []
    for number in range(SPEAKERS):
        dice, place = Dice(seed, 2, 0, number), number / (SPEAKERS - 1)
        found.append(
            Speaker(
                name=f"speaker{number:02d}",
                pitch=90 * 2 ** (1.4 * place + dice.uniform(-0.08, 0.08)),
                rate=dice.uniform(0.88, 1.12),
                tract=0.9 + 0.25 * place + dice.uniform(-0.02, 0.02),
                breath=dice.uniform(0.01, 0.05),
            )
        )
    return found


def clip(seed: int, number: int, voices: list[Speaker]) -> tuple[bytes, str, str]:
    """Clip `number`: FLAC bytes (mono, 16 bit, SAMPLE_RATE), transcript, name of the speaker."""
    speaker, dice = voices[number % len(voices)], Dice(seed, 2, 1, number)
    text = sentence(dice)
    wave = speak(text, speaker, dice.generator)
    stream = io.BytesIO()
    soundfile.write(stream, np.round(wave * 32767).astype(np.int16), SAMPLE_RATE, "PCM_16", format="FLAC")
    return stream.getvalue(), text, speaker.name


def sentence(dice: Dice) -> str:
    """A transcript of a-z and single spaces, at most 60 characters: digits, sums, shapes, colours, days."""
    kind = dice.below(5)
    if kind == 0:
        return " ".join(spoken(dice.below(10)) for _ in range(dice.number(3, 8)))
    if kind == 1:
        first, second = dice.number(1, 40), dice.number(1, 40)
        return f"{spoken(first)} plus {spoken(second)} is {spoken(first + second)}"
    if kind == 2:
        return f"the {dice.pick(list(SIZES))} {_thing(dice)} is {dice.pick(RELATIONS)} the {_thing(dice)}"
    if kind == 3:
        thing, day = dice.pick(list(SHAPES)), dice.pick(DAYS).lower()
        return f"give me {spoken(dice.number(2, 9))} {dice.pick(list(COLOURS))} {plural(thing)} on {day}"
    place = dice.below(7)
    return f"after {DAYS[place].lower()} comes {DAYS[(place + 1) % 7].lower()}"


def _thing(dice: Dice) -> str:
    return f"{dice.pick(list(COLOURS))} {dice.pick(list(SHAPES))}"


def speak(text: str, speaker: Speaker, noise: np.random.Generator) -> Array:
    """The wave of `text` [samples] at SAMPLE_RATE; characters are those of SOUNDS and the space."""
    spans, length = _timeline(text, speaker)
    time = np.arange(length) / SAMPLE_RATE
    fall = 1.08 - 0.16 * np.linspace(0, 1, length)  # the pitch of a statement sinks
    pitch = speaker.pitch * fall * (1 + 0.015 * np.sin(2 * np.pi * 5.0 * time + noise.uniform(0, 2 * np.pi)))
    periods = np.floor(np.cumsum(pitch) / SAMPLE_RATE)
    pulses = np.convolve(np.diff(periods, prepend=0.0) / np.sqrt(pitch), _GLOTTIS, "same")
    hiss = noise.standard_normal(length)
    wave = np.zeros(length + _RING)
    width = 1 << (max(stop - start for _, start, stop in spans) + _RING - 1).bit_length()
    responses = {letter: np.fft.rfft(_response(SOUNDS[letter], speaker.tract), width) for letter in set(text) - {" "}}
    for letter, start, stop in spans:
        sound, part = SOUNDS[letter], slice(start, stop)
        breathy = sound.noise + sound.voice * speaker.breath
        source = (sound.voice * pulses[part] + breathy * hiss[part]) * _envelope(stop - start, burst=sound.closure > 0)
        heard = np.fft.irfft(np.fft.rfft(source, width) * responses[letter], width)
        wave[start : stop + _RING] += heard[: stop - start + _RING]
    wave = wave[:length]
    room = PEAK / np.max(np.abs(wave))
    return np.asarray(wave * room + 1e-4 * hiss, dtype=np.float64)


def _timeline(text: str, speaker: Speaker) -> tuple[list[tuple[str, int, int]], int]:
    """(letter, first sample, end) for each letter, and the number of samples of the whole sentence."""
    spans, at = [], PAUSE
    for letter in text:
        if letter == " ":
            at += PAUSE / speaker.rate
            continue
        sound = SOUNDS[letter]
        start = at + sound.closure / speaker.rate
        at = start + sound.seconds / speaker.rate
        spans.append((letter, round(start * SAMPLE_RATE), round(at * SAMPLE_RATE)))
    return spans, round((at + PAUSE) * SAMPLE_RATE)


def _response(sound: Sound, tract: float) -> Array:
    """Impulse response [_RING] of a letter's resonances, of unit energy: a sum of damped sines."""
    time = np.arange(_RING) / SAMPLE_RATE
    response = np.zeros(_RING)
    for place, formant in enumerate(sound.formants):
        frequency = min(formant * tract, 0.48 * SAMPLE_RATE)
        bandwidth = 60 + 0.05 * frequency if sound.voice else 200 + 0.08 * frequency
        response += 0.6**place * np.exp(-np.pi * bandwidth * time) * np.sin(2 * np.pi * frequency * time)
    return np.asarray(response / np.linalg.norm(response), dtype=np.float64)


def _envelope(samples: int, *, burst: bool) -> Array:
    """Attack and decay over `samples`: 20 ms up and 30 ms down; a burst starts in 2 ms and dies away."""
    time = np.arange(samples) / SAMPLE_RATE
    left = samples / SAMPLE_RATE - time
    if burst:
        return np.asarray(np.clip(time / 0.002, 0, 1) * np.exp(-time / 0.03) * np.clip(left / 0.01, 0, 1))
    return np.asarray(np.clip(time / 0.02, 0, 1) * np.clip(left / 0.03, 0, 1))
