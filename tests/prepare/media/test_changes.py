"""Sources of sounds and pictures that change while a run reads them: told, never mixed, taken anew with --update."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from omni_ray.catalog import Source
from omni_ray.errors import DataError
from omni_ray.prepare import readers, sources, work
from tests.e2e.harness import products
from tests.prepare import inprocess
from tests.prepare.hostile import reading
from tests.prepare.media import world

KINDS = [
    *(("audio", kind) for kind in ("folder", "tar.gz", "parquet")),
    *(("image", kind) for kind in ("folder", "tar", "zip", "csv")),
]
OUT = Path("out")  # relative, for lists of sounds name it


def small_blocks(folder: Path, modality: str, kind: str) -> tuple[Path, str, Path]:
    """A catalog of one source of many blocks, its url, and the file of it that is to change."""
    make, suffix, field = (world.clip, "wav", "text") if modality == "audio" else (world.photo, "png", "caption")
    some = {f"{number}.{suffix}": make(number) for number in range(6)}
    words = [f"sample {number}" for number in range(6)]
    if kind == "parquet":
        world.files(folder, {"t.parquet": world.parquet({"media": [*some.values()], "words": words}, 1)})
    elif kind == "csv":
        long = "which is described by many words " * 20  # so that a block has few rows
        world.files(folder, {**some, "t.csv": world.table_csv([["media", "words"], *([n, long + n] for n in some)])})
    if kind in ("parquet", "csv"):
        template = "media" if kind == "parquet" else "{media}"
        url, reader, more = f"t.{kind}", "table", f'[source.fields]\n{modality} = "{template}"\n{field} = "{{words}}"'
    else:
        more = f"pattern = '(?P<name>.+)'\n[source.fields]\n{field} = \"sample {{name}}\""
        url, reader = world.place(folder, kind, some), "files"
    path = folder / (f"data/5.{suffix}" if kind == "folder" else url)
    return world.catalog(folder, world.entry("s", modality, url, reader, more, block_bytes=1024)), url, path


def disturb(path: Path, change: str) -> None:
    data = path.read_bytes()
    if change == "grown":
        path.write_bytes(data + b"\n" * 1000)
    elif change == "cut":
        os.truncate(path, len(data) // 3)
    elif change == "replaced":  # by as many bytes; of a table the columns stay
        path.write_bytes(data.replace(b"many", b"some") if path.suffix == ".csv" else data[::-1])
    else:
        path.unlink()


@pytest.mark.parametrize("change", ["grown", "cut", "replaced", "gone"])
@pytest.mark.parametrize(("modality", "kind"), KINDS)
def test_a_source_that_changes_under_a_run(
    tmp_path: Path, modality: str, kind: str, change: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    catalog, url, path = small_blocks(tmp_path / "in", modality, kind)
    data, done = path.read_bytes(), list[str]()

    def disturbed(do: inprocess.Work, tasks: inprocess.Tasks) -> Iterator[bytes]:
        for number, task in enumerate(tasks):
            if number == 1 and not done:
                done.append(change)
                disturb(path, change)
            yield from inprocess.run_here(do, [task])

    inprocess.without_ray(monkeypatch, disturbed)
    monkeypatch.setattr(work, "ATTEMPTS", 1)
    monkeypatch.chdir(tmp_path)
    assert world.prepare(modality, OUT, catalog) == 4
    assert done
    told = capsys.readouterr().err
    if change == "gone":
        assert f"No such file or directory: '{path}'" in told
    else:
        name = path.relative_to(catalog.parent)
        assert f"{name}: changed since this run planned with it; run again with --update --dataset s" in told
    assert not list(OUT.glob("*/production_*"))
    if change == "gone" and kind != "folder":
        path.write_bytes(data)
    assert world.prepare(modality, OUT, catalog) == 5
    assert f"s: file {url}" in capsys.readouterr().err
    assert world.prepare(modality, OUT, catalog, "--update", "--dataset", "s") == 0
    assert inprocess.omni("verify", OUT) == 0
    found = products(OUT)
    OUT.rename("updated")
    assert world.prepare(modality, OUT, catalog) == 0
    assert products(OUT) == found


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.json", "t.parquet"])
@pytest.mark.parametrize("container", ["", *world.CONTAINERS])
def test_nothing_is_given_of_a_table_that_was_read_when_it_had_changed(
    tmp_path: Path, container: str, name: str
) -> None:
    """Long ones are read in many steps, in which a run would take rows of both for those of one."""
    rows = [{"media": f"{number}.png", "words": f"picture {number} " * 20} for number in range(4000)]
    url = world.place(tmp_path, container or "folder", {name: table(name, rows)})
    path = tmp_path / url if container not in ("", "folder") else tmp_path / "data" / name
    entry = {"name": "s", "modality": "image", "category": "general", "reader": "table", "license": "MIT",
             "url": (url if container else f"data/{name}",), "base": tmp_path,
             "fields": {"image": "{media}", "caption": "{words}"}}  # fmt: skip
    source = Source.model_validate(entry)
    (file,) = sources.expand(source)
    cuts, members, points = reading.index(source, file, 1 << 40)
    batches = readers.read_cut(source, file, cuts[0], members, points, None, step_bytes=10_000)
    assert next(batches).records
    with path.open("ab") as stream:
        stream.write(b"more")
    with pytest.raises(DataError, match=f"{name if container == 'folder' else file.path}: changed since this run"):
        list(batches)


@pytest.mark.parametrize("before", [b"", b"something"], ids=["filled", "a pipe now"])
def test_what_no_read_can_tell_of(tmp_path: Path, before: bytes) -> None:
    """Of a file that was empty when it was listed nothing is read, and of a pipe nothing comes."""
    path = tmp_path / "data/cat/1.png"
    world.files(path.parent, {path.name: before})
    entry = {"name": "s", "modality": "image", "category": "general", "reader": "imagefolder", "license": "MIT"}
    source = Source.model_validate({**entry, "url": ("data",), "base": tmp_path})
    (file,) = sources.expand(source)
    (cut,), members, points = reading.index(source, file, 1 << 40)
    if before:
        path.unlink()
        os.mkfifo(path)
    else:
        path.write_bytes(world.photo(1))
    with pytest.raises(DataError, match=r"cat/1\.png: changed since this run"):
        list(next(readers.read_cut(source, file, cut, members, points, None)).records)


def table(name: str, rows: list[dict[str, str]]) -> bytes:
    if name.endswith(".csv"):
        return world.table_csv([list(rows[0]), *(list(row.values()) for row in rows)])
    if name.endswith(".jsonl"):
        return b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    if name.endswith(".json"):
        return json.dumps(rows).encode()
    return world.parquet({key: [row[key] for row in rows] for key in rows[0]}, 1000)
