"""Tables of text that name sounds and pictures: how much a block of them holds, and what is said of a row too large."""

import re
from pathlib import Path

import pytest

from omni_ray.prepare.readers import parquet
from omni_ray.prepare.records import Bad
from tests.prepare.media import world
from tests.prepare.readers import tables

FORMATS = ["csv", "tsv", "jsonl", "json"]
ROWS = [(f"pictures/{number:08d}.jpg", f"what is seen in picture {number}") for number in range(20_000)]
MIB = 1 << 20


@pytest.mark.parametrize("format_", FORMATS)
def test_a_block_of_a_table_that_names_pictures_holds_some_thousand(tmp_path: Path, format_: str) -> None:
    (tmp_path / f"t.{format_}").write_bytes(tables.text_table(format_, ROWS))
    sizes = [len(block) for block in tables.records(tables.source_of(tmp_path, f"t.{format_}"))]
    assert sum(sizes) == len(ROWS) and len(sizes) > 3
    assert all(1000 < size < 6000 for size in sizes[:-1])
    given, _ = tables.cuts_of(tables.source_of(tmp_path, f"t.{format_}", block_bytes=1 << 30))
    text, _ = tables.cuts_of(tables.source_of(tmp_path, f"t.{format_}", "text"))
    assert len(given) == len(text) == 1


@pytest.mark.parametrize("container", ["folder", "tar", "zip"])
def test_pictures_that_lie_beside_their_table_make_no_blocks(tmp_path: Path, container: str) -> None:
    """Of whatever size they are: the block of the table is where they are read."""
    contents = {f"p/{number:03d}.png": bytes(50_000) for number in range(40)}
    rows = [(name, name) for name in contents]
    contents |= {"a.csv": tables.text_table("csv", rows), "z.csv": tables.text_table("csv", rows)}
    source = tables.source_of(tmp_path, world.place(tmp_path, container, contents))
    assert [len(block) for block in tables.records(source)] == [80]


@pytest.mark.parametrize(
    ("modality", "remedy"),
    [("image", "8 MiB .* name its sound or picture by a path"), ("text", "8 MiB .* put its text in several")],
)
@pytest.mark.parametrize("format_", FORMATS)
def test_a_row_too_large_is_told_with_the_limit_that_it_exceeds(
    tmp_path: Path, format_: str, modality: str, remedy: str
) -> None:
    rows = [("1.jpg", "first"), ("2.jpg", "x" * 10 * MIB), ("3.jpg", "third")]
    (tmp_path / f"t.{format_}").write_bytes(tables.text_table(format_, rows))
    found = [one for block in tables.records(tables.source_of(tmp_path, f"t.{format_}", modality)) for one in block]
    (large,) = [one for one in found if isinstance(one, Bad) and one.reason == "record_too_large"]
    assert re.search(remedy, large.error)
    assert len(found) == 3


def test_a_row_of_parquet_may_have_as_much_as_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "MAX_MEDIA_BYTES", 12 * MIB)
    (tmp_path / "t.parquet").write_bytes(
        world.parquet({"file": [b"x" * 10 * MIB, b"y" * 13 * MIB], "words": ["fits", "does not"]})
    )
    ((fits, large),) = tables.records(tables.source_of(tmp_path, "t.parquet"))
    assert not isinstance(fits, Bad)
    assert isinstance(large, Bad)
    assert "a record may have 12 MiB" in large.error


def test_a_picture_in_the_place_of_its_path_does_not_fill_the_quarantine(tmp_path: Path) -> None:
    """As tables have it that hold pictures in base64."""
    rows = [("/9j/" + "A" * 100_000, "looks absolute"), ("iVBOR" + "A" * 100_000, "looks like a path")]
    (tmp_path / "t.jsonl").write_bytes(tables.text_table("jsonl", rows))
    (found,) = tables.records(tables.source_of(tmp_path, "t.jsonl"))
    assert [one.reason for one in found if isinstance(one, Bad)] == ["unsafe_path", "missing_file"]
    assert all(len(str(one)) < 1000 for one in found)
