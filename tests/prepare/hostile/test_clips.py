"""Audio files that no careful program would make, one by one: what becomes of them, in how much memory."""

from collections.abc import Callable
from pathlib import Path

import pytest

from omni_ray.catalog import Source
from omni_ray.prepare.records import Drop, MediaSample, Unusable
from omni_ray.prepare.transforms.audio import AudioTransform
from tests.prepare.hostile.clips import Hostile, hostile
from tests.prepare.hostile.worker import _forget_peak, _peak_mb

MEMORY_MB = 200  # that decoding one clip may add, whatever it claims


@pytest.fixture(scope="module")
def transform() -> AudioTransform:
    """One for all: a clip must not leave anything behind for the next."""
    source = {"name": "s", "modality": "audio", "category": "general", "url": ("x",), "reader": "table"}
    return AudioTransform(Source.model_validate({**source, "license": "MIT", "base": Path()}))


@pytest.mark.parametrize(("name", "make"), [pytest.param(*one, id=one[0]) for one in hostile()])
def test_hostile_clip(transform: AudioTransform, name: str, make: Callable[[], Hostile]) -> None:
    clip = make()
    _forget_peak()
    before = _peak_mb()
    result = transform(clip.data, "a transcript")
    assert _peak_mb() - before < MEMORY_MB
    if clip.dropped:
        assert result == Drop(clip.dropped)
    elif clip.quarantined:
        assert isinstance(result, Unusable), result
        assert (result.reason, bool(result.error)) == (clip.quarantined, True)
    else:
        assert isinstance(result, MediaSample), result
        assert result.seconds == 1.0


def test_there_are_many() -> None:
    names = [name for name, _ in hostile()]
    assert len(set(names)) == len(names) >= 90
