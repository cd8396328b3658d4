"""Preparing clips against two plain processes with soundfile and soxr, on the same files.

    python scripts/bench/prepare_audio.py --audio ../shared/data/audio

The clips are the real ones of the folder's archives, each turned by some samples whenever it comes again, so that no
two are the same. Every round runs each system on a quarter of them and on all: "whole" is seconds of audio over the
wall time of the command on all of them, "steady" the difference of the audio over the difference of the times, without
what starting costs. The plain loop reads a clip, mixes it down, resamples it to 16 kHz, writes FLAC and a line of a
CSV; it judges nothing, trusts every header, makes no index and syncs nothing. `transform` is such a loop over the
product's own transform. All must write the same bytes. With `--log` rounds add up over several calls.
"""

import argparse
import csv
import hashlib
import io
import itertools
import multiprocessing
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import pyarrow.parquet as pq
import soundfile
import soxr

from omni_ray.catalog import load_catalog
from omni_ray.prepare.records import MediaSample
from omni_ray.prepare.transforms.audio import SAMPLE_RATE, AudioTransform
from scripts.bench import _measure, _rounds

PROCESSES = 2
TARGET = 0.9  # of the plain loop, steady
BOUND_BYTES = 1.5e9  # of any process
OURS = {"omni_ray, files": "files", "omni_ray, tars": "tar"}  # and their --layout
CATALOG = """
[[source]]
name = "bench"
modality = "audio"
category = "general"
url = "{part}"
reader = "files"
pattern = '(?P<number>\\d+)\\.wav'
license = "MIT"
[source.fields]
text = "clip {{number}}"
[source.rules]
min_seconds = 0.0
"""


class Clips(NamedTuple):
    """A kind of clips: the archive that they come from, and how many seconds of them make a round."""

    archive: str
    seconds: float


KINDS = {
    "sentences of 6.6 s, 22.05 kHz": Clips("ljspeech-mini.tar.gz", 16_000),
    "clips of 0.4 s, 8 kHz": Clips("fsdd-recordings.zip", 6_000),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audio", type=Path, help=f"a folder with {', '.join(one.archive for one in KINDS.values())}")
    parser.add_argument("--scale", type=float, default=1.0, help="of the seconds of audio in a round")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="of clips")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument(
        "--systems", nargs="+", choices=[*OURS, *LOOPS], default=[*OURS, "plain"], help="plain among them"
    )
    parser.add_argument(
        "--log",
        type=Path,
        help="keeps what was measured; the table is of all rounds there with these systems and clips",
    )
    parser.add_argument("--loop", choices=LOOPS, help=argparse.SUPPRESS)
    parser.add_argument("--catalog", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.loop:
        run_loop(arguments.loop, arguments.catalog, arguments.out)
        return 0
    if not arguments.audio:
        parser.error("--audio is missing")
    with tempfile.TemporaryDirectory() as folder:
        report(measure(arguments, Path(folder)))
    return 0


def measure(arguments: argparse.Namespace, folder: Path) -> list[_rounds.Timed]:
    places = {kind: folder / str(number) for number, kind in enumerate(arguments.kinds)}
    inputs = {
        kind: write_input(arguments.audio / KINDS[kind].archive, place, KINDS[kind].seconds * arguments.scale)
        for kind, place in places.items()
    }
    out = folder / "out"
    made: dict[tuple[str, str], str] = {}

    def start(kind: str, system: str, part: str) -> _measure.Run:
        done = _measure.run(command(system, places[kind] / f"{part}.toml", out))
        digest = digest_of(out)
        if made.setdefault((kind, part), digest) != digest:
            sys.exit(f"{kind}: the systems do not write the same bytes")
        return done

    log = arguments.log or folder / "log"
    return _rounds.measure(arguments.systems, inputs, start, out, arguments.runs, log)


def write_input(archive: Path, folder: Path, least: float) -> dict[str, float]:
    """Write the archive's clips in turn until they last `least` seconds, a quarter of them into a folder of its own
    too, with a catalog for each; how many seconds each holds."""
    found = [soundfile.read(io.BytesIO(data), dtype="int16") for data in members(archive)]
    seconds = {"quarter": 0.0, "all": 0.0}
    for part in seconds:
        (folder / part).mkdir(parents=True)
        (folder / f"{part}.toml").write_text(CATALOG.format(part=part))
    for number in itertools.count():
        if seconds["all"] >= least:
            return seconds
        samples, rate = found[number % len(found)]
        path = folder / "all" / f"{number:06}.wav"
        soundfile.write(path, np.roll(samples, number // len(found)), rate, "PCM_16")
        seconds["all"] += len(samples) / rate
        if seconds["quarter"] < least / 4:
            (folder / "quarter" / path.name).hardlink_to(path)
            seconds["quarter"] += len(samples) / rate
    raise AssertionError("unreachable")


def members(archive: Path) -> Iterator[bytes]:
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as opened:
            yield from (opened.read(name) for name in opened.namelist() if name.endswith(".wav"))
        return
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.name.endswith(".wav") and (file := tar.extractfile(member)) is not None:
                yield file.read()


def command(system: str, catalog: Path, out: Path) -> list[str]:
    if system in LOOPS:
        return [sys.executable, __file__, "--loop", system, "--catalog", str(catalog), "--out", str(out)]
    return _measure.prepare("audio", catalog, out, "--dedup", "none", "--layout", OURS[system])


def digest_of(out: Path) -> str:
    """Of the clips that a system wrote, in the order of their numbers."""
    index = out / "audio/production_asr.index.parquet"
    if index.exists():
        digests = pq.read_table(index, columns=["sha256"]).column("sha256").to_pylist()
    else:
        digests = [hashlib.sha256(path.read_bytes()).digest() for path in sorted(out.glob("*.flac"))]
    return hashlib.sha256(b"".join(digests)).hexdigest()


def report(timed: list[_rounds.Timed]) -> None:
    rounds = len({one.round for one in timed})
    print(f"{PROCESSES} processes, {rounds} rounds: median [smallest, largest], x real time")
    print("| clips | system | whole | steady | of the plain loop, whole | steady | peak MB of a process |")
    print("|---|---|---|---|---|---|---|")
    reached = []
    for kind in dict.fromkeys(one.kind for one in timed):
        rates = _rounds.rates_of(timed, kind)
        for system, own in rates.items():
            ratios = [_rounds.median_ratio(*pair) for pair in zip(own, rates["plain"], strict=True)]
            peak = _rounds.peak_of([one for one in timed if one.kind == kind], system)
            shown = " | ".join([*map(_measure.spread, own), *(f"{one:.2f}" for one in ratios)])
            print(f"| {kind} | {system} | {shown} | {peak / 1e6:.0f} |")
            if system in OURS:
                reached.append((f"prepare audio, {system} / plain loop, {kind}, steady", ratios[1], TARGET))
    largest = BOUND_BYTES / _rounds.peak_of(timed, *OURS)
    for name, ratio, target in [*reached, ("1.5 GB / the largest process of prepare audio", largest, 1.0)]:
        _measure.ratio(name, ratio, target)


class Share(NamedTuple):
    """What one process of a loop does: every clip in turn into `out`, under its own name."""

    catalog: Path
    clips: list[Path]
    out: Path


def run_loop(name: str, catalog: Path, out: Path) -> None:
    out.mkdir()
    clips = sorted((catalog.parent / catalog.stem).iterdir())
    shares = [Share(catalog, clips[at::PROCESSES], out) for at in range(PROCESSES)]
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        pool.map(LOOPS[name], shares, chunksize=1)
    with (out / "asr.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["wav", "text"])
        table.writerows([str(out / f"{clip.stem}.flac"), f"clip {clip.stem}"] for clip in clips)


def transform_share(share: Share) -> None:
    (source,) = load_catalog(share.catalog).sources
    transform = AudioTransform(source)
    for clip in share.clips:
        result = transform(clip.read_bytes(), "a transcript")
        if not isinstance(result, MediaSample):
            raise SystemExit(f"{clip}: {result}")
        (share.out / f"{clip.stem}{result.suffix}").write_bytes(result.data)


def plain_share(share: Share) -> None:
    for clip in share.clips:
        samples, rate = soundfile.read(clip, dtype="float32")
        if samples.ndim == 2:
            samples = samples.mean(axis=1)
        samples = soxr.resample(samples, rate, SAMPLE_RATE, "HQ")
        rounded = np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16)
        soundfile.write(share.out / f"{clip.stem}.flac", rounded, SAMPLE_RATE, "PCM_16")


LOOPS: dict[str, Callable[[Share], None]] = {"plain": plain_share, "transform": transform_share}

if __name__ == "__main__":
    sys.exit(main())
