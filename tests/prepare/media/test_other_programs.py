"""The lists as programs read them that know nothing of omni_ray: each cell is the text that the source had.

pandas and datasets guess what a column holds; the arguments here are those that leave texts as they are.
"""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.prepare.media import odd, world

pytestmark = pytest.mark.usefixtures("no_ray")
Rows = list[dict[str, str]]


def plainly(path: Path) -> Rows:
    with path.open(encoding="utf-8", newline="") as stream:
        found: Rows = list(csv.DictReader(stream, strict=True)) if path.suffix == ".csv" else json.load(stream)
    return found


def with_pandas(path: Path) -> Rows:
    import pandas as pd

    if path.suffix == ".csv":
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    else:
        frame = pd.read_json(path, dtype=False)
    found: Rows = frame.to_dict("records")
    return found


def with_datasets(path: Path) -> Rows:
    import datasets

    columns = ("wav", "text") if path.suffix == ".csv" else ("image", "caption", "category")
    found: Rows = datasets.load_dataset(
        path.suffix.removeprefix("."),
        data_files=str(path),
        split="train",
        cache_dir=str(path.parent / "cache"),
        features=datasets.Features({column: datasets.Value("string") for column in columns}),
        **({"keep_default_na": False} if path.suffix == ".csv" else {}),
    ).to_list()
    return found


@pytest.mark.parametrize("layout", ["files", "tar"])
@pytest.mark.parametrize(
    "read", [plainly, *(pytest.param(way, marks=pytest.mark.slow) for way in (with_pandas, with_datasets))]
)
@pytest.mark.parametrize("texts", [odd.TEXTS, odd.NUMBERS, odd.MISSING], ids=["all", "numbers", "missing"])
def test_every_cell_is_what_the_source_had(
    tmp_path: Path, texts: dict[str, str], read: Callable[[Path], Rows], layout: str
) -> None:
    out = tmp_path / 'my "data", 1'
    for modality in ("audio", "image"):
        entry = odd.entry(tmp_path / modality, modality, texts)
        assert world.prepare(modality, out, world.catalog(tmp_path / modality, entry), "--layout", layout) == 0
    wavs = [f"{out}/{row['path']}" for row in world.index(out, "asr")]
    images = [str(row["path"]).removeprefix("images/") for row in world.index(out, "annotations")]
    said = list(texts.values())
    spoken = [{"wav": wav, "text": text} for wav, text in zip(wavs, said, strict=True)]
    assert read(out / "audio/production_asr.csv") == spoken
    assert read(out / "audio/production_tts.csv") == spoken
    assert read(out / "images/production_annotations.json") == [
        {"image": image, "caption": caption, "category": category}
        for image, caption, category in zip(images, said, reversed(said), strict=True)
    ]
