"""Preparing pictures against plain loops over the fastest libraries and against img2dataset, on the same photos.

    python scripts/bench/prepare_image.py --images ../shared/data/images --img2dataset /path/to/python

The photos are those of the folder's archives and tables, repeated under other names until there are `--photos`: one
folder of files in class directories, which is what `omni_ray` is given, what the loops read, and what nginx serves to
img2dataset, which reads urls alone (`omni_ray` has no http source, so the network is img2dataset's own). Every round
runs each system on a quarter of them and on all: "whole" is the photos over the wall time of the command on all of
them, "steady" the difference of the photos over the difference of the times, without what starting costs.

`--img2dataset` names the Python of an environment with img2dataset, whose cv2 the loop `cv2` uses. img2dataset gets
what is best for it: two processes, eight equal shards (its processes begin anew after five), no EXIF, no hashes, its
filter against aliases; captions as `omni_ray` has them. With `--log` rounds add up over several calls; each call begins
with an unmeasured run of every system, and systems take turns at going first.
"""

import argparse
import csv
import json
import os
import shutil
import statistics
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import pyarrow.parquet as pq

from scripts.bench import _measure
from scripts.bench._nginx import serving
from scripts.bench._photo_loops import LOOPS, PROCESSES, QUALITY, SIZE

CLASSES = 40
OURS = {"omni_ray, files": "files", "omni_ray, tars": "tar"}  # and their --layout
THEIRS = {"img2dataset, files": "files", "img2dataset, tars": "webdataset"}  # and their --output_format
BOUND_BYTES = 1.5e9  # of any process
ENVIRONMENT = {"NO_ALBUMENTATIONS_UPDATE": "1", "no_proxy": "*"}  # else img2dataset asks the network first
CATALOG = """
[[source]]
name = "bench"
modality = "image"
category = "general"
url = "{part}"
reader = "imagefolder"
license = "MIT"
[source.fields]
caption = "a photo of {{class}}"
"""


class Timed(NamedTuple):
    """One run of one system on one part of the photos."""

    round: int
    system: str
    part: str
    photos: int
    seconds: float
    peak_bytes: int


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--images", type=Path, required=True, help="folder of .tar.gz archives and hub tables of photos"
    )
    parser.add_argument("--photos", type=int, default=5000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--systems", nargs="+", choices=[*OURS, *LOOPS, *THEIRS], help="default: all that can be had")
    parser.add_argument("--img2dataset", help="left out, with cv2, where it is not given; needs nginx")
    parser.add_argument("--threads", type=int, default=16, help="of each process of img2dataset")
    parser.add_argument(
        "--log",
        type=Path,
        help="keeps what was measured; the table is of all rounds there with these systems and photos",
    )
    arguments = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        parts = write_input(arguments.images, folder, arguments.photos)
        base = stack.enter_context(serving(folder)) if arguments.img2dataset else ""
        if base:
            write_urls(folder, base)
        log = arguments.log or folder / "log"
        report(measure(arguments, folder, parts, log))
    return 0


def write_input(images: Path, folder: Path, photos: int) -> dict[str, int]:
    """Folders `quarter` and `all` of photos in class directories, and catalogs of both; how many each holds."""
    found = [data for data in read_photos(images) if data[:3] == b"\xff\xd8\xff"]
    parts = {"quarter": photos // 4, "all": photos}
    for part, count in parts.items():
        (folder / f"{part}.toml").write_text(CATALOG.format(part=part))
        for number in range(count):
            name = f"class-{number * CLASSES // photos:02}/{number:06}.jpg"
            path = folder / part / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if part == "quarter":
                path.write_bytes(found[number % len(found)])
            elif number < parts["quarter"]:
                os.link(folder / "quarter" / name, path)
            else:
                path.write_bytes(found[number % len(found)])
    os.sync()
    return parts


def read_photos(images: Path) -> Iterator[bytes]:
    for archive in sorted(images.glob("imagenet*.tar.gz")):
        with tarfile.open(archive) as members:
            for member in members:
                if member.isfile() and (content := members.extractfile(member)) is not None:
                    yield content.read()
    for table in sorted(images.glob("*.parquet")):
        yield from (cell["bytes"] for cell in pq.read_table(table)["image"].to_pylist())


def write_urls(folder: Path, base: str) -> None:
    """What img2dataset is given: the url and the caption of each photo."""
    for part in ("quarter", "all"):
        with (folder / f"{part}.csv").open("w", newline="") as stream:
            table = csv.writer(stream)
            table.writerow(["url", "caption"])
            for path in sorted((folder / part).rglob("*.jpg")):
                table.writerow([f"{base}/{path.relative_to(folder)}", f"a photo of {path.parent.name}"])


def measure(arguments: argparse.Namespace, folder: Path, parts: dict[str, int], log: Path) -> list[Timed]:
    """Add `arguments.runs` rounds to the log; what it asks for, of all rounds there that hold it."""
    there = log.read_text().splitlines() if log.exists() else []
    first = 1 + max((json.loads(line)[0] for line in there), default=0)
    known = [*OURS, *LOOPS, *THEIRS]
    systems = arguments.systems or [name for name in known if arguments.img2dataset or name not in ("cv2", *THEIRS)]
    out = folder / "out"
    for name in systems:  # unmeasured: who comes first pays for what nobody has read yet
        _measure.run(command(name, folder, "quarter", parts["quarter"], out, arguments), **ENVIRONMENT)
        remove(out)
    for number in range(first, first + arguments.runs):
        turn = number % len(systems)
        for part, photos in parts.items():
            for name in systems[turn:] + systems[:turn]:
                done = _measure.run(command(name, folder, part, photos, out, arguments), **ENVIRONMENT)
                check(name, out, photos)
                remove(out)
                timed = Timed(number, name, part, photos, done.seconds, done.peak_bytes)
                with log.open("a") as stream:
                    stream.write(json.dumps(timed) + "\n")
                print(f"round {number}: {name:18} {part:7} {done.seconds:6.2f} s", file=sys.stderr, flush=True)
    asked = {(name, part, photos) for name in systems for part, photos in parts.items()}
    timed = [Timed(*json.loads(line)) for line in log.read_text().splitlines()]
    timed = [one for one in timed if (one.system, one.part, one.photos) in asked]
    runs = Counter(one.round for one in timed)
    return [one for one in timed if runs[one.round] == len(asked)]  # without a round that was broken off


def command(name: str, folder: Path, part: str, photos: int, out: Path, arguments: argparse.Namespace) -> list[str]:
    if name in OURS:
        return [
            sys.executable, "-m", "omni_ray.prepare", "image", "--catalog", str(folder / f"{part}.toml"),
            "--out", str(out), "--address", "local", "--workers", str(PROCESSES), "--dedup", "none",
            "--layout", OURS[name],
        ]  # fmt: skip
    if name in LOOPS:
        python = arguments.img2dataset if name == "cv2" else sys.executable
        return [python, str(Path(__file__).with_name("_photo_loops.py")), name, str(folder / part), str(out)]
    return [
        arguments.img2dataset, "-m", "img2dataset.main", f"--url_list={folder / part}.csv", "--input_format=csv",
        "--caption_col=caption", f"--output_folder={out}", f"--output_format={THEIRS[name]}",
        f"--processes_count={PROCESSES}", f"--thread_count={arguments.threads}",
        f"--number_sample_per_shard={-(-photos // (4 * PROCESSES))}", f"--image_size={SIZE}",
        "--resize_mode=center_crop", "--upscale_interpolation=cubic", "--downscale_interpolation=area",
        f"--encode_quality={QUALITY}", "--extract_exif=False", "--compute_hash=None",
    ]  # fmt: skip


def remove(out: Path) -> None:
    """The disk is done with what was written and removed before the next run begins."""
    shutil.rmtree(out)
    os.sync()


def check(name: str, out: Path, photos: int) -> None:
    """Exit where a system did not write a picture for every photo."""
    if name in OURS:  # rows, as pictures are named by their content: repeated ones share a file
        made = pq.read_metadata(out / "images/production_annotations.index.parquet").num_rows
    else:
        made = sum(1 for _ in out.rglob("*.jpg"))
        for path in out.rglob("*.tar"):
            with tarfile.open(path) as archive:
                made += sum(member.name.endswith(".jpg") for member in archive)
    if made != photos:
        sys.exit(f"{name}: {made} pictures of {photos} photos")


def report(timed: list[Timed]) -> None:
    systems = list(dict.fromkeys(one.system for one in timed))
    seconds = {(one.round, one.system, one.part): one.seconds for one in timed}
    rounds = sorted({one.round for one in timed})
    photos = {one.part: one.photos for one in timed}
    peaks = {name: max(one.peak_bytes for one in timed if one.system == name) for name in systems}
    whole = {name: [photos["all"] / seconds[number, name, "all"] for number in rounds] for name in systems}
    steady = {
        name: [
            (photos["all"] - photos["quarter"]) / (seconds[number, name, "all"] - seconds[number, name, "quarter"])
            for number in rounds
        ]
        for name in systems
    }
    ours = [name for name in OURS if name in systems]
    print(f"{photos['all']} photos, {len(rounds)} rounds, {PROCESSES} processes each: median [smallest, largest]")
    against = "".join(f" {name} / it, whole | steady |" for name in ours)
    print(f"| system | whole, photos/s | steady, photos/s | peak MB of a process |{against}")
    print("|---|---|---|---|" + "---|---|" * len(ours))
    for name in systems:
        ratios = "".join(
            f" {median_ratio(whole[one], whole[name]):.2f} | {median_ratio(steady[one], steady[name]):.2f} |"
            for one in ours
        )
        print(
            f"| {name} | {_measure.spread(whole[name])} | {_measure.spread(steady[name])} | {peaks[name] / 1e6:.0f} |"
            f"{ratios}"
        )
    for one in ours:
        for others, bounds in ((LOOPS, {"steady": 0.9}), (THEIRS, {"steady": 1.5, "whole": 1.0})):
            for what, bound in bounds.items():
                rates = whole if what == "whole" else steady
                rivals = [name for name in others if name in systems and name != "transform"]
                if rivals:
                    fastest = max(rivals, key=lambda name: statistics.median(rates[name]))
                    ratio = median_ratio(rates[one], rates[fastest])
                    _measure.ratio(f"prepare images, {one} / {fastest}, {what}", ratio, bound)
        _measure.ratio(f"{BOUND_BYTES / 1e9} GB / the largest process of {one}", BOUND_BYTES / peaks[one], 1.0)


def median_ratio(ours: list[float], theirs: list[float]) -> float:
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))


if __name__ == "__main__":
    raise SystemExit(main())
