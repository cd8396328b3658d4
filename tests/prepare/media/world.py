"""Small sounds and pictures in every layout that readers know, and catalogs of them."""

import csv
import io
import json
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
from PIL import Image

from omni_ray import cli

CONTAINERS = ["folder", "tar", "tar.gz", "zip"]
ENTRY = """
[[source]]
name = "{name}"
modality = "{modality}"
category = "general"
url = "{url}"
reader = "{reader}"
license = "MIT"
block_bytes = {block_bytes}
{more}
"""


def clip(number: int, rate: int = 8000, seconds: float = 0.4) -> bytes:
    """A WAV of a tone that no other number has."""
    time = np.arange(int(rate * seconds)) / rate
    sink = io.BytesIO()
    soundfile.write(sink, 0.3 * np.sin(2 * np.pi * (300 + 7 * number) * time), rate, "PCM_16", format="WAV")
    return sink.getvalue()


def photo(number: int, side: int = 48, format_: str = "PNG") -> bytes:
    """A picture that no other number has."""
    pixels = np.random.default_rng(number).integers(0, 255, (6, 6, 3), np.uint8)
    sink = io.BytesIO()
    Image.fromarray(pixels).resize((side, side)).save(sink, format_)
    return sink.getvalue()


def files(folder: Path, contents: Mapping[str, bytes]) -> None:
    for name, data in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def pack(path: Path, contents: Mapping[str, bytes]) -> None:
    """A tar, tar.gz or zip, as the name says."""
    pack_all(path, list(contents.items()))


def pack_all(path: Path, members: list[tuple[str, bytes]]) -> None:
    """The same where a name may come twice."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in members:
                archive.writestr(name, data)
        return
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def place(folder: Path, container: str, contents: Mapping[str, bytes]) -> str:
    """Put files into a folder or an archive; its url."""
    if container == "folder":
        files(folder / "data", contents)
        return "data"
    pack(folder / f"data.{container}", contents)
    return f"data.{container}"


def table_csv(rows: list[list[str]]) -> bytes:
    sink = io.StringIO(newline="")
    csv.writer(sink).writerows(rows)
    return sink.getvalue().encode()


def parquet(columns: Mapping[str, list[object]], row_group_size: int = 10) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(dict(columns)), sink, row_group_size=row_group_size)
    return sink.getvalue()


def entry(name: str, modality: str, url: str, reader: str, more: str = "", block_bytes: int = 1 << 24) -> str:
    return ENTRY.format(name=name, modality=modality, url=url, reader=reader, more=more, block_bytes=block_bytes)


def catalog(folder: Path, *entries: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "catalog.toml").write_text("".join(entries))
    return folder / "catalog.toml"


def prepare(modality: str, out: Path | str, catalog: Path, *arguments: str) -> int:
    return cli.main(["prepare", modality, "--out", str(out), "--catalog", str(catalog), *arguments])


def made(tmp_path: Path, modality: str, name: str, *entries: str) -> list[dict[str, object]]:
    """Prepare and verify; the rows of the index."""
    out = tmp_path / "out"
    assert prepare(modality, out, catalog(tmp_path, *entries)) == 0
    assert cli.main(["verify", "--out", str(out)]) == 0
    return index(out, name)


def index(out: Path, name: str) -> list[dict[str, object]]:
    """Rows of `production_<name>.index.parquet`."""
    (path,) = out.glob(f"*/production_{name}.index.parquet")
    rows: list[dict[str, object]] = pq.read_table(path).to_pylist()
    return rows


def quarantine(out: Path) -> list[tuple[str, int, str]]:
    """Member, row and reason of everything that is quarantined."""
    found = []
    for path in sorted(out.glob(".omni_ray/*/*/blocks/*.quarantine.jsonl")):
        found += [(one["member"], one["row"], one["reason"]) for one in map(json.loads, path.read_text().splitlines())]
    return found


def small(folder: Path, modality: str, count: int = 24, blocks: int = 4) -> Path:
    """Two sources of about `blocks` blocks each, with a repeated sample, a bad one, and one that a rule drops."""
    make, suffix, field = (clip, "wav", "text") if modality == "audio" else (photo, "png", "caption")
    data = {f"{n:03d}.{suffix}": make(n - (n == 7)) for n in range(count)}
    data[f"003.{suffix}"] = b"no such thing"
    data[f"005.{suffix}"] = make(5, seconds=0.1) if modality == "audio" else make(5, side=8)  # type: ignore[call-arg]
    pack(folder / "one.tar.gz", data)
    columns: dict[str, list[object]] = {
        modality: [{"bytes": make(100 + n), "path": None} for n in range(count)],
        "words": [f"sample number {n}" for n in range(count)],
    }
    files(folder, {"two.parquet": parquet(columns, count // blocks)})
    size = sum(map(len, data.values())) // blocks
    pattern = f"pattern = '(?P<n>\\d+)\\.{suffix}'"
    return catalog(
        folder,
        entry("one", modality, "one.tar.gz", "files", f'{pattern}\n[source.fields]\n{field} = "number {{n}}"', size),
        entry(
            "two",
            modality,
            "two.parquet",
            "table",
            f'[source.fields]\n{modality} = "{modality}"\n{field} = "{{words}}"',
            size,
        ),
    )
