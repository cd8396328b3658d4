"""The lists, their indexes and the files that they name; budgets, layouts, what is forgotten and taken up again."""

import csv
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import soundfile
from PIL import Image

from omni_ray import cli
from omni_ray.prepare import readers
from omni_ray.prepare.transforms import audio, image
from tests.e2e.harness import products
from tests.prepare import inprocess
from tests.prepare.media import world

pytestmark = pytest.mark.usefixtures("no_ray")
LAYOUTS = ["files", "tar"]
MODALITIES = ["audio", "image"]


def content(out: Path, row: dict[str, object]) -> bytes:
    path, _, member = str(row["path"]).partition("#")
    data = (out / path).read_bytes()
    if not member:
        return data
    offset, size = int(str(row["offset"])), int(str(row["bytes"]))
    with tarfile.open(out / path) as archive:
        found = archive.extractfile(member)
        assert found is not None and found.read() == data[offset : offset + size]
    return data[offset : offset + size]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_audio(tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = world.small(tmp_path / "in", "audio")
    monkeypatch.chdir(tmp_path)
    out = Path("out")
    assert world.prepare("audio", out, catalog, "--layout", layout) == 0
    asr = (out / "audio/production_asr.csv").read_bytes()
    assert asr.startswith(b"wav,text\r\nout/audio/one/") and asr.endswith(b"\r\n")
    rows = list(csv.DictReader(io.StringIO(asr.decode(), newline="")))
    index = world.index(out, "asr")
    assert [row["text"] for row in rows] == [row["text"] for row in index]
    assert len(rows) == 24 - 3 + 24, "a bad one, one too short and a repeated one are not there"
    assert [row["wav"] for row in rows] == [f"out/{row['path']}" for row in index]
    tts = (out / "audio/production_tts.csv").read_bytes().decode()
    assert tts.startswith("text,wav\r\n")
    assert [(row["wav"], row["text"]) for row in csv.DictReader(io.StringIO(tts, newline=""))] == [
        (row["wav"], row["text"]) for row in rows
    ]
    for row in index:
        data = content(out, row)
        assert hashlib.sha256(data).digest() == row["sha256"]
        info = soundfile.info(io.BytesIO(data))
        assert (info.samplerate, info.channels, info.subtype, info.format) == (16_000, 1, "PCM_16", "FLAC")
        assert info.frames / 16_000 == row["seconds"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_images(tmp_path: Path, layout: str) -> None:
    out = tmp_path / "out"
    catalog = world.small(tmp_path / "in", "image")
    assert world.prepare("image", out, catalog, "--layout", layout, "--image-size", "64") == 0
    entries = json.loads((out / "images/production_annotations.json").read_text())
    index = world.index(out, "annotations")
    assert [entry["image"] for entry in entries] == [str(row["path"]).removeprefix("images/") for row in index]
    assert len(entries) == 24 - 3 + 24
    assert entries[0]["caption"] == "number 000" and entries[0]["category"] == "general"
    for row in index:
        with Image.open(io.BytesIO(content(out, row))) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (64, 64))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("modality", MODALITIES)
def test_a_raised_budget_only_adds(tmp_path: Path, modality: str, layout: str) -> None:
    """And ends as a run that had it from the beginning; what lay beyond the cut is not decoded again."""
    catalog = world.small(tmp_path / "in", modality)
    out = tmp_path / "out"
    assert world.prepare(modality, out, catalog, "--layout", layout, "--max-gb", "0.00006") == 0
    assert inprocess.omni("verify", out) == 0
    less = world.index(out, "asr" if modality == "audio" else "annotations")
    assert world.prepare(modality, out, catalog, "--layout", layout) == 0
    more = world.index(out, "asr" if modality == "audio" else "annotations")
    assert 0 < len(less) < len(more) and {str(row["key"]) for row in less} <= {str(row["key"]) for row in more}
    found = products(out)
    out.rename(tmp_path / "raised")
    assert world.prepare(modality, out, catalog, "--layout", layout) == 0
    assert products(out) == found


@pytest.mark.parametrize("modality", MODALITIES)
def test_every_dataset_by_itself(tmp_path: Path, modality: str) -> None:
    catalog = world.small(tmp_path / "in", modality)
    out = tmp_path / "out"
    assert world.prepare(modality, out, catalog, "--no-combine") == 0
    lists = {path.name for path in out.glob("*/*.*")}
    assert lists == (
        {f"{name}_{what}.csv" for name in ("one", "two") for what in ("asr", "tts")}
        if modality == "audio"
        else {f"{name}_annotations.json" for name in ("one", "two")}
    )
    assert inprocess.omni("verify", out) == 0


def test_another_layout_is_refused_until_reset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    catalog = world.small(tmp_path / "in", "image")
    out = tmp_path / "out"
    assert world.prepare("image", out, catalog) == 0
    before = products(out)
    assert world.prepare("image", out, catalog, "--layout", "tar") == 5
    assert 'one: layout: "files" -> "tar"' in capsys.readouterr().err
    assert world.prepare("image", out, catalog, "--image-size", "100") == 5
    assert "one: image_size: 224 -> 100" in capsys.readouterr().err
    assert products(out) == before
    (out / "images/one/notes.txt").write_text("the user's")
    assert world.prepare("image", out, catalog, "--layout", "tar", "--reset") == 0
    assert (out / "images/one/notes.txt").read_text() == "the user's"
    assert not list(out.glob("images/*/*/*.jpg")), "the files that were made one by one are gone"
    assert list(out.glob("images/*/*.tar"))
    assert inprocess.omni("verify", out) == 0


@pytest.mark.parametrize(
    ("modality", "module", "version", "key"),
    [
        ("audio", audio, "OUTPUT_VERSION", "audio"), ("image", image, "OUTPUT_VERSION", "image_output"),
        ("audio", readers, "VERSION", "readers_version"),
    ],
    ids=["audio", "image", "readers"],
)  # fmt: skip
def test_what_another_version_made_is_refused_until_reset(
    tmp_path: Path,
    modality: str,
    module: ModuleType,
    version: str,
    key: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One that makes other bytes of the same sounds or pictures never adds to what there is."""
    catalog = world.small(tmp_path / "in", modality)
    out = tmp_path / "out"
    assert world.prepare(modality, out, catalog) == 0
    before = products(out)
    now = getattr(module, version)
    monkeypatch.setattr(module, version, now + 1)
    capsys.readouterr()
    assert world.prepare(modality, out, catalog) == 5
    told = capsys.readouterr().err
    for name in ("one", "two"):
        assert f"  {name}: {key}: {now} -> {now + 1}\n" in told
    assert "--reset --dataset one prepares it anew" in told
    assert products(out) == before
    assert world.prepare(modality, out, catalog, "--reset", "--dataset", "one") == 5
    assert products(out) == before
    assert world.prepare(modality, out, catalog, "--reset") == 0
    assert inprocess.omni("verify", out) == 0
    assert world.prepare(modality, out, catalog) == 0
    texts = [row["text"] for row in world.index(out, "asr" if modality == "audio" else "annotations")]
    assert len(texts) == 24 - 3 + 24


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("what", ["damaged", "gone"])
def test_verify_names_a_file(tmp_path: Path, layout: str, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    catalog = world.small(tmp_path / "in", "audio")
    out = tmp_path / "out"
    assert world.prepare("audio", out, catalog, "--layout", layout) == 0
    path = next(path for path in sorted(out.glob("audio/one/**/*")) if path.is_file())
    if what == "gone":
        path.unlink()
    else:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    capsys.readouterr()
    assert inprocess.omni("verify", out) == 1
    assert path.name in capsys.readouterr().out
    assert world.prepare("audio", out, catalog, "--layout", layout, "--reset", "--dataset", "one") == 0
    assert inprocess.omni("verify", out) == 0


def test_verify_of_an_output_that_is_called_otherwise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lists of clips begin with what the output was called; the same folder by another name is the same."""
    catalog = world.small(tmp_path / "in", "audio")
    monkeypatch.chdir(tmp_path)
    assert world.prepare("audio", Path("out"), catalog) == 0
    assert inprocess.omni("verify", tmp_path / "out") == 0
    assert inprocess.omni("verify", "./out") == 0
    (tmp_path / "out").rename(tmp_path / "moved")
    capsys.readouterr()
    assert inprocess.omni("verify", "moved") == 1
    said = "names its files below out, but this output is moved; run prepare again"
    assert capsys.readouterr().out.count(said) == 2
    assert world.prepare("audio", Path("moved"), catalog) == 0
    assert inprocess.omni("verify", "moved") == 0


def test_verify_of_an_output_whose_name_was_not_noted(tmp_path: Path) -> None:
    """As by versions that did not note it."""
    out = tmp_path / "out"
    assert world.prepare("audio", out, world.small(tmp_path / "in", "audio")) == 0
    combined = out / ".omni_ray/audio/combined.json"
    noted = json.loads(combined.read_text())
    for made in noted["outputs"].values():
        del made["out"]
    combined.write_text(json.dumps(noted))
    assert inprocess.omni("verify", out) == 0


def test_all_modalities(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`all` brings what the catalog has; status, verify and retry look at all of it."""
    text = inprocess.write(tmp_path / "in", "a").read_text()
    images = world.small(tmp_path / "in", "image").read_text()
    catalog = tmp_path / "in/all.toml"
    world.pack(tmp_path / "in/sound.zip", {f"{n}.wav": world.clip(n) for n in range(4)})
    more = "pattern = '(?P<n>\\d)\\.wav'\n[source.fields]\ntext = \"clip {n}\""
    catalog.write_text(text + images + world.entry("sound", "audio", "sound.zip", "files", more))
    out = tmp_path / "out"
    assert cli.main(["prepare", "--out", str(out), "--catalog", str(catalog)]) == 0
    for key in ("text/production_corpus.txt", "audio/production_asr.csv", "images/production_annotations.json"):
        assert (out / key).is_file()
    capsys.readouterr()
    assert inprocess.omni("verify", out) == 0
    assert capsys.readouterr().out.count("verified: ") == 3
    assert inprocess.omni("status", out) == 0
    assert cli.main(["prepare", "--out", str(out), "--catalog", str(catalog), "--dataset", "sound"]) == 0
    assert cli.main(["prepare", "--out", str(out), "--catalog", str(catalog), "--dataset", "nobody"]) == 2
    assert inprocess.omni("retry", out, "--reason", "unknown_format") == 0
    assert inprocess.omni("retry", out, "--reason", "no_such") == 2


def test_the_built_in_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every layout and every outcome, without a catalog."""
    monkeypatch.chdir(tmp_path)
    assert cli.main(["prepare", "audio", "--dataset", "synthetic", "--dry-run"]) == 0
    assert not (tmp_path / "data").exists()
    for modality in MODALITIES:
        assert cli.main(["prepare", modality, "--dataset", "synthetic"]) == 0
    capsys.readouterr()
    assert cli.main(["verify"]) == 0
    shown = capsys.readouterr().out
    assert "synthetic_environmental: 40 records in = 38 kept + 1 dropped + 1 quarantined" in shown
    assert "synthetic_domain: 60 records in = 58 kept + 0 dropped + 2 quarantined" in shown
    assert len(world.index(tmp_path / "data", "asr")) == 57 + 57 + 37
    assert len(world.index(tmp_path / "data", "tts")) == 57 + 57
    assert len(world.index(tmp_path / "data", "annotations")) == 4 * 58 + 57
    (row, *_) = world.index(tmp_path / "data", "asr")
    assert str(row["group"]).startswith("synthetic_general:"), "the speaker"


def test_what_a_lost_node_left_half_written_is_gone_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"

    def lose_a_node(work: inprocess.Work, tasks: inprocess.Tasks) -> Iterator[bytes]:
        yield from inprocess.run_here(work, tasks)
        world.files(out / "images/two", {".tmp-0123456789ab-many/0/x.jpg": b"half"})

    inprocess.without_ray(monkeypatch, lose_a_node)
    assert world.prepare("image", out, world.small(tmp_path / "in", "image")) == 0
    assert not list(out.rglob(".tmp-*"))
