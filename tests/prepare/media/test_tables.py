"""Tables that hold sounds and pictures, or name them: by themselves, in folders and in archives."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.prepare.media import world
from tests.prepare.media.world import CONTAINERS, clip, made, photo

pytestmark = pytest.mark.usefixtures("no_ray")
COUNT = 9


def cells(kind: str, make: Callable[[int], bytes], suffix: str) -> list[object]:
    """The media of a column; the last has none."""
    bytes_of = [make(number) for number in range(COUNT)]
    paths = [f"media/{number}.{suffix}" for number in range(COUNT)]
    if kind == "bytes":
        return [*bytes_of, None]
    if kind == "path":
        return [*paths, None]
    structs: list[object] = [{"bytes": data, "path": f"{number}.{suffix}"} for number, data in enumerate(bytes_of)]
    return [*structs[:-1], {"bytes": None, "path": paths[-1]}, None]


@pytest.mark.parametrize("kind", ["bytes", "struct", "path"])
@pytest.mark.parametrize("container", ["", *CONTAINERS])
@pytest.mark.parametrize(("modality", "name"), [("audio", "asr"), ("image", "annotations")])
def test_a_parquet_of_media(tmp_path: Path, modality: str, name: str, container: str, kind: str) -> None:
    """Of bytes, of structs of which one has no bytes, and of paths from the table's own folder."""
    make, suffix, field = (clip, "wav", "text") if modality == "audio" else (photo, "png", "caption")
    columns = {"media": cells(kind, make, suffix), "words": [f"sample {number}" for number in range(COUNT + 1)]}
    contents = {"set~1/t.parquet": world.parquet(columns, 4)}
    contents |= {f"set~1/media/{number}.{suffix}": make(number) for number in range(COUNT)}
    url = world.place(tmp_path, container or "folder", contents)
    if not container:
        url += "/set~1/t.parquet"
    more = f'[source.fields]\n{modality} = "media"\n{field} = "{{words}}"'
    rows = made(tmp_path, modality, name, world.entry("table", modality, url, "table", more))
    assert [row["text"] for row in rows] == [f"sample {number}" for number in range(COUNT)]
    assert world.quarantine(tmp_path / "out") == [("set~1/t.parquet" if container else "", COUNT, "missing_field")]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("container", ["tar", "tar.gz", "zip"])
def test_two_tables_of_one_name_in_an_archive_both_find_their_files(tmp_path: Path, container: str) -> None:
    tables = [world.table_csv([["file", "words"], [f"{number}.png", f"picture {number}"]]) for number in range(2)]
    contents = [("set/t.csv", tables[0]), ("set/t.csv", tables[1])]
    contents += [(f"set/{number}.png", photo(number)) for number in range(2)]
    world.pack_all(tmp_path / f"data.{container}", contents)
    more = '[source.fields]\nimage = "{file}"\ncaption = "{words}"'
    rows = made(tmp_path, "image", "annotations", world.entry("t", "image", f"data.{container}", "table", more))
    assert [row["text"] for row in rows] == ["picture 0", "picture 1"]
