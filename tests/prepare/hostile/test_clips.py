"""Audio files that no careful program would make, one by one: what becomes of them, in how much memory."""

import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from omni_ray.catalog import Source
from omni_ray.prepare.records import Drop, MediaSample, Unusable
from omni_ray.prepare.transforms.audio import AudioTransform
from tests.prepare.hostile.client import ROOT
from tests.prepare.hostile.clips import Hostile, hostile
from tests.prepare.hostile.run import MEMORY_MB as PROCESS_MB
from tests.prepare.hostile.worker import _forget_peak, _peak_mb

MEMORY_MB = 200  # that decoding one clip may add, whatever it claims


@pytest.fixture(scope="module")
def transform() -> AudioTransform:
    """One for all: a clip must not leave anything behind for the next."""
    source = {"name": "s", "modality": "audio", "category": "general", "url": ("x",), "reader": "table"}
    return AudioTransform(
        Source.model_validate({**source, "license": "MIT", "fields": {"audio": "audio", "text": "{text}"}})
    )


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


@pytest.mark.parametrize(("seed", "count"), [(0, 300), pytest.param(1, 5_000, marks=pytest.mark.slow)])
def test_mutated_clips(seed: int, count: int) -> None:
    """Never a crash, and never two answers."""
    command = [sys.executable, "-m", "tests.prepare.hostile.fuzz_clips", str(seed), str(count)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3_000:]
    answer = json.loads(done.stdout)
    assert answer["peak_mb"] < PROCESS_MB
    assert {"kept", "corrupt", "truncated", "unknown_format"} <= answer["found"].keys()
