"""Preparing clips against a plain loop with soundfile and soxr, two processes each, on the same files.

    python scripts/bench/prepare_audio.py --audio ../shared/data/audio

The real clips of the folder's archives are written out one file each; every round hands all of them to each system,
which reads, decodes, resamples to 16 kHz and writes FLAC. The plain loop judges nothing and trusts every header. Both
must write the same bytes. Processes have started and imported what they need before a round begins. Rates are seconds
of audio per second of the clock, and per second of CPU, which other programs on the machine disturb less.
"""

import argparse
import io
import multiprocessing
import statistics
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from multiprocessing.pool import Pool
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import soundfile
import soxr

from omni_ray.catalog import Source
from omni_ray.prepare.records import MediaSample
from omni_ray.prepare.transforms.audio import SAMPLE_RATE, AudioTransform
from scripts.bench import _measure

PROCESSES = 2
TARGET = 0.9
KINDS = {"short clips, 8 kHz": "fsdd-recordings.zip", "sentences, 22.05 kHz": "ljspeech-mini.tar.gz"}
SOURCE = Source.model_validate(
    {"name": "bench", "modality": "audio", "category": "general", "url": ("x",), "reader": "table", "license": "MIT",
     "fields": {"audio": "audio", "text": "{text}"}, "rules": {"min_seconds": 0.0}}
)  # fmt: skip


class Share(NamedTuple):
    """What one process does in a round: every clip in turn into `out`, under its own name."""

    clips: list[Path]
    out: Path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audio", type=Path, required=True, help=f"a folder with {' and '.join(KINDS.values())}")
    parser.add_argument("--seconds", type=float, default=2000, help="of audio in a round (default: 2000)")
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    print(f"{PROCESSES} processes, {arguments.runs} rounds: median [smallest, largest]")
    print("| clips | system | x real time | x real time per CPU | omni_ray / it | per CPU |\n|---|---|---|---|---|---|")
    reached = []
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        for kind, archive in KINDS.items():
            with tempfile.TemporaryDirectory() as folder:
                clips, seconds = write_clips(arguments.audio / archive, Path(folder), arguments.seconds)
                clock, cpu = compare(pool, clips, Path(folder), arguments.runs)
            reached.append((kind, report(kind, seconds, clock, cpu)))
    for kind, ratio in reached:
        _measure.ratio(f"decode audio / plain loop, {kind}", ratio, TARGET)
    return 0


def write_clips(archive: Path, folder: Path, least: float) -> tuple[list[Path], float]:
    """Write the archive's clips again and again until they last `least` seconds; their files and how long they last."""
    found = [(data, soundfile.info(io.BytesIO(data)).duration) for data in members(archive)]
    clips: list[Path] = []
    seconds = 0.0
    while seconds < least:
        data, duration = found[len(clips) % len(found)]
        clips.append(folder / f"{len(clips):06}.wav")
        clips[-1].write_bytes(data)
        seconds += duration
    return clips, seconds


def members(archive: Path) -> Iterator[bytes]:
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as opened:
            yield from (opened.read(name) for name in opened.namelist() if name.endswith(".wav"))
        return
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.name.endswith(".wav") and (file := tar.extractfile(member)) is not None:
                yield file.read()


Rounds = dict[str, list[float]]


def compare(pool: Pool, clips: list[Path], folder: Path, runs: int) -> tuple[Rounds, Rounds]:
    """Seconds of the clock and of CPU that each system takes, round by round; the first round, unmeasured, warms up."""
    clock: Rounds = {name: [] for name in SYSTEMS}
    cpu: Rounds = {name: [] for name in SYSTEMS}
    for number in range(runs + 1):
        for name, system in reversed(SYSTEMS.items()) if number % 2 else SYSTEMS.items():
            out = folder / name
            out.mkdir(exist_ok=True)
            began = time.perf_counter()
            spent = pool.map(system, [Share(clips[at::PROCESSES], out) for at in range(PROCESSES)], chunksize=1)
            if number:
                clock[name].append(time.perf_counter() - began)
                cpu[name].append(sum(spent))
    for clip in clips:
        made = {(folder / name / f"{clip.stem}.flac").read_bytes() for name in SYSTEMS}
        if len(made) > 1:
            sys.exit(f"{clip.name}: the systems do not write the same bytes")
    return clock, cpu


def report(kind: str, seconds: float, clock: Rounds, cpu: Rounds) -> float:
    """Print a line a system; the ratio of the rates by the clock."""
    ratios = {}
    for name in SYSTEMS:
        rates = [[seconds / one for one in times[name]] for times in (clock, cpu)]
        ratios[name] = [
            statistics.median(theirs / ours for ours, theirs in zip(times["omni_ray"], times[name], strict=True))
            for times in (clock, cpu)
        ]
        shown = " | ".join([*map(_measure.spread, rates), *(f"{ratio:.2f}" for ratio in ratios[name])])
        print(f"| {kind} | {name} | {shown} |", flush=True)
    return ratios["plain"][0]


def transform_share(share: Share) -> float:
    """Seconds of CPU that the transform takes."""
    began = time.process_time()
    transform = AudioTransform(SOURCE)
    for clip in share.clips:
        result = transform(clip.read_bytes(), "a transcript")
        if not isinstance(result, MediaSample):
            raise SystemExit(f"{clip}: {result}")
        (share.out / f"{clip.stem}{result.suffix}").write_bytes(result.data)
    return time.process_time() - began


def plain_share(share: Share) -> float:
    """Seconds of CPU that the same takes with soundfile and soxr alone."""
    began = time.process_time()
    for clip in share.clips:
        samples, rate = soundfile.read(clip, dtype="float32")
        if samples.ndim == 2:
            samples = samples.mean(axis=1)
        samples = soxr.resample(samples, rate, SAMPLE_RATE, "HQ")
        rounded = np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16)
        soundfile.write(share.out / f"{clip.stem}.flac", rounded, SAMPLE_RATE, "PCM_16")
    return time.process_time() - began


SYSTEMS: dict[str, Callable[[Share], float]] = {"omni_ray": transform_share, "plain": plain_share}

if __name__ == "__main__":
    sys.exit(main())
