"""Real sounds and pictures, all files of them, against counts that another program made."""

import csv
import io
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import soundfile
from PIL import Image

from omni_ray.prepare import status
from omni_ray.storage import LocalStorage
from tests.prepare import inprocess
from tests.prepare.media import world

DATA = Path(__file__).parents[1] / "data"
SHARED = DATA.parents[2] / "shared/data"

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared real data")]


@pytest.fixture(scope="module")
def counted() -> dict[str, Any]:
    done = subprocess.run([sys.executable, DATA / "count_media.py", SHARED], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("modality", ["audio", "image"])
def test_every_file(tmp_path: Path, counted: dict[str, Any], modality: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inprocess.without_ray(monkeypatch)
    out = tmp_path / "out"
    arguments = ("--layout", "tar" if modality == "audio" else "files", "--dedup", "none")
    assert world.prepare(modality, out, DATA / f"shared_{modality}.toml", *arguments) == 0
    assert inprocess.omni("verify", out) == 0
    storage = LocalStorage(out)
    asked = status.asked_of(status.load_request(storage, modality), storage)  # type: ignore[arg-type]
    index = world.index(out, "asr" if modality == "audio" else "annotations")
    sources = counted[modality]
    assert {source.name for source in asked.sources} == {str(row["source"]) for row in index} == sources.keys()
    for name, state in status.load_states(storage, modality, asked).items():  # type: ignore[arg-type]
        receipts = state.prefix()
        expected = sources[name]
        dropped: Counter[str] = Counter()
        for receipt in receipts:
            dropped.update(receipt.dropped)
        assert sum(receipt.rows_in for receipt in receipts) == expected["rows_in"]
        assert dropped == expected["dropped"]
        assert not any(receipt.quarantined for receipt in receipts)
        assert [row["text"] for row in index if row["source"] == name] == expected["texts"]
    for row in index:
        path, _, member = str(row["path"]).partition("#")
        start, size = int(str(row["offset"])), int(str(row["bytes"]))
        data = (out / path).read_bytes()[start : start + size] if member else (out / path).read_bytes()
        if modality == "audio":
            info = soundfile.info(io.BytesIO(data))
            assert (info.samplerate, info.channels, info.format) == (16_000, 1, "FLAC")
        else:
            with Image.open(io.BytesIO(data)) as image:
                assert (image.size, image.mode) == ((224, 224), "RGB")
    if modality == "audio":
        speech = {row["source"] for row in pq.read_table(out / "audio/production_tts.index.parquet").to_pylist()}
        assert speech == {"ljspeech", "librispeech", "fsdd_hub"}
        rows = list(csv.reader(io.StringIO((out / "audio/production_tts.csv").read_bytes().decode(), newline="")))
        assert len(rows) == 1 + sum(len(sources[name]["texts"]) for name in speech)
