"""Blocks of several segments, in every way in which sounds and pictures are read: broken off anywhere and gone on with,
they give what nobody breaks off."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from omni_ray.ledger import read_ledger
from omni_ray.prepare import work
from omni_ray.prepare.readers import parquet, steps
from omni_ray.storage import LocalStorage
from tests.e2e.harness import products
from tests.prepare import inprocess
from tests.prepare.media import world
from tests.prepare.media.world import clip, photo

pytestmark = pytest.mark.usefixtures("no_ray")
COUNT = 40
MOST_BREAKS = 150  # more than a run has receipts
PATHS = '[source.fields]\nimage = "{file}"\ncaption = "{words}"'


class BrokenOff(BaseException):
    """Passes everything that a run does about errors."""


def pictures(folder: Path) -> Path:
    photos = {f"d/{n:02}.png": photo(n, 40) for n in range(COUNT)}
    rows = [(f"d/{n:02}.png" if n != 7 else "d/none.png", f"picture {n}") for n in range(COUNT)]
    columns: dict[str, list[object]] = {"file": [f for f, _ in rows], "words": [words for _, words in rows]}
    table = world.table_csv([["file", "words"], *map(list, rows)])
    many = world.table_csv([["file", "words"], *(["1.png", f"seen {n}"] for n in range(COUNT)), ["2.png", "two"]])
    world.files(folder, {**photos, "t.csv": table, "t.parquet": world.parquet(columns, 25)})
    world.files(folder, {"m/list.csv": many, "m/1.png": photo(101), "m/2.png": photo(102)})
    world.pack(folder / "c.tar", {f"cat/{n:02}.png": photo(200 + n, 40) for n in range(COUNT)})
    samples: dict[str, bytes] = {}
    for n in range(COUNT):
        samples |= {f"{n:02}.png": photo(300 + n, 40), f"{n:02}.txt": b"" if n == 9 else b"sample %d" % n}
    world.pack(folder / "w.tar.gz", samples)
    manifest = 'manifest = "list.csv"\npath = "{file}"\n[source.fields]\ncaption = "{words}"'
    return world.catalog(
        folder,
        world.entry("csv", "image", "t.csv", "table", PATHS, 1024),
        world.entry("parquet", "image", "t.parquet", "table", PATHS),
        world.entry("classes", "image", "c.tar", "imagefolder"),
        world.entry("samples", "image", "w.tar.gz", "webdataset"),
        world.entry("described", "image", "m", "files", manifest),
    )


def sounds(folder: Path) -> Path:
    lines = "".join(f"1-2-{n:04} SAID {n}\n" for n in range(COUNT))
    clips = {f"1/2/1-2-{n:04}.flac": clip(n) for n in range(COUNT)}
    world.pack(folder / "l.zip", {**clips, "1/2/1-2.trans.txt": lines.encode()})
    metadata = "".join(f"{n}|read {n}|\n" for n in range(COUNT + 3))
    world.files(
        folder, {f"j/wavs/{n}.wav": clip(100 + n) for n in range(COUNT)} | {"j/metadata.csv": metadata.encode()}
    )
    return world.catalog(
        folder, world.entry("libri", "audio", "l.zip", "librispeech"), world.entry("lj", "audio", "j", "ljspeech")
    )


@pytest.mark.parametrize("layout", ["files", "tar"])
@pytest.mark.parametrize("modality", ["audio", "image"])
def test_broken_off_between_segments(
    tmp_path: Path, modality: str, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "SEGMENT_BYTES", 20_000)
    monkeypatch.setattr(parquet, "_NAMED_ROWS", 20)
    monkeypatch.setattr(steps, "STEP_MEDIA", 5)
    monkeypatch.setattr(steps, "LEAST_STEP_MEDIA", 5)
    catalog = (pictures if modality == "image" else sounds)(tmp_path / "in")
    out = tmp_path / "out"
    arguments = ("--layout", layout, "--dedup", "none")
    assert world.prepare(modality, out, catalog, *arguments) == 0
    assert {source for source, blocks in segments(out).items() if max(blocks) > 1} == set(segments(out))
    expected = products(out)
    out.rename(tmp_path / "undisturbed")  # the lists name the output, so the other runs need its name
    dice = random.Random(f"{modality} {layout}")
    inprocess.without_ray(monkeypatch, lambda run, tasks: broken(run, tasks, dice))
    breaks = 0
    while breaks < MOST_BREAKS:
        try:
            assert world.prepare(modality, out, catalog, *arguments) == 0
            break
        except BrokenOff:
            breaks += 1
    assert 2 < breaks < MOST_BREAKS
    assert products(out) == expected
    assert inprocess.omni("verify", out) == 0


def broken(run: inprocess.Work, tasks: inprocess.Tasks, dice: random.Random) -> Iterator[bytes]:
    """The tasks in any order, until one of them is broken off or all are done."""
    left = dice.randint(1, 4)  # receipts
    for task, _ in dice.sample(tasks, len(tasks)):
        for receipt in filter(None, run(task)):
            yield receipt
            left -= 1
            if not left:
                raise BrokenOff


def segments(out: Path) -> dict[str, list[int]]:
    """How many segments each decoded block of each source has."""
    found: dict[str, list[int]] = {}
    for folder in sorted(out.glob(".omni_ray/*/*/ledger")):
        receipts = read_ledger(LocalStorage(out), folder.relative_to(out).as_posix()).receipts
        decoded = [len(of) for block, of in receipts.items() if not block.startswith("index-")]
        found[folder.parent.name] = decoded
    return found
