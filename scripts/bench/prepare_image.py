"""Preparing pictures against plain loops over the fastest libraries and against img2dataset, on the same photos.

    python scripts/bench/prepare_image.py --images ../shared/data/images --img2dataset /path/to/python

The photos are those of the folder's archives and tables, repeated under other names until there are `--photos`: one
folder of files in class directories, which is what `omni_ray` is given, what the loops read, and what nginx serves to
img2dataset, which reads urls alone (`omni_ray` has no http source, so the network is img2dataset's own). Every round
runs each system on a quarter of them and on all: "whole" is the photos over the wall time of the command on all of
them, "steady" the difference of the photos over the difference of the times, without what starting costs.

`--img2dataset` names the Python of an environment with img2dataset, whose cv2 the loop `cv2` uses. img2dataset gets
two processes of 16 threads, its filter against aliases, and captions as `omni_ray` has them. As it comes it works on
shards of 10,000 photos, so that one of the processes has all of 5,000; `tuned` gives it eight equal shards (its
processes begin anew after five). As it comes it also notes a sha256 and the EXIF of each photo; `bare` does neither,
where `omni_ray` notes two sha256 and turns by EXIF. With `--log` rounds add up over several calls; each call begins
with an unmeasured run of every system, and systems take turns at going first.
"""

import argparse
import csv
import os
import statistics
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import pyarrow.parquet as pq

from scripts.bench import _measure, _rounds
from scripts.bench._nginx import serving
from scripts.bench._photo_loops import LOOPS, PROCESSES, QUALITY, SIZE

KIND = "photos"
CLASSES = 40
OURS = {"omni_ray, files": "files", "omni_ray, tars": "tar"}  # and their --layout
TUNED = "--number_sample_per_shard={eighth}"
BARE = ["--extract_exif=False", "--compute_hash=None"]
THEIRS = {  # and their --output_format, with what else they are told
    "img2dataset, files": ["files"],
    "img2dataset, tars": ["webdataset"],
    "img2dataset, files, tuned": ["files", TUNED],
    "img2dataset, tars, tuned": ["webdataset", TUNED],
    "img2dataset, tars, tuned, bare": ["webdataset", TUNED, *BARE],
}
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
        known = [*OURS, *LOOPS, *THEIRS]
        systems = arguments.systems or [name for name in known if base or name not in ("cv2", *THEIRS)]
        out = folder / "out"

        def start(_kind: str, name: str, part: str) -> _measure.Run:
            done = _measure.run(command(name, folder, part, parts[part], out, arguments), **ENVIRONMENT)
            check(name, out, parts[part])
            return done

        log = arguments.log or folder / "log"
        report(_rounds.measure(systems, {KIND: parts}, start, out, arguments.runs, log))
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


def command(name: str, folder: Path, part: str, photos: int, out: Path, arguments: argparse.Namespace) -> list[str]:
    if name in OURS:
        catalog = folder / f"{part}.toml"
        return _measure.prepare("image", catalog, out, "--dedup", "none", "--layout", OURS[name])
    if name in LOOPS:
        python = arguments.img2dataset if name == "cv2" else sys.executable
        return [python, str(Path(__file__).with_name("_photo_loops.py")), name, str(folder / part), str(out)]
    output_format, *more = THEIRS[name]
    return [
        arguments.img2dataset, "-m", "img2dataset.main", f"--url_list={folder / part}.csv", "--input_format=csv",
        "--caption_col=caption", f"--output_folder={out}", f"--output_format={output_format}",
        f"--processes_count={PROCESSES}", f"--thread_count={arguments.threads}",
        f"--image_size={SIZE}", "--resize_mode=center_crop", "--upscale_interpolation=cubic",
        "--downscale_interpolation=area", f"--encode_quality={QUALITY}",
        *(one.format(eighth=-(-photos // (4 * PROCESSES))) for one in more),
    ]  # fmt: skip


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


def report(timed: list[_rounds.Timed]) -> None:
    rates = _rounds.rates_of(timed, KIND)
    ours = [name for name in OURS if name in rates]
    photos = max(one.amount for one in timed)
    rounds = len({one.round for one in timed})
    print(f"{photos} photos, {rounds} rounds, {PROCESSES} processes each: median [smallest, largest]")
    against = "".join(f" {name} / it, whole | steady |" for name in ours)
    print(f"| system | whole, photos/s | steady, photos/s | peak MB of a process |{against}")
    print("|---|---|---|---|" + "---|---|" * len(ours))
    for name, own in rates.items():
        pairs = [pair for one in ours for pair in zip(rates[one], own, strict=True)]
        cells = [*map(_measure.spread, own), f"{_rounds.peak_of(timed, name) / 1e6:.0f}"]
        print(f"| {' | '.join([name, *cells, *(f'{_rounds.median_ratio(*pair):.2f}' for pair in pairs)])} |")
    for one in ours:
        theirs = [([name], {"steady": 1.5, "whole": 1.0}) for name in THEIRS]
        for others, bounds in ((LOOPS, {"steady": 0.9}), *theirs):
            rivals = [name for name in others if name in rates and name != "transform"]
            for what, bound in bounds.items():
                found = {name: getattr(rates[name], what) for name in [one, *rivals]}
                if rivals:
                    fastest = max(rivals, key=lambda name: statistics.median(found[name]))
                    ratio = _rounds.median_ratio(found[one], found[fastest])
                    _measure.ratio(f"prepare images, {one} / {fastest}, {what}", ratio, bound)
        bound = BOUND_BYTES / _rounds.peak_of(timed, one)
        _measure.ratio(f"{BOUND_BYTES / 1e9} GB / the largest process of {one}", bound, 1.0)


if __name__ == "__main__":
    raise SystemExit(main())
