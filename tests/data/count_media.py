"""Count by hand what preparing `shared_audio.toml` and `shared_image.toml` must give: `python count_media.py [DATA]`.

Written from the contract alone and shares nothing with omni_ray, so that agreement means something; it knows the files
by name. Prints JSON: per modality and source the records in, what each rule drops, and the texts that are kept, in
order.
"""

import csv
import io
import json
import re
import sys
import tarfile
import zipfile
from collections import Counter
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow.parquet
import soundfile
from PIL import Image

DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
CLASSES = {"n01496331": "an electric ray", "n01518878": "an ostrich"}


def unpacked(path):
    """Every plain file of an archive in its order, by name."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
    with tarfile.open(path) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive if member.isfile()}


def rows(path):
    return pyarrow.parquet.read_table(path).to_pylist()


def audio(folder):
    files = unpacked(folder / "ljspeech-mini.tar.gz")
    lines = [line.split("|") for line in files["LJSpeech-1.1/metadata.csv"].decode().splitlines()]
    yield "ljspeech", [(files[f"LJSpeech-1.1/wavs/{name}.wav"], spoken) for name, _, spoken in lines]
    files = unpacked(folder / "librispeech-layout-mini.tar.gz")
    lines = [line for name, data in files.items() if name.endswith(".trans.txt") for line in data.decode().splitlines()]
    said = dict(line.split(" ", 1) for line in lines if line.strip())
    yield "librispeech", [(files[n], said[PurePosixPath(n).stem]) for n in files if n.endswith(".flac")]
    yield "fsdd_hub", [(r["audio"]["bytes"], r["text"]) for r in rows(next(folder.glob("fsdd-*.parquet")))]
    files = unpacked(folder / "fsdd-recordings.zip")
    digit = {name: re.search(r"recordings/(\d)_\w+_\d+\.wav$", name)[1] for name in files}
    yield "fsdd", [(data, DIGITS[int(digit[name])]) for name, data in files.items()]


def image(folder):
    files = unpacked(folder / "imagenet-mini.tar.gz")
    name_of = {name: PurePosixPath(name).parent.name for name in files}
    yield "imagenet", [(d, f"a photo of {CLASSES.get(name_of[n], name_of[n])}") for n, d in files.items()]
    captions = rows(next(folder.glob("imagenet-captions-*.parquet")))
    yield "imagenet_captions", [(row["image"]["bytes"], row["caption"]) for row in captions]
    files = unpacked(folder / "chestxray-mini.tar.gz")
    table = csv.DictReader(io.StringIO(files["covid-chestxray/metadata.csv"].decode()))
    said = {f"covid-chestxray/images/{r['filename']}": f"a chest X-ray, {r['view']}: {r['finding']}" for r in table}
    yield "chestxray", [(data, said[name]) for name, data in files.items() if not name.endswith(".csv")]


def rule_against_clip(data):
    samples, rate = soundfile.read(io.BytesIO(data), always_2d=True)
    seconds = len(samples) / rate
    return "min_seconds" if seconds < 0.2 else "max_seconds" if seconds > 30 else (
        "min_peak_dbfs" if np.abs(samples).max() < 10**-3 else ""
    )  # fmt: skip


def rule_against_photo(data):
    width, height = Image.open(io.BytesIO(data)).size
    return (
        "min_side" if min(width, height) < 32 else "max_aspect" if max(width, height) > 6 * min(width, height) else ""
    )


def count(records, rule):
    ruled = [rule(content) for content, _ in records]
    kept = [" ".join(text.split()) for (_, text), against in zip(records, ruled, strict=True) if not against]
    dropped = Counter(against for against in ruled if against)
    return {"rows_in": len(records), "dropped": dropped, "texts": kept}


def main(data):
    found = {
        "audio": {name: count(records, rule_against_clip) for name, records in audio(data / "audio")},
        "image": {name: count(records, rule_against_photo) for name, records in image(data / "images")},
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[3] / "shared/data"))
