"""Sounds and pictures in and out of s3://: lists lead to what they name, and so does the report."""

import csv
import io
import json
from pathlib import Path

import pytest

from omni_ray.storage.s3 import S3Storage
from tests.prepare import inprocess
from tests.prepare.conftest import no_ray
from tests.prepare.media import world
from tests.s3.conftest import BUCKET, upload_folder
from tests.s3.proxy import Proxy

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_ray")]
OUT = f"s3://{BUCKET}/out"
__all__ = ["no_ray"]


def test_a_wav_is_a_uri(proxy: Proxy, tmp_path: Path) -> None:
    assert world.prepare("audio", OUT, world.small(tmp_path / "in", "audio", 12)) == 0
    assert world.prepare("image", OUT, world.small(tmp_path / "in", "image", 12)) == 0
    storage = S3Storage(OUT)
    rows = list(csv.DictReader(io.StringIO(storage.read("audio/production_asr.csv").decode(), newline="")))
    assert rows
    assert all(storage.read(row["wav"].removeprefix(f"{OUT}/")).startswith(b"fLaC") for row in rows)
    entries = json.loads(storage.read("images/production_annotations.json"))
    assert all(storage.read(f"images/{entry['image']}").startswith(b"\xff\xd8") for entry in entries)


def test_a_table_of_paths(proxy: Proxy, tmp_path: Path) -> None:
    rows = [["file", "words"], ["1.png", "first"], ["9.png", "gone"]]
    world.files(tmp_path / "in", {"t.csv": world.table_csv(rows), "pics/1.png": world.photo(1)})
    upload_folder(tmp_path / "in", "in")
    more = '[source.fields]\nimage = "pics/{file}"\ncaption = "{words}"'
    entry = world.entry("paths", "image", f"s3://{BUCKET}/in/t.csv", "table", more)
    assert world.prepare("image", OUT, world.catalog(tmp_path, entry)) == 0
    assert inprocess.omni("verify", OUT) == 0
    entries = json.loads(S3Storage(OUT).read("images/production_annotations.json"))
    assert [entry["caption"] for entry in entries] == ["first"]


@pytest.mark.parametrize("layout", ["files", "tar"])
def test_a_report(proxy: Proxy, tmp_path: Path, layout: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.prepare("audio", OUT, world.small(tmp_path / "in", "audio", 12), "--layout", layout) == 0
    assert world.prepare("image", OUT, world.small(tmp_path / "in", "image", 12), "--layout", layout) == 0
    capsys.readouterr()
    assert inprocess.omni("report", OUT) == 0
    assert capsys.readouterr().out == f"{OUT}/report.html\n"
    page = S3Storage(OUT).read("report.html")
    assert page.count(b"<audio ") == page.count(b"<img ") == 21
    assert b'class="note warns"' not in page
    assert inprocess.omni("report", OUT, "--to", str(tmp_path / "page.html")) == 0
    assert (tmp_path / "page.html").read_bytes() == page
