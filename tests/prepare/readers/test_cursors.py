"""Segments of a block end where they do wherever reading began: a kill between two of them changes no byte."""

import random
import zipfile
from pathlib import Path

import pytest

from omni_ray.catalog import load_catalog
from omni_ray.prepare.readers import index_file, plan_cuts, read_cut
from omni_ray.prepare.records import Cut, Member
from omni_ray.prepare.sources import expand

CATALOG = """
[[source]]
name = "s"
modality = "text"
category = "general"
url = "{url}"
reader = "{reader}"
license = "MIT"
block_bytes = 1000000000
{fields}
"""


def content(kind: str) -> str:
    dice = random.Random(kind)
    words = ["x" * dice.randint(1, 300) for _ in range(40_000)]
    if kind == "csv":
        return "t\n" + "".join(f'"{number} {word}"\n' for number, word in enumerate(words))
    if kind == "jsonl":
        return "".join(f'{{"t": "{number} {word}"}}\n' for number, word in enumerate(words))
    return "".join(f"{number} {word}\n" for number, word in enumerate(words))


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("kind", ["txt", "csv", "jsonl"])
def test_reading_from_any_cursor_gives_the_same_batches(tmp_path: Path, kind: str, zipped: bool) -> None:
    name = f"f.{kind}"
    if zipped:
        with zipfile.ZipFile(tmp_path / "f.zip", "w") as archive:
            archive.writestr(name, content(kind))
        name = "f.zip"
    else:
        (tmp_path / name).write_text(content(kind))
    reader, fields = ("lines", "") if kind == "txt" else ("table", '[source.fields]\ntext = "{t}"')
    (tmp_path / "c.toml").write_text(CATALOG.format(url=name, reader=reader, fields=fields))
    source = load_catalog(tmp_path / "c.toml").sources[0]
    (file,) = expand(source)
    cuts: list[Cut] = list(plan_cuts(source, file) or ())
    members: list[Member] = []
    if not cuts:
        for part in index_file(source, file, b"", None):
            cuts += part.cuts
            members += part.members
    (cut,) = cuts
    whole = list(read_cut(source, file, cut, members, b"", None))
    assert len(whole) > 4
    for number, batch in enumerate(whole[:-1]):
        assert list(read_cut(source, file, cut, members, b"", batch.cursor)) == whole[number + 1 :]
