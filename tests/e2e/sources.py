"""Small sources of several layouts for whole runs, made the same from the same seed."""

import gzip
import io
import json
import random
import tarfile
from pathlib import Path

from tests.prepare.media import world


def write_sources(folder: Path, seed: int = 0, size: int = 1_500_000, block_bytes: int = 12_000) -> Path:
    """A catalog with four sources of several layouts, with drops, quarantine and duplicates in them; its path."""
    folder.mkdir(parents=True, exist_ok=True)
    dice = random.Random(seed)

    def sentence(tag: str, number: int) -> str:
        words = " ".join(dice.choice(WORDS) for _ in range(dice.randint(3, 30)))
        return f"{tag} {number % 997 if number % 9 == 0 else number}: {words}."

    with (folder / "talk.jsonl").open("wb") as stream:
        number = 0
        while stream.tell() < size:
            record = {"q": sentence("question", number), "a": sentence("answer", number), "n": number}
            stream.write(json.dumps(record).encode() + b"\n" if number % 101 else b'{"q": broken\n')
            number += 1
    with (folder / "lines.txt").open("wb") as stream:
        number = 0
        while stream.tell() < size:
            stream.write(sentence("line", number).encode() + (b"\r\n" if number % 7 else b"\n"))
            if number % 50 == 0:
                stream.write(b"bad \xff\xfe bytes here\n" + b"!?\n" + b"\n")
            number += 1
    with (
        gzip.GzipFile(folder / "speeches.tar.gz", "wb", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for number in range(size // 3000):
            text = "\n\n".join(sentence(f"speech{number}", part) for part in range(dice.randint(5, 40))).encode()
            member = tarfile.TarInfo(f"speeches/{number:05}.txt")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
    with (folder / "table.csv").open("w", newline="") as stream:
        stream.write("id,words\r\n")
        for number in range(size // 200):
            stream.write(f'{number},"{sentence("cell", number)}\n{sentence("more", number)}"\r\n')
    catalog = folder / "catalog.toml"
    catalog.write_text(_CATALOG.format(block_bytes=block_bytes))
    return catalog


def write_media(folder: Path, modality: str) -> tuple[Path, list[Path]]:
    """A catalog of a source for every way in which sounds or pictures lie about, and for each but the one called
    `open` what it cannot be read without."""
    make, suffix, text = (world.clip, "wav", "text") if modality == "audio" else (world.photo, "png", "caption")
    some = {f"{number}.{suffix}": make(number) for number in range(6)}
    table = world.table_csv([["file", "words"], *([name, f"about {name}"] for name in some)])
    for place in ("open", "one", "list", "beside", "closed/sub"):
        world.files(folder, {f"{place}/{name}": data for name, data in some.items()})
    world.files(folder, {**some, "list/list.csv": table, "table.csv": table, "beside.csv": table})
    for name in PACKED:
        world.pack(folder / name, some)
    by_name = f"pattern = '(?P<name>.+)'\n[source.fields]\n{text} = \"{{name}}\""
    by_list = f'manifest = "list.csv"\npath = "{{file}}"\n[source.fields]\n{text} = "{{words}}"'
    by_row = f'[source.fields]\n{modality} = "PATH"\n{text} = "{{words}}"'
    catalog = world.catalog(
        folder,
        *(world.entry(name.replace(".", "_"), modality, name, "files", by_name) for name in ("open", "one", *PACKED)),
        world.entry("closed", modality, "closed", "files", by_name),
        world.entry("list", modality, "list", "files", by_list),
        world.entry("table", modality, "table.csv", "table", by_row.replace("PATH", "{file}")),
        world.entry("beside", modality, "beside.csv", "table", by_row.replace("PATH", "beside/{file}")),
    )
    needed = [f"one/2.{suffix}", *PACKED, "closed/sub", "list/list.csv", "table.csv", f"beside/4.{suffix}"]
    return catalog, [folder / path for path in needed]


PACKED = ["packed.tar.gz", "packed.zip"]
WORDS = [
    *("river", "stone", "light", "carry", "under", "seven", "window", "morning", "Überfluss", "naïve", "東京", "begin"),
    *("often", "sail", "copper", "answer", "quiet", "winter", "garden", "letter", "engine", "number", "bridge", "iron"),
]

_CATALOG = """
[[source]]
name = "talk"
modality = "text"
category = "conversations"
url = "talk.jsonl"
reader = "table"
license = "MIT"
block_bytes = {block_bytes}
[source.fields]
text = "Q: {{q}} A: {{a}}"

[[source]]
name = "lines"
modality = "text"
category = "general"
url = "lines.txt"
reader = "lines"
license = "CC0-1.0"
block_bytes = {block_bytes}

[[source]]
name = "speeches"
modality = "text"
category = "general"
url = "speeches.tar.gz"
reader = "documents"
license = "CC0-1.0"
block_bytes = {block_bytes}

[[source]]
name = "cells"
modality = "text"
category = "scientific"
url = "table.csv"
reader = "table"
license = "Apache-2.0"
block_bytes = {block_bytes}
[source.fields]
text = "{{words}}"
"""
