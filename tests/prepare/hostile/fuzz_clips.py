"""Mutated clips of every container: `python -m tests.prepare.hostile.fuzz_clips SEED COUNT`.

What a decoder in C makes of nonsense may end the process, so this is one of its own. It prints a JSON object: how many
clips became what, and the peak of resident memory in 10^6 bytes.
"""

import json
import random
import struct
import sys
from collections import Counter

from omni_ray.catalog import Source
from omni_ray.prepare.records import Drop, Unusable
from omni_ray.prepare.transforms.audio import AudioTransform
from tests.prepare.hostile import clips
from tests.prepare.hostile.worker import _peak_mb

FORMATS = [
    ("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "IMA_ADPCM"), ("WAV", "MS_ADPCM"), ("WAV", "ULAW"),
    ("WAVEX", "PCM_24"), ("RF64", "PCM_16"), ("AIFF", "PCM_16"), ("AIFF", "FLOAT"), ("AU", "PCM_16"),
    ("FLAC", "PCM_16"), ("FLAC", "PCM_24"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"),
]  # fmt: skip
NUMBERS = [struct.pack(order, number) for order in ("<I", ">I") for number in (0, 1, 0x7FFFFFFF, 1 << 31, 0xFFFFFFFF)]
HEADER_BYTES = 200  # in which most of the changes lie


def main(seed: int, count: int) -> None:
    source = {"name": "s", "modality": "audio", "category": "general", "url": ("x",), "reader": "table"}
    transform = AudioTransform(
        Source.model_validate({**source, "license": "MIT", "fields": {"audio": "audio", "text": "{text}"}})
    )
    dice = random.Random(seed)
    sound = [
        clips.encoded(clips.noise(0.6, 24_000, channels=channels), 24_000, container, subtype)
        for container, subtype in FORMATS
        for channels in (1, 2)
    ]
    found: Counter[str] = Counter()
    for _ in range(count):
        data = mutated(dice, dice.choice(sound))
        result = transform(data, "a transcript")
        assert transform(data, "a transcript") == result
        found[result.rule if isinstance(result, Drop) else getattr(result, "reason", "kept")] += 1
        assert not isinstance(result, Unusable) or result.error
    print(json.dumps({"found": found, "peak_mb": _peak_mb()}))


def mutated(dice: random.Random, sound: bytes) -> bytes:
    data = bytearray(sound)
    for _ in range(dice.choice([1, 1, 2, 5, 20])):
        at = dice.randrange(max(1, min(len(data), HEADER_BYTES if dice.random() < 0.7 else len(data))))
        kind = dice.randrange(4)
        if kind == 0:
            data[at : at + 1] = dice.randbytes(1)
        elif kind == 1:
            data[at : at + 4] = dice.choice(NUMBERS)
        elif kind == 2:
            del data[at : at + dice.randrange(1, 50)]
        else:
            data[at:at] = dice.randbytes(dice.randrange(1, 30))
    if data.startswith(b"OggS") and dice.random() < 0.8:  # else only the checksums are tried
        return resealed(bytes(data))
    return bytes(data)


def resealed(data: bytes) -> bytes:
    try:
        return b"".join(map(clips.sealed, clips.pages(data)))
    except IndexError:  # no chain of pages any more
        return data


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
