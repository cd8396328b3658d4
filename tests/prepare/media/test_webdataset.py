"""The tars of `--layout tar` as the webdataset package reads them, which knows nothing of our index."""

import io
from pathlib import Path
from typing import Any

import pytest
import soundfile
import webdataset as wds

from tests.prepare.media import odd, world

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_ray")]


def tars_of(rows: list[dict[str, object]], out: Path) -> list[str]:
    """The tars that an index names, each once, in its order."""
    return [str(out / path) for path in dict.fromkeys(str(row["path"]).partition("#")[0] for row in rows)]


def hear(key: str, data: bytes) -> object:
    """torchaudio needs FFmpeg to decode; soundfile does not."""
    return soundfile.read(io.BytesIO(data), dtype="int16") if key.endswith("flac") else None


@pytest.mark.parametrize(("modality", "name", "suffix"), [("audio", "asr", "flac"), ("image", "annotations", "jpg")])
def test_every_sample_in_the_order_of_the_index(tmp_path: Path, modality: str, name: str, suffix: str) -> None:
    out = tmp_path / "out"
    catalog = world.small(tmp_path / "in", modality)
    texts = {"": "", **odd.TEXTS} if modality == "audio" else odd.TEXTS  # a clip may be without, where a rule says so
    catalog.write_text(catalog.read_text() + odd.entry(tmp_path / "in", modality, texts))
    assert world.prepare(modality, out, catalog, "--layout", "tar", "--dedup", "none") == 0
    rows = world.index(out, name)
    tars = tars_of(rows, out)
    assert len(tars) > 4
    raw: list[dict[str, Any]] = list(wds.WebDataset(tars, shardshuffle=False))
    assert len(raw) == len(rows) >= 48
    for sample, row in zip(raw, rows, strict=True):
        tar, _, member = str(row["path"]).partition("#")
        assert (sample["__url__"], f"{sample['__key__']}.{suffix}") == (str(out / tar), member)
        data = (out / tar).read_bytes()[int(str(row["offset"])) :][: int(str(row["bytes"]))]
        assert sample[suffix] == data
    said = [sample["txt"].decode() for sample, row in zip(raw, rows, strict=True) if row["source"] == "odd"]
    assert said == list(texts.values())
    decode = wds.WebDataset(tars, shardshuffle=False).decode(hear if modality == "audio" else "pil")
    for (media, text), row in zip(decode.to_tuple(suffix, "txt"), rows, strict=True):
        assert text == row["text"]
        if modality == "audio":
            assert (len(media[0]) / 16_000, media[1]) == (row["seconds"], 16_000)
        else:
            assert (media.size, media.mode) == ((row["width"], row["height"]), "RGB")
    assert len({sample["__key__"] for sample in raw}) == len(raw), "keys tell samples of all tars from each other"
